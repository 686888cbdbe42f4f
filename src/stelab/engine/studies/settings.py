"""What was swept in a set of runs: the keys of their configurations that tell them apart."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from typing import Any, cast

import yaml

from stelab.engine.config import CONF_DIR
from stelab.engine.path_names import is_path_name
from stelab.engine.project import project
from stelab.engine.studies.flaws import is_integer

Value = str | int | float
Flat = dict[str, Value]

_TARGET = "._target_"
_LONGEST = 200
_WORD = re.compile(r"[\w-]+").fullmatch


def swept(configs: Sequence[dict[str, Any]]) -> list[Flat]:
    """Return for each run the settings in which the runs differ, groups' before others.

    A group (``estimator``, ``optimizer``) is one setting, its option; what stands below it is
    one only where runs of the same option differ in it. What follows another setting by an
    interpolation (``data.seed`` the ``seed``), or cannot change a result, is none. A run without
    a key has none in its dictionary.

    Args:
        configs: Resolved configurations, plain containers.
    """
    flats = [{key: plain_value(value) for key, value in leaves(config)} for config in configs]
    names = [config.get("names", {}) for config in configs]
    originals = [_without_copies(flat) for flat in flats]
    keys = [
        key
        for key in _ordered(flats)
        # Both: a data.seed that is 0 in all runs is a copy in those whose seed is 0.
        if _differs(key, flats, names) and _differs(key, originals, names)
    ]
    keys = [key for key in keys if not _follows(key, keys, flats)]
    return [_named(keys, flat, own, flats) for flat, own in zip(originals, names, strict=True)]


def leaves(node: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the dotted keys and values of a configuration, but for what cannot change a result.

    A table is one value where its keys could not stand in a dotted one, such as ``train/loss``.
    """
    for name, value in node.items():
        key = f"{prefix}{name}"
        if key in ("paths", "names", *project().without_effect):
            continue
        if isinstance(value, dict) and value and all(_WORD(str(k)) for k in value):
            yield from leaves(value, f"{key}.")
        else:
            yield key, value


def plain_value(value: Any) -> Value:
    """Return a value as it stands in a table: numbers as they are, the rest as overrides say it.

    Of what is too long for a table, its beginning and a hash of it.
    """
    if isinstance(value, float) or is_integer(value):
        return cast(Value, value)
    is_text = isinstance(value, str)
    text = value if is_text else json.dumps(value, separators=(",", ":"), default=str)
    if len(text) <= _LONGEST:
        return text
    return f"{text[:_LONGEST]}… ({hashlib.sha256(text.encode()).hexdigest()[:8]})"


def _without_copies(flat: Flat) -> Flat:
    """Drop what repeats the setting that its key ends in."""

    def copies(key: str) -> bool:
        parts = key.split(".")
        ends = (".".join(parts[i:]) for i in range(1, len(parts)))
        return any(end in flat and flat[end] == flat[key] for end in ends)

    return {key: value for key, value in flat.items() if not copies(key)}


def _follows(key: str, keys: Sequence[str], flats: Sequence[Flat]) -> bool:
    """Tell whether `key` refers to another one, and is the same in all runs that have it."""
    having = [flat for flat in flats if key in flat]
    same = [
        other
        for other in keys
        if other != key and all(flat.get(other) == flat[key] for flat in having)
    ]
    return bool(same) and _is_interpolated(key) and not all(map(_is_interpolated, same))


@cache
def _is_interpolated(key: str) -> bool:
    """Tell whether an installed option of the key's group refers to something else there."""
    group, *path = key.split(".")
    if not is_path_name(group):  # of a configuration that was read
        return False
    for file in (CONF_DIR / group).glob("*.yaml"):
        node = yaml.safe_load(file.read_text(encoding="utf-8"))
        for name in path:
            node = node.get(name) if isinstance(node, dict) else None
        if isinstance(node, str) and "${" in node:
            return True
    return False


def _ordered(flats: Iterable[Flat]) -> list[str]:
    """Return all keys, those of groups before single ones such as ``seed``."""
    keys = dict.fromkeys(key for flat in flats for key in flat)
    return sorted(keys, key=lambda key: "." not in key)


def _differs(key: str, flats: Sequence[Flat], names: Sequence[dict[str, str]]) -> bool:
    """Tell whether runs differ in `key` that share the options of the groups it stands in."""
    values: dict[Any, set[Value | None]] = {}
    for flat, own in zip(flats, names, strict=True):
        options = tuple(_option(group, flat, own) for group in _groups(key))
        values.setdefault(options, set()).add(_value(key, flat, own))
    return any(len(found) > 1 for found in values.values())


def _groups(key: str) -> list[str]:
    """Return the nodes that `key` stands in, outermost first; a target's own node not."""
    parts = key.removesuffix(_TARGET).split(".")
    return [".".join(parts[:i]) for i in range(1, len(parts))]


def _option(group: str, flat: Flat, names: dict[str, str]) -> Value | None:
    return names.get(group, flat.get(group + _TARGET))


def _value(key: str, flat: Flat, names: dict[str, str]) -> Value | None:
    if key.endswith(_TARGET):
        return _option(key.removesuffix(_TARGET), flat, names)
    return flat.get(key)


def _named(keys: Sequence[str], flat: Flat, names: dict[str, str], flats: Sequence[Flat]) -> Flat:
    """Call a target's setting by its group, and a class that no option names by its last name."""
    found: Flat = {}
    for key in keys:
        if (value := _value(key, flat, names)) is None:
            continue
        group = key.removesuffix(_TARGET)
        bare = key != group and group not in names
        found[group] = _last_name(str(value), key, flats) if bare else value
    return found


def _last_name(target: str, key: str, flats: Sequence[Flat]) -> str:
    """Return ``"Adam"`` of ``"torch.optim.Adam"``; all of it where two classes are called so."""
    name = target.rpartition(".")[2]
    targets = {str(flat[key]) for flat in flats if key in flat}
    return name if sum(other.rpartition(".")[2] == name for other in targets) == 1 else target
