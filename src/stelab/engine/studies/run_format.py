"""Why what a run's folder holds is not what stelab writes there: what others rely on."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from stelab.engine.config.identity import fingerprint_of_resolved
from stelab.engine.project import project
from stelab.engine.terminal import brief

if TYPE_CHECKING:
    from stelab.engine.studies.record import Run

TIME = "%Y-%m-%dT%H:%M:%SZ"  # as run.json writes it, UTC
FORMAT = 1  # of run.json; those of before its first version have none, and no `composition`
STATUSES = ("running", "finished", "failed", "interrupted", "pruned")
_MAX_NAME = 255  # characters, as a file's
_MAX_METRICS = 1_000
_MAX_ENTRIES = 200  # of run.json on a machine, or on versions; there are about ten


def problem_with_config(config: Any) -> str:
    """Return why a configuration is not a run's; empty where it is."""
    nodes: dict[str, Any] = config if isinstance(config, dict) else {}
    groups, trainer = nodes.get("names"), nodes.get("trainer")
    has_groups = isinstance(groups, dict) and project().named_groups[0] in groups
    if not (has_groups and isinstance(trainer, dict)):
        return "config.yaml is not one of stelab's"
    keys = project().schemas["train"].__annotations__
    if strange := [key for key in config if key not in keys]:
        return f"config.yaml: {brief(strange[0])} is not a key of a run"
    tables = ("names", "paths", *dict.fromkeys((*project().named_groups, *project().groups)))
    if wrong := [key for key in tables if not isinstance(config.get(key, {}), dict)]:
        return f"config.yaml: {wrong[0]} must be a table, got {brief(config[wrong[0]])}"
    named = project().named_groups  # a run need not have a choice of others
    names = {k: v for k, v in config["names"].items() if v is not None or k in named}
    names["study"] = config.get("study")
    if wrong := [key for key, value in names.items() if not is_name(value)]:
        return f"config.yaml: {brief(wrong[0])} must be a name, got {brief(names[wrong[0]])}"
    numbers = {"seed": config.get("seed"), "trainer.max_epochs": trainer.get("max_epochs") or 1}
    if wrong := [key for key, value in numbers.items() if not is_integer(value)]:
        return f"config.yaml: {wrong[0]} must be an integer, got {brief(numbers[wrong[0]])}"
    return ""


def problem_with_record(record: Any) -> str:
    """Return why run.json was not written by stelab; empty where it was."""
    if not isinstance(record, dict):
        return "run.json must be a table"
    if not is_integer(version := record.get("format", FORMAT)) or version > FORMAT:
        return f"run.json is of format {brief(version)}, which this stelab does not know"
    status, metrics = record.get("status"), record.get("metrics")
    if status not in STATUSES:
        return f"run.json: its status is {brief(status)!r}, which is none of stelab's"
    if not isinstance(metrics, dict):
        return f"run.json: metrics must be a table, got {brief(metrics)}"
    sizes = {"metrics": _MAX_METRICS, **dict.fromkeys(("machine", "git", "versions"), _MAX_ENTRIES)}
    for name, limit in sizes.items():
        if len(part := part_of(record, name)) > limit:
            return f"run.json: {name} has {len(part)} entries, more than {limit}"
        if strange := [key for key in part if not is_name(key)]:
            return f"run.json: {name} has an entry {brief(strange[0])!r}"
    wrong = [
        f"{part}.{key} is {brief(value)}"
        for (part, key), check in _CHECKS.items()
        if (value := part_of(record, part).get(key)) is not None and not check(value)
    ]
    if (effect := record.get("effect")) is not None and not is_name(effect):
        wrong.append(f"effect is {brief(effect)}")
    if not are_texts(record.get("tags", [])):
        wrong.append(f"tags is {brief(record['tags'])}")
    if not (is_integer(epochs := record.get("epochs", 1)) and epochs > 0):
        wrong.append(f"epochs is {brief(epochs)}")
    return f"run.json: {', '.join(wrong)}" if wrong else ""


def problem_with_run(run: Run) -> str:
    """Return why a configuration and its run.json are not of one run; empty where they are."""
    try:
        fingerprint_of_resolved(run.config)
    except TypeError:
        return "config.yaml has a table with keys of several types"
    # It ends with them: where one is missing, and nothing vouches for the rest, it was cut off.
    missing = [key for key in project().groups if key not in run.config]
    if missing and not is_as_recorded(run):
        return f"config.yaml is cut off: it has no {', '.join(missing)}"
    epochs, limit = run.record.get("epochs", 1), run.config["trainer"].get("max_epochs")
    if limit not in (None, -1) and epochs > limit:  # -1: steps alone end training
        return f"run.json: epochs is {epochs}, but trainer.max_epochs {limit}"
    return ""


def is_as_recorded(run: Run) -> bool:
    """Return whether config.yaml has the fingerprint of run.json, if that has one."""
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


def is_name(value: Any) -> bool:
    """Return whether it is a text that can stand in a table as a name."""
    return isinstance(value, str) and 0 < len(value) <= _MAX_NAME and value.isprintable()


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def are_texts(value: Any) -> bool:
    """Return whether it is a list of texts."""
    return isinstance(value, list) and all(isinstance(entry, str) for entry in value)


def _are_choices(value: Any) -> bool:
    return isinstance(value, dict) and all(o is None or is_name(o) for o in value.values())


def _is_time(value: Any) -> bool:
    try:
        return isinstance(value, str) and bool(time.strptime(value, TIME))
    except ValueError:
        return False


def _are_attempts(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(attempt, dict)
        and _is_time(attempt.get("started"))
        and is_finite(attempt.get("seconds", 0))
        for attempt in value
    )


def is_integer(value: Any) -> bool:
    """Return whether it is an integer that a column can hold."""
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63


def _is_thread_count(value: Any) -> bool:
    return is_integer(value) and 1 <= value <= 1024


def is_finite(value: Any) -> bool:
    """Return whether a metric is a number that can be compared, its square too."""
    return is_integer(value) or (isinstance(value, float) and abs(value) < 1e150)


_CHECKS: dict[tuple[str, str], Callable[[Any], bool]] = {
    ("timings", "started"): _is_time,
    ("timings", "ended"): _is_time,
    ("timings", "seconds"): is_finite,
    ("timings", "attempts"): _are_attempts,
    ("machine", "processor"): _is_text,
    ("machine", "threads"): _is_thread_count,
    ("machine", "gpus"): are_texts,
    ("composition", "overrides"): are_texts,
    ("composition", "choices"): _are_choices,
    ("composition", "swept"): are_texts,
    ("composition", "config_dir"): _is_text,
    ("git", "commit"): _is_text,
    ("versions", "stelab"): _is_text,
}


def part_of(record: dict[str, Any], name: str) -> dict[str, Any]:
    """Return a table of run.json; empty where an old or damaged one has none."""
    part = record.get(name)
    return part if isinstance(part, dict) else {}
