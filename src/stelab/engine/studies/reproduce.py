"""The command that trains a run again, from its configuration."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass, field
from typing import Any

import pandas as pd

from stelab.engine.config.compose import search
from stelab.engine.config.decompose import Decomposer
from stelab.engine.config.identity import fingerprint_of_resolved
from stelab.engine.config.overrides import write_override
from stelab.engine.errors import InputError
from stelab.engine.studies.flaws import flaw_of_run, is_as_recorded
from stelab.engine.studies.record import Run, read_run
from stelab.engine.studies.settings import leaves
from stelab.engine.trust import judge


def with_commands(runs: pd.DataFrame) -> pd.DataFrame:
    """Add `command`: how to train each run again.

    E.g. ``stelab train estimator=identity threshold.value=0.5 model=mlp study=ablation seed=0``:
    the estimator, the seed, and what else differs from the defaults and can change the result (so
    not ``data.root``). It composes the fingerprint of the run; where nothing does, as with an
    estimator of a ``--config-dir``, the cell is a sentence that says why.
    """
    with search(None) as loader:
        commands = _Commands(Decomposer(loader))
        return runs.assign(command=[commands.of(folder) for folder in runs["folder"]])


@dataclass
class _Setting:
    """Runs that differ by the seed alone.

    Attributes:
        overrides: What they override.
        seeds: Those that have proven it.
        failures: Why there are no such overrides, by the seeds that have none.
    """

    overrides: list[str] = field(default_factory=list)
    seeds: set[int] = field(default_factory=set)
    failures: dict[int, InputError] = field(default_factory=dict)


class _Commands:
    """Finds commands; quickly those of runs whose setting is known already."""

    def __init__(self, decomposer: Decomposer):
        self.decomposer = decomposer
        self.settings: dict[str, _Setting] = {}

    def of(self, folder: str) -> str:
        """Return the command of the run in a folder."""
        try:
            run = read_run(folder)
            if flaw := flaw_of_run(run):
                raise InputError(flaw)
            _require_ours(run.config)
            overrides = self._overrides(run)
        except InputError as error:
            return f"{str(error).splitlines()[0]}: see config.yaml"
        config, defaults = run.config, self.decomposer.defaults
        nodes = [*defaults["names"], *defaults]
        tokens = sorted(overrides, key=lambda text: nodes.index(_node(text)))
        tokens += [write_override(key, config[key]) for key in _last(config, defaults)]
        return shlex.join(["stelab", "train", *tokens])

    def _overrides(self, run: Run) -> list[str]:
        """Return what the run overrides, but for seed and study.

        Two seeds prove a setting, and that there are none: with one alone, what is set to the seed
        looks like what follows it.
        """
        fingerprint, seed = fingerprint_of_resolved(run.config), run.config["seed"]
        identity = fingerprint
        if is_as_recorded(run):  # maybe another one: of what is interpolated
            identity = run.record.get("fingerprint") or fingerprint
        setting = self.settings.setdefault(_but_for_the_seed(run.config), _Setting())
        if len(setting.failures) > 1:
            raise next(iter(setting.failures.values()))
        if len(setting.seeds) > 1 and fingerprint == identity:
            return setting.overrides
        try:
            overrides = self.decomposer.overrides(run.config, identity)
        except InputError as error:
            setting.failures[seed] = error
            raise
        if not setting.seeds:
            setting.overrides = overrides
        if overrides == setting.overrides:
            setting.seeds.add(seed)
        return overrides


def _require_ours(config: dict[str, Any]) -> None:
    """Let no command be made of what would run a stranger's code, or be resolved once more.

    Raises:
        InputError: The configuration names what is no component, or holds an interpolation.
    """
    judge(config)
    if "${" in json.dumps(config, default=str):
        raise InputError("it holds '${', which no resolved configuration does")


def _last(config: dict[str, Any], defaults: dict[str, Any]) -> list[str]:
    return ["seed"] if config["study"] == defaults["study"] else ["study", "seed"]


def _but_for_the_seed(config: dict[str, Any]) -> str:
    """Return a text that runs share which differ by the seed alone, and by what follows it."""
    seed = config.get("seed")
    flat = {
        key: "the seed" if key.split(".")[-1] == "seed" and value == seed else value
        for key, value in leaves(config)
    }
    return json.dumps([flat, config["names"]], sort_keys=True, default=str)


def _node(override: str) -> str:
    return override.lstrip("+~").partition("=")[0].partition(".")[0]
