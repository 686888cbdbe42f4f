"""The command lines that are measured."""

import shlex
from pathlib import Path
from typing import Any

CLOCK = "stelab.lab.bench.clock.Clock"  # a name, because its module imports torch


def train(cfg: Any, outputs: Path, *overrides: str) -> list[str]:
    """Return Python's arguments for ``stelab train`` with overrides, in the folder `outputs`."""
    places = {"outputs": str(outputs), "datasets": str(cfg.paths.datasets)}
    paths = [f"paths.{name}={quoted(path)}" for name, path in places.items()]
    return ["-m", "stelab", "train", *overrides, "study=bench", *paths]


def words_of(*texts: str) -> list[str]:
    """Return the overrides of several texts; of those of one key the last."""
    words = [word for text in texts for word in shlex.split(text)]
    return list({word.partition("=")[0]: word for word in words}.values())


def clock(file: Path, *, seconds: float) -> list[str]:
    """Return the overrides that let a run be measured from within, see `CLOCK`."""
    values = {"_target_": CLOCK, "path": quoted(str(file)), "seconds": seconds}
    return [f"+callbacks.clock.{key}={value}" for key, value in values.items()]


def quoted(text: str) -> str:
    """Write a text so that Hydra takes all of it as it stands."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
