"""Why a run that can be read cannot be compared."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

from stelab.config.identity import fingerprint_of_resolved
from stelab.studies.record import TIME, Run

NOT_OURS = "config.yaml is not one of stelab's"

# What a configuration ends with: where one of them is missing, and nothing vouches for the rest, it
# was cut off.
_GROUPS = ("model", "loss", "data", "optimizer", "scheduler", "trainer", "logger", "callbacks")


def flaw_of_config(config: Any) -> str:
    """Say why a configuration is none of a run; nothing where it is one."""
    if not _is_ours(config):
        return NOT_OURS
    if not isinstance(config.get("study"), str):
        return f"config.yaml: study must be a text, got {config.get('study')}"
    if not _is_integer(config.get("seed")):
        return f"config.yaml: seed must be an integer, got {config.get('seed')}"
    return ""


def _is_ours(config: Any) -> bool:
    if not isinstance(config, dict):
        return False
    tables = [
        *map(config.get, ("names", "trainer")),
        config.get("data", {}),
        config.get("paths", {}),
    ]
    if not all(isinstance(table, dict) for table in tables):
        return False
    names = config["names"]
    return "estimator" in names and all(isinstance(option, str) for option in names.values())


def flaw_of_record(run: Run) -> str:
    """Say why run.json is not that of its configuration, or was not written by stelab."""
    try:
        fingerprint_of_resolved(run.config)
    except (TypeError, RecursionError):
        return "config.yaml holds a value that no configuration has, such as a date"
    missing = [key for key in _GROUPS if key not in run.config]
    if missing and not is_as_recorded(run):
        return f"config.yaml is cut off: it has no {', '.join(missing)}"
    timings = part_of(run.record, "timings")
    checks = {"started": _is_time, "ended": _is_time, "seconds": is_finite}
    wrong = [
        f"timings.{name} is {timings[name]}"
        for name, check in checks.items()
        if timings.get(name) is not None and not check(timings[name])
    ]
    epochs, most = run.record.get("epochs", 1), run.config["trainer"].get("max_epochs")
    if not _is_count(epochs):
        wrong.append(f"epochs is {epochs}")
    elif _is_count(most) and epochs > most:
        wrong.append(f"epochs is {epochs}, but trainer.max_epochs {most}")
    return f"run.json: {', '.join(wrong)}" if wrong else ""


def is_as_recorded(run: Run) -> bool:
    """Tell whether config.yaml is what run.json was made with, as far as it has a fingerprint."""
    recorded, config = run.record.get("fingerprint"), run.config
    if not isinstance(recorded, str) or fingerprint_of_resolved(config) == recorded:
        return True
    paths = [path for path in config.get("paths", {}).values() if isinstance(path, str)]
    longest_first = sorted(paths, key=len, reverse=True)
    return fingerprint_of_resolved(_masked(config, longest_first)) == recorded


def _masked(node: Any, paths: Sequence[str]) -> Any:
    """Take paths out of all texts: what interpolates them has none in a run's fingerprint."""
    if isinstance(node, dict):
        return {key: _masked(value, paths) for key, value in node.items()}
    if isinstance(node, list):
        return [_masked(value, paths) for value in node]
    for path in paths if isinstance(node, str) else []:
        node = node.replace(path, "")
    return node


def _is_time(value: Any) -> bool:
    try:
        return isinstance(value, str) and bool(time.strptime(value, TIME))
    except ValueError:
        return False


def _is_integer(value: Any) -> bool:
    """Tell whether it is an integer that a column can hold."""
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63


def _is_count(value: Any) -> bool:
    return _is_integer(value) and value > 0


def is_finite(value: Any) -> bool:
    """Tell whether a metric is a number that can be compared."""
    return _is_integer(value) or (isinstance(value, float) and math.isfinite(value))


def part_of(record: dict[str, Any], name: str) -> dict[str, Any]:
    """Return a table of run.json; empty where an old or damaged one has none."""
    part = record.get(name)
    return part if isinstance(part, dict) else {}
