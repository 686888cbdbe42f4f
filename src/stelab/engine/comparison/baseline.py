"""What groups are compared with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import pandas as pd

from stelab.engine.comparison.conditions import (
    Conditions,
    holds,
    parse_conditions,
    same,
    write_value,
)
from stelab.engine.comparison.groups import Group
from stelab.engine.config import compose
from stelab.engine.config.composition import composition_of
from stelab.engine.config.validate import plain
from stelab.engine.errors import InputError
from stelab.engine.studies.settings import plain_value


def find_baseline(text: str | None, groups: Sequence[Group], by: Sequence[str]) -> Conditions:
    """Return the settings of the baseline; empty if there is nothing to choose from.

    Without a `text` it is the default of the first key, where a group has it.

    Raises:
        InputError: No group has these settings, or they leave open which is meant.
    """
    settings = pd.DataFrame([group.settings for group in groups], columns=list(by))
    if text is None:
        default = _default(by[0]) if by and len(groups) > 1 else None
        if default is None or not any(same(value, default) for value in settings[by[0]]):
            return {}
        return {by[0]: (default,)}
    conditions = parse_conditions(text, settings, option="baseline")
    for key, values in conditions.items():
        if len(values) > 1:
            raise InputError(f"baseline: {key} must have one value, got {','.join(values)}")
    if not any(holds(conditions, group.settings) for group in groups):
        raise InputError(f"baseline: no group has all of '{text}'")
    return conditions


def _default(key: str) -> str | None:
    """Return what ``stelab train`` takes for a setting that is not given, as tables write it."""
    node, choices = _defaults()
    if key in choices:
        return choices[key]
    for part in key.split("."):
        if not isinstance(node, dict) or part not in node:
            return None
        node = node[part]
    return None if isinstance(node, dict) else write_value(plain_value(node))


@cache
def _defaults() -> tuple[Any, Mapping[str, str | None]]:
    cfg = compose()
    composition = composition_of(cfg)
    return plain(cfg), composition.choices if composition else {}


def partner(group: Group, groups: Sequence[Group], baseline: Conditions) -> Group | None:
    """Return the baseline that shares all settings which the conditions leave open.

    Those that the baseline does not have, such as the temperature of another estimator, do not
    count; of several baselines the one that shares the most is meant.
    """
    shared: dict[int, Group] = {}
    for other in groups if baseline else ():
        left = {k: v for k, v in other.settings.items() if k not in baseline and v is not None}
        if holds(baseline, other.settings) and all(group.settings[k] == left[k] for k in left):
            shared[len(left)] = other
    return shared[max(shared)] if shared else None
