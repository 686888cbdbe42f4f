"""The command that trains a run again, as it was recorded."""

import shlex

import pandas as pd
from hydra.core.config_loader import ConfigLoader
from hydra.types import RunMode

from stelab.engine.config.compose import compose_job, compose_whole, parse, search
from stelab.engine.config.composition import Composition
from stelab.engine.config.identity import fingerprint
from stelab.engine.errors import InputError
from stelab.engine.project import project
from stelab.engine.studies.record import read_run
from stelab.engine.studies.settings import is_within
from stelab.engine.terminal import brief, visible

_MAX_OVERRIDES, _MAX_LENGTH = 200, 1000  # of a command, and in characters of an override


def with_commands(runs: pd.DataFrame) -> pd.DataFrame:
    """Add `command`: how to train each run again, or a sentence that says why there is no command.

    run.json may be anybody's. So a command only chooses among installed options and sets plain
    values: no override of it names a class, interpolates, sweeps or sets a key of Hydra.
    """
    modes: dict[tuple[str, ...], list[str]] = {}
    with search(None) as loader:
        commands = [_command(folder, loader, modes) for folder in runs["folder"]]
    return runs.assign(command=commands)


def _command(folder: str, loader: ConfigLoader, modes: dict[tuple[str, ...], list[str]]) -> str:
    """Return the command of the run in a folder, or why there is none."""
    try:
        composition = read_run(folder).composition
        if composition is None:
            raise InputError("no record says what made it")
        return shlex.join(["stelab", "train", *_overrides(composition, loader, modes)])
    except InputError as error:
        return f"{visible(str(error).splitlines()[0])}: see config.yaml"


def _overrides(
    composition: Composition, loader: ConfigLoader, modes: dict[tuple[str, ...], list[str]]
) -> list[str]:
    """Return what is typed; `modes` keeps what each choice of options needs to be a single run."""
    if composition.config_dir is not None:
        raise InputError("it was made with groups of a --config-dir, which run.json names")
    lines = composition.overrides
    if len(lines) > _MAX_OVERRIDES or any(len(line) > _MAX_LENGTH for line in lines):
        raise InputError("run.json has more or longer overrides than a command takes")
    # Where and how a run is made is left out, but not its study.
    left_out = ("paths", "sweep", *(key for key in project().without_effect if key != "study"))
    kept, chosen = list[str](), list[str]()
    for override in [parse(loader, line) for line in lines]:
        if is_within(override.key_or_group, left_out):
            continue
        line, value = str(override.input_line), override.value()
        options = loader.get_group_options(override.key_or_group)
        is_plain = not (override.is_hydra_override() or override.is_sweep_override())
        is_ours = "$" not in line and "_target_" not in line and line.isprintable()
        if not (is_plain and is_ours) or (options and value is not None and value not in options):
            raise InputError(f"run.json has {brief(line)}, which is no plain value or own option")
        kept.append(line)
        if options:
            chosen.append(line)
    choice = tuple(chosen)
    if choice not in modes:
        whole = compose_whole(loader, "train", kept)
        if fingerprint(compose_job(loader, "train", kept)) != composition.fingerprint:
            raise InputError("the installed groups do not make its configuration")
        # The options would make a sweep.
        modes[choice] = ["hydra.mode=RUN"] * (whole.hydra.mode == RunMode.MULTIRUN)
    return [*kept, *modes[choice]]
