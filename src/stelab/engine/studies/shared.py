"""What of a run and of a sweep is shared with others: results and settings, not where they lay.

Folders and hosts tell of a person and a machine. Of keys that count to no run's id, such as paths
and loggers, of what was typed for them, and of files that count by their content, only the last
name of a path is kept, and of an address nothing. Keys that count to the id stay as they are: a run
has the same fingerprint before and after.
"""

import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import PurePath
from typing import Any

from stelab.engine.config.identity import is_pinned
from stelab.engine.errors import InputError
from stelab.engine.project import project
from stelab.engine.studies.record import Run, reason
from stelab.engine.studies.run_format import is_as_recorded, part_of
from stelab.engine.studies.settings import is_within

_NAMES = ("study", "names", "tags")  # without effect, but no places
_FOLDERS = re.compile(r"(?<![\w.])~?/(?:[^\s/'\"]+/)+|\S+://\S+")  # in a sentence


def shared_run(run: Run) -> Run:
    """Return a run without the places where it lay; InputError where its id would not outlive it.

    Other keys may be within `paths`, such as ``data.folder: ${paths.datasets}/images``: these
    begin with the stand-ins of what they were within.
    """
    places, was = run.config.get("paths", {}), is_as_recorded(run)
    name = f"./outputs/{run.config['study']}/{run.name}"
    stand_ins = {key: name if key == "run" else f"./{key}" for key in places}
    within = {place: stand_ins[key] for key, place in places.items() if isinstance(place, str)}
    for moved in (within, {}):
        config = {**_shared(run.config, moved), **({"paths": stand_ins} if places else {})}
        shared = replace(run, config=config, record=_shared_record(run.record))
        if is_as_recorded(shared) == was:
            return shared
    raise InputError("its id depends on where it lies")


def _shared(node: Any, places: Mapping[str, str], key: str = "") -> Any:
    """Return a configuration with stand-ins for places, and without those that do not count."""
    if isinstance(node, dict):
        prefix = f"{key}." if key else ""
        return {name: _shared(value, places, f"{prefix}{name}") for name, value in node.items()}
    if isinstance(node, list):
        return [_shared(value, places, key) for value in node]
    if not isinstance(node, str):
        return node
    if _is_place(key) or (key in project().file_keys and is_pinned(node)):
        return _last(node)
    for place in sorted(places, key=len, reverse=True):
        if node == place or node.startswith(f"{place}/"):
            return places[place] + node[len(place) :]
    return node


def places_in(config: dict[str, Any], key: str = "") -> Iterator[str]:
    """Yield the keys of a shared configuration that name a folder of the machine, with it."""
    for name, value in config.items():
        if isinstance(value, dict):
            yield from places_in(value, f"{key}{name}.")
        elif isinstance(value, str) and value[:1] in ("/", "~"):
            yield f"{key}{name}={value}"


def _shared_record(record: dict[str, Any]) -> dict[str, Any]:
    """Return a run.json without folders, hosts, processes and tracebacks."""
    shared = dict(record)
    if composition := part_of(record, "composition"):
        lines = [_shared_word(line) for line in composition.get("overrides") or []]
        groups = composition.get("config_dir")
        shared["composition"] = {**composition, "overrides": lines}
        shared["composition"]["config_dir"] = groups and _last(groups)
    if machine := part_of(record, "machine"):
        shared["machine"] = {key: value for key, value in machine.items() if key != "host"}
    if attempts := part_of(record, "timings").get("attempts"):
        kept = [{k: v for k, v in one.items() if k not in ("host", "pid")} for one in attempts]
        shared["timings"] = {**record["timings"], "attempts": kept}
    if record.get("error"):
        shared["error"] = _FOLDERS.sub("", reason(record))
    return shared


def shared_sweep(content: dict[str, Any]) -> dict[str, Any]:
    """Return the list of a sweep's jobs without folders in what was typed."""
    try:
        command = shlex.join(map(_shared_word, shlex.split(str(content.get("command") or ""))))
    except ValueError:  # quotes that nobody closed: not of stelab
        command = ""
    jobs = {name: [*map(_shared_word, lines)] for name, lines in content["jobs"].items()}
    return {"command": command, "jobs": jobs}


def _shared_word(word: str) -> str:
    """Return a word of a command line without the folders in it, unless its key counts."""
    key, equals, value = word.partition("=")
    if not equals:
        return _last(word)
    bare = key.lstrip("+~")
    is_place = _is_place(bare) or bare.startswith("-") or bare in project().file_keys
    return f"{key}={_last(value)}" if is_place else word


def _is_place(key: str) -> bool:
    """Return whether a key may say where something lies, and counts to no run's id."""
    places = ("paths", "hydra", "sweep", *project().without_effect)
    return is_within(key, places) and not is_within(key, _NAMES)


def _last(text: str) -> str:
    """Return the last name of a path; of other texts all, of addresses nothing."""
    return "" if "://" in text else PurePath(text).name if "/" in text else text
