"""Which runs and baseline are compared: ``"estimator=identity,none seed=0"``."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import pandas as pd

from stelab.engine.config import compose
from stelab.engine.config.composition import composition_of
from stelab.engine.config.validate import plain, suggestion
from stelab.engine.errors import InputError
from stelab.engine.studies.settings import plain_value

Conditions = dict[str, tuple[str, ...]]


def parse_conditions(text: str | None, table: pd.DataFrame, *, option: str) -> Conditions:
    """Read ``key=value[,value]``, separated by spaces; a bare value means the key that has it."""
    conditions: Conditions = {}
    for word in (text or "").split():
        key, equals, values = word.rpartition("=")
        if "=" in key:
            raise InputError(f"{option}: '{word}' must be KEY=VALUE; separate several with a space")
        key = key if equals else _key_of(values, table, option)
        if key not in table:
            columns = [str(name) for name in table.columns]
            hint = suggestion(key, columns) or f" of these runs (there are: {', '.join(columns)})"
            raise InputError(f"{option}: {key} is not a setting{hint}")
        if key in conditions:
            raise InputError(f"{option}: {key} is given twice; separate values with a comma")
        is_list = any(_meets(key, cell, values) for cell in table[key])  # so it is one value
        conditions[key] = (values,) if is_list else tuple(values.split(","))
        for value in conditions[key]:
            if not any(_meets(key, cell, value) for cell in table[key]):
                known = written(table[key])
                hint = suggestion(value, known) or f" (there are: {', '.join(known)})"
                raise InputError(f"{option}: no run has {key}={value}{hint}")
    return conditions


def _key_of(value: str, table: pd.DataFrame, option: str) -> str:
    """Return the only key that has a value."""
    keys = [str(key) for key in table if any(same(cell, value) for cell in table[key])]
    if len(keys) == 1:
        return keys[0]
    if keys:
        reason = f"it is not clear which of {', '.join(keys)} is meant"
    else:
        known = [text for key in table for text in written(table[key])]
        reason = f"no setting has it{suggestion(value, known)}"
    raise InputError(f"{option}: '{value}' must be KEY=VALUE: {reason}")


def find_baseline(text: str | None, settings: pd.DataFrame) -> Conditions:
    """Return the baseline's settings; without a `text`, the first key's default, if it is there."""
    if text is None:
        if len(settings) < 2:
            return {}
        first = str(settings.columns[0])
        default = _default(first)
        is_there = default is not None and any(same(value, default) for value in settings[first])
        return {first: (str(default),)} if is_there else {}
    conditions = parse_conditions(text, settings, option="baseline")
    for key, values in conditions.items():
        if len(values) > 1:
            raise InputError(f"baseline: {key} must have one value, got {','.join(values)}")
    if not any(holds(conditions, row) for _, row in settings.iterrows()):
        raise InputError(f"baseline: no group has all of '{text}'")
    return conditions


@cache
def _default(key: str) -> str | None:
    """Return what ``stelab train`` takes for a setting that is not given, as tables write it."""
    cfg = compose()
    composition, node = composition_of(cfg), plain(cfg)
    if composition and key in composition.choices:
        return composition.choices[key]
    for part in key.split("."):
        if not isinstance(node, dict) or part not in node:
            return None
        node = node[part]
    return None if isinstance(node, dict) else write_value(plain_value(node))


def select_where(runs: pd.DataFrame, where: str | None) -> pd.DataFrame:
    """Return the runs that meet the conditions of ``where=``."""
    conditions = parse_conditions(where, runs, option="where")
    return runs[[holds(conditions, row) for _, row in runs.iterrows()]]


def holds(conditions: Mapping[str, Sequence[str]], row: Mapping[str, Any]) -> bool:
    """Whether a run or a group meets all conditions."""
    return all(
        any(_meets(key, row[key], value) for value in values) for key, values in conditions.items()
    )


def _meets(key: str, cell: Any, value: str) -> bool:
    """Whether a cell is what a condition says, or has it among its tags."""
    return same(cell, value) or (
        key == "tags" and isinstance(cell, str) and value in cell.split(", ")
    )


def require_columns(
    runs: pd.DataFrame, *, keys: Sequence[str] = (), metrics: Sequence[str] = ()
) -> None:
    """Refuse metrics that no run has, and keys that are not settings.

    A metric has a slash in its name, in tables of others also none.
    """
    numbers = runs.select_dtypes("number")
    others = {name for name in metrics if name in numbers and name not in keys}
    measured = [
        str(name)
        for name in runs
        if "/" in str(name) or name == "timings.seconds" or name in others
    ]
    settings = [str(name) for name in runs if name not in measured]
    for name in metrics:
        if name not in measured or runs[name].isna().all():
            known = measured if any("/" in key for key in measured) else [*map(str, numbers)]
            hint = suggestion(name, known) or f" (there are: {', '.join(known)})"
            raise InputError(f"metric: no run has {name}{hint}")
    for key in keys:
        if key not in settings:
            raise InputError(
                f"{key} is not a setting in which these runs differ{suggestion(key, settings)}"
            )


def same(value: Any, text: str) -> bool:
    """Whether a value of a table is what was written: ``0`` is 0.0, and no text is missing."""
    if pd.isna(value):
        return False
    if isinstance(value, str):
        return value == text
    try:
        return float(text) == value
    except ValueError:
        return str(value).lower() == text.lower()  # a truth value


def write_value(value: Any) -> str:
    """Write a value as it would be given on the command line, with all its digits."""
    return repr(float(value)).removesuffix(".0") if isinstance(value, float) else str(value)


def written(values: pd.Series) -> list[str]:
    """Return the distinct values of a column, written, numbers in their order."""
    return [write_value(value) for value in sorted(values.dropna().unique(), key=order)]


def order(value: Any) -> tuple[int, Any]:
    """Return what values are sorted by: what is missing first, then numbers, then texts."""
    if pd.isna(value):
        return 0, 0
    return (2, value) if isinstance(value, str) else (1, value)
