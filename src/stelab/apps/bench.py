"""``stelab bench``: what stelab costs on this machine, beside plain PyTorch."""

import os
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from omegaconf import DictConfig

from stelab.apps.main import command_line
from stelab.engine.config import compose
from stelab.engine.errors import InputError
from stelab.engine.files import require_folder
from stelab.engine.studies import Run, read_finished
from stelab.engine.terminal import visible
from stelab.lab.bench.commands import train, words_of
from stelab.lab.bench.page import PAGE, PARTS, RAW, Bench
from stelab.lab.bench.turns import Case, run_python, take_turns

TEXTS = ("fast",)


def start(cfg: DictConfig) -> None:
    """Measure, and write the page anew after each measurement."""
    folder = Path(cfg.output or Path(cfg.paths.outputs, "bench"))
    require_folder(folder)
    for path in (folder / PAGE, folder / RAW):
        if os.path.lexists(path) and not cfg.overwrite:
            raise InputError(f"{path} exists already: give another output, or overwrite=true")
    for setting in cfg.settings:
        _require_measurable(setting)
        _require_measurable(setting, cfg.fast)
    with TemporaryDirectory(prefix="stelab-bench-") as outputs:
        load = os.getloadavg()[0]
        run = _train_one(cfg, Path(outputs))
        bench = Bench(cfg, command_line(), run.record, load)
        for sample in take_turns(_cases(cfg, run), repetitions=cfg.repetitions):
            bench.samples.append(sample)
            bench.write(folder)
            place = f"{sample.repetition + 1} of {cfg.repetitions}"
            what = f"{sample.part}  {sample.group}  {sample.name}"
            values = "  ".join(f"{name} {value:.4g}" for name, value in sample.values.items())
            print(visible(f"{what}  {place}: {values}"), flush=True)
    print(f"\nPage:       {folder / PAGE}\nRaw values: {folder / RAW}")


def _require_measurable(*texts: str) -> None:
    """Raise InputError where no plain loop does the work of a run of such settings."""
    try:
        cfg: Any = compose(*words_of(*texts))
        task, precision = cfg.task["_target_"].rpartition(".")[2], cfg.trainer.precision
        if task != "Reconstruct":
            raise InputError(f"task must be reconstruct, but is {task}")
        if precision not in ("32-true", "bf16-mixed"):
            raise InputError(f"trainer.precision must be 32-true or bf16-mixed, got {precision}")
        if (shape := tuple(cfg.model.get("image_shape") or (1, 28, 28))) != (1, 28, 28):
            raise InputError(f"images must be the tutorial's, 1x28x28, but have shape {shape}")
    except ValueError as error:  # of the settings, or of the quotes in a text
        raise InputError(f"settings: {' '.join(texts)}: {error}") from error


def _train_one(cfg: DictConfig, outputs: Path) -> Run:
    """Check settings as `stelab train` does; train a small run, which tells of the machine."""
    for setting in cfg.settings if {"steps", "profile", "launchers"} & {*cfg.parts} else ():
        run_python(*train(cfg, outputs, *words_of(setting), "dry_run=true"))
    run_python(*train(cfg, outputs, "debug=fast", "model=mlp", "trainer.max_epochs=5"))
    (folder,) = (outputs / "bench").iterdir()
    return read_finished(folder)


def _cases(cfg: DictConfig, run: Run) -> Iterator[Case]:
    for part in cfg.parts:
        yield from PARTS[part].cases(cfg, run)
