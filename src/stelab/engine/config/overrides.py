"""Overrides that turn one configuration into another."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString
from hydra.errors import HydraException

from stelab.engine.project import project

Tree = dict[str, Any]

_REFERENCE = re.compile(r"\$\{(?:oc\.select:)?([\w.]+)(?:,\w*)?\}")


def _skipped() -> tuple[str, ...]:
    return ("paths", *project().without_effect)


def changes(composed: Tree, wanted: Tree, raw: Tree, prefix: str = "") -> Iterator[str]:
    """Yield overrides that turn `composed` into `wanted`, as far as it can change a result.

    Args:
        composed: A configuration, resolved.
        wanted: Another one, resolved.
        raw: `composed`, not resolved. What is interpolated there is left out, because it follows
            what it refers to. Empty: everything is overridden.
        prefix: Where the three stand, such as ``"optimizer."``.
    """
    for name in [*composed, *(name for name in wanted if name not in composed)]:
        key, source = f"{prefix}{name}", raw.get(name, {})
        ours, theirs = composed.get(name), wanted.get(name)
        if key in _skipped() or (isinstance(source, str) and "${" in source):
            continue
        if name not in wanted:
            yield f"~{key}"
        elif name not in composed:
            yield write_override(f"+{key}", theirs)
        elif isinstance(ours, dict) and isinstance(theirs, dict):
            yield from changes(ours, theirs, source, f"{key}.")
        elif ours != theirs or isinstance(ours, bool) != isinstance(theirs, bool):
            yield write_override(key, theirs)


def agrees(raw: Tree, wanted: Tree, whole: Tree, prefix: str = "") -> bool:
    """Tell whether what is interpolated in `raw` is in `wanted` what it refers to.

    Then the overrides of `changes` make all of `wanted`. Of an interpolation that is more than a
    reference, nothing is told.

    Args:
        raw: A configuration, not resolved.
        wanted: Another one, resolved.
        whole: All of `wanted`.
        prefix: Where the two stand, such as ``"optimizer."``.
    """
    for name, source in raw.items():
        key, value = f"{prefix}{name}", wanted.get(name)
        if key in _skipped():
            continue
        if isinstance(source, dict) and isinstance(value, dict):
            if not agrees(source, value, whole, f"{key}."):
                return False
        elif isinstance(source, str) and "${" in source:
            found = _REFERENCE.fullmatch(source.replace("${stelab.bits:}", "${model.bits}"))
            if (
                found is None
                or name not in wanted
                or _dumped(_at(whole, found[1])) != _dumped(value)
            ):
                return False
    return True


def without_effect_from(composed: Tree, wanted: Tree, prefix: str = "") -> Tree:
    """Return `wanted` with what cannot change a result as it is in `composed`."""
    found = {key: value for key, value in wanted.items() if f"{prefix}{key}" not in _skipped()}
    for name, value in composed.items():
        key = f"{prefix}{name}"
        if key in _skipped():
            found[name] = value
        elif isinstance(value, dict) and isinstance(found.get(name), dict):
            found[name] = without_effect_from(value, found[name], f"{key}.")
    return found


def _at(tree: Any, key: str) -> Any:
    for part in key.split("."):
        tree = tree.get(part) if isinstance(tree, dict) else None
    return tree


def _dumped(value: Any) -> str:
    return json.dumps(value, sort_keys=True)


def write_override(key: str, value: Any) -> str:
    """Write ``key=value`` so that Hydra reads this very value."""
    return f"{key}={_written(value)}"


def _written(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ",".join(f"{key}:{_written(entry)}" for key, entry in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_written, value)) + "]"
    if isinstance(value, str):
        return value if _is_read_as_text(value) else QuotedString(value, Quote.double).with_quotes()
    return json.dumps(value, default=str)


@lru_cache(maxsize=1024)  # the parser is slow, and texts are names of classes and options
def _is_read_as_text(value: str) -> bool:
    try:
        return bool(OverridesParser.create().parse_override(f"key={value}").value() == value)
    except HydraException:
        return False
