"""Which runs are meant: ``"estimator=identity,none threshold.value=0"``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from stelab.engine.config.validate import suggestion
from stelab.engine.errors import InputError

Conditions = dict[str, tuple[str, ...]]


def parse_conditions(text: str | None, table: pd.DataFrame, *, option: str) -> Conditions:
    """Read ``key=value[,value]`` separated by spaces; a bare value stands for the key that has it.

    Keys are columns of the `table`; `option` is the one that gives the conditions, for messages.

    Raises:
        InputError: A key is no column, or nothing has the value.
    """
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
        is_list = any(same(cell, values) for cell in table[key])  # so it is one value
        conditions[key] = (values,) if is_list else tuple(values.split(","))
        for value in conditions[key]:
            if not any(same(cell, value) for cell in table[key]):
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


def select(runs: pd.DataFrame, conditions: Conditions) -> pd.DataFrame:
    """Return the runs that meet all conditions."""
    return runs[[holds(conditions, row) for _, row in runs.iterrows()]]


def holds(conditions: Mapping[str, Sequence[str]], row: Mapping[str, Any]) -> bool:
    """Whether a run or a group meets all conditions."""
    return all(any(same(row[k], value) for value in values) for k, values in conditions.items())


def is_measured(name: str) -> bool:
    """Whether a column in a table of runs is a metric, not a setting."""
    return "/" in name or name == "timings.seconds"


def require_keys(runs: pd.DataFrame, keys: Sequence[str]) -> None:
    """Raise InputError if a key is not a column of settings."""
    settings = [str(name) for name in runs.columns if not is_measured(str(name))]
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
    if value is None or pd.isna(value):
        return 0, 0
    return (2, value) if isinstance(value, str) else (1, value)
