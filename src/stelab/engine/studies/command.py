"""The command that trains a run again, as it was recorded."""

from __future__ import annotations

import shlex

import pandas as pd
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.types import Override
from hydra.types import RunMode

from stelab.engine.config.compose import compose_whole, parse, search, strip
from stelab.engine.config.composition import Composition
from stelab.engine.config.identity import fingerprint
from stelab.engine.errors import InputError
from stelab.engine.project import project
from stelab.engine.studies.record import read_run
from stelab.engine.terminal import brief, visible

_MOST, _LONGEST = 200, 1000  # overrides of a command, and characters of one


def with_commands(runs: pd.DataFrame) -> pd.DataFrame:
    """Add `command`: how to train each run again.

    E.g. ``stelab train estimator=identity threshold.value=0.5 study=ablation seed=0``: the
    overrides that run.json has, but for those that cannot change a result (so not ``data.root``).
    Where there is none, as for a run of old or one of a ``--config-dir``, the cell is a sentence
    that says why.

    A run.json may be anybody's. So a command only chooses among installed options and sets plain
    values: no override of it names a class, interpolates, sweeps or sets a key of Hydra.
    """
    with search(None) as loader:
        commands = _Commands(loader)
        return runs.assign(command=[commands.of(folder) for folder in runs["folder"]])


class _Commands:
    """Writes commands; what the installed options compose is looked at once for each choice."""

    def __init__(self, loader: ConfigLoader):
        self.loader = loader
        self._modes: dict[tuple[str, ...], list[str]] = {}

    def of(self, folder: str) -> str:
        """Return the command of the run in a folder, or why there is none."""
        try:
            composition = read_run(folder).composition
            if composition is None:
                raise InputError("no record says what made it")
            return shlex.join(["stelab", "train", *self._overrides(composition)])
        except InputError as error:
            return f"{visible(str(error).splitlines()[0])}: see config.yaml"

    def _overrides(self, composition: Composition) -> list[str]:
        if composition.config_dir is not None:
            raise InputError("it was made with groups of a --config-dir, which run.json names")
        lines = composition.overrides
        if len(lines) > _MOST or any(len(line) > _LONGEST for line in lines):
            raise InputError("run.json has more or longer overrides than a command takes")
        overrides = [each for each in parse(self.loader, lines) if not _is_left_out(each)]
        for override in overrides:
            self._check(override)
        chosen = tuple(_text(each) for each in overrides if self._options(each))
        kept = [_text(each) for each in overrides]
        if chosen not in self._modes:
            self._modes[chosen] = self._mode(kept, composition.fingerprint)
        return [*kept, *self._modes[chosen]]

    def _mode(self, overrides: list[str], identity: str) -> list[str]:
        """Return what makes a single run where the options would make a sweep.

        Raises:
            InputError: They compose another run today: a file of theirs has changed.
        """
        whole = compose_whole(self.loader, "train", overrides)
        if fingerprint(strip(whole, "train")) != identity:
            raise InputError("the installed groups do not make its configuration")
        return ["hydra.mode=RUN"] if whole.hydra.mode == RunMode.MULTIRUN else []

    def _check(self, override: Override) -> None:
        line, value = _text(override), override.value()
        is_plain = not (override.is_hydra_override() or override.is_sweep_override())
        is_ours = "$" not in line and "_target_" not in line and line.isprintable()
        options = self._options(override)
        if not (is_plain and is_ours) or (options and value is not None and value not in options):
            raise InputError(f"run.json has {brief(line)}, which is no plain value or own option")

    def _options(self, override: Override) -> list[str]:
        return self.loader.get_group_options(override.key_or_group)


def _text(override: Override) -> str:
    return str(override.input_line)


def _is_left_out(override: Override) -> bool:
    """Tell whether it says where and how a run is made, but not what it is; its study stays."""
    key = override.key_or_group
    others = ("paths", "sweep", *project().without_effect)
    return key != "study" and any(key == each or key.startswith(f"{each}.") for each in others)
