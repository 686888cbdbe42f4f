"""What was swept in a set of runs: the keys that tell them apart.

Most keys of config.yaml in which runs differ were not swept: an option of a group brings its own,
``data.seed`` follows ``seed``, a schedule follows the epochs. So a setting is what somebody
set: a key among the overrides that run.json records. That record may be missing, as in runs of
before there was one; and a group's file may have changed between two runs, which then have the same
overrides and are not the same. In both cases all keys of config.yaml are compared instead, and only
copies of other keys are dropped. Either way a key counts where it differs between runs that chose
the same option of its group: across options it is what the option means.
"""

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any, cast

from stelab.engine.config.composition import Composition
from stelab.engine.config.identity import without_later
from stelab.engine.project import project
from stelab.engine.studies.record import Run
from stelab.engine.studies.run_format import is_integer

Value = str | int | float
Flat = dict[str, Value]

_TARGET = "._target_"
_LONGEST = 200
_WORD = re.compile(r"[\w-]+").fullmatch


def swept(runs: Sequence[Run]) -> list[Flat]:
    """Return in what each run differs from others: options of groups, then values of other keys."""
    compositions = [composition for run in runs if (composition := run.composition)]
    if len(compositions) == len(runs):
        flats = _composed(runs, compositions)
        # Runs of the same settings must be runs of the same configuration.
        kinds = [frozenset(flat.items()) for flat in flats]
        identities = [composition.fingerprint for composition in compositions]
        if len({*kinds}) == len({*zip(kinds, identities, strict=True)}):
            return flats
    return _configured(runs)


def _composed(runs: Sequence[Run], compositions: Sequence[Composition]) -> list[Flat]:
    """Return the keys that runs were composed with, in which they differ."""
    overridden = [
        [line.lstrip("+~").partition("=")[0] for line in composition.overrides]
        for composition in compositions
    ]
    keys = dict.fromkeys(key for own in overridden for key in own)
    flats: list[Flat] = []
    for run, composition, own in zip(runs, compositions, overridden, strict=True):
        values = {key: _value(key, run.config, composition) for key in keys}
        flat = {key: value for key, value in values.items() if value is not None}
        # What is set in other runs follows another key in this one.
        follows = {key for key in flat if key not in own and _is_copy(key, [flat])}
        flats.append({key: value for key, value in flat.items() if key not in follows})
    groups = {group for composition in compositions for group in composition.choices}
    return _differing(flats, runs, groups)


def _value(key: str, config: dict[str, Any], composition: Composition) -> Value | None:
    if key in composition.choices:
        return composition.choices[key]
    node: Any = config
    for part in key.split("."):
        if not isinstance(node, dict) or part not in node:
            implied = project().later_keys.get(key)  # of a run of before there was the key
            return None if implied is None else plain_value(implied)
        node = node[part]
    return plain_value(node)


def _configured(runs: Sequence[Run]) -> list[Flat]:
    """Return the keys of config.yaml in which runs differ, but for copies of another key."""
    configs = [without_later(run.config) for run in runs]
    originals = [{k: plain_value(v) for k, v in _leaves(config)} for config in configs]
    keys = dict.fromkeys(key for flat in originals for key in flat)
    copies = {key for key in keys if _is_copy(key, originals)}
    flats = [
        {
            key.removesuffix(_TARGET): run.config["names"].get(key.removesuffix(_TARGET), value)
            for key, value in flat.items()
            if key not in copies
        }
        for run, flat in zip(runs, originals, strict=True)
    ]
    groups = {key.removesuffix(_TARGET) for flat in originals for key in flat if _TARGET in key}
    return _differing(flats, runs, groups)


def _is_copy(key: str, flats: Sequence[Flat]) -> bool:
    """Return whether a key, such as ``data.seed``, is in all runs what another is: ``seed``."""
    ends = [key[match.end() :] for match in re.finditer(r"\.", key)]
    having = [flat for flat in flats if key in flat]
    return any(all(flat.get(end) == flat[key] for flat in having) for end in ends)


def _differing(flats: Sequence[Flat], runs: Sequence[Run], groups: set[str]) -> list[Flat]:
    """Keep the keys in which runs differ, in the order of the configuration, groups' first."""
    nodes = list(dict.fromkeys(key for run in runs for key in run.config))
    without_effect = ("paths", "names", "sweep", *project().without_effect)

    def place(key: str) -> tuple[bool, int, bool]:
        root = key.partition(".")[0]
        single = "." not in key and key not in groups
        return single, nodes.index(root) if root in nodes else -1, "." in key

    def differs(key: str) -> bool:
        """Return whether runs that share the option of the key's group differ in the key."""
        group, dot, _ = key.partition(".")
        values: dict[Any, set[Value | None]] = {}
        for flat, run in zip(flats, runs, strict=True):
            node = run.config.get(group)
            target = plain_value(node.get("_target_")) if isinstance(node, dict) else None
            option = run.config["names"].get(group, target) if dot else None
            values.setdefault(option, set()).add(flat.get(key))
        return any(len(different) > 1 for different in values.values())

    keys = dict.fromkeys(k for flat in flats for k in flat if not is_within(k, without_effect))
    kept = [key for key in sorted(keys, key=place) if differs(key)]
    return [{key: flat[key] for key in kept if key in flat} for flat in flats]


def is_within(key: str, nodes: Sequence[str]) -> bool:
    """Return whether a dotted key is one of some nodes, or stands in one."""
    return any(key == node or key.startswith(f"{node}.") for node in nodes)


def _leaves(node: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield dotted keys and values; a table with keys such as ``train/loss`` is one value."""
    for name, value in node.items():
        key = f"{prefix}{name}"
        if isinstance(value, dict) and value and all(_WORD(str(k)) for k in value):
            yield from _leaves(value, f"{key}.")
        else:
            yield key, value


def plain_value(value: Any) -> Value:
    """Return a number as it is, else a text as overrides say it: a long one cut, with its hash."""
    if isinstance(value, float) or is_integer(value):
        return cast(Value, value)
    is_text = isinstance(value, str)
    text = value if is_text else json.dumps(value, separators=(",", ":"), default=str)
    if len(text) <= _LONGEST:
        return text
    return f"{text[:_LONGEST]}… ({hashlib.sha256(text.encode()).hexdigest()[:8]})"
