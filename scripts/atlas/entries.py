"""What the atlas is made of: YAML files of a group, and the objects that they describe."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from omegaconf import OmegaConf

from stelab.engine.config import CONF_DIR, build

BITS = 1


@dataclass(frozen=True)
class Entry:
    """A YAML file and its object.

    Attributes:
        name: As in ``estimator=NAME``.
        comment: The comment that the file begins with, on one line.
        yaml: The rest of the file.
        built: The object with the file's hyperparameters, for codes of one bit.
    """

    name: str
    comment: str
    yaml: str
    built: Any

    @property
    def module(self) -> ModuleType:
        """Return the module that defines the object's class."""
        module = inspect.getmodule(type(self.built))
        assert module is not None
        return module


def read_entries(group: str) -> list[Entry]:
    """Read ``conf/<group>/*.yaml``, in the order of names; nothing where the folder is absent."""
    return [_read(path) for path in sorted(Path(CONF_DIR, group).glob("*.yaml"))]


def _read(path: Path) -> Entry:
    lines = path.read_text(encoding="utf-8").splitlines()
    body = next(i for i, line in enumerate(lines) if not line.startswith("#"))
    # Not composed by Hydra, which would take most of the time; ${bits:} looks at the root.
    root = OmegaConf.create({"bits": BITS, "entry": OmegaConf.load(path)})
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # some have networks
        built = build(root.entry)
    comment = " ".join(line.lstrip("# ") for line in lines[:body])
    return Entry(path.stem, comment, "\n".join(lines[body:]), built)


# Simple to complex; a family that is not named here comes last.
_ORDER = (
    "straight_through",
    "surrogates",
    "noise",
    "annealed",
    "quantizers",
    "bernoulli",
    "gumbel",
    "score_function",
    "control_variates",
    "enumeration",
)


def families(entries: Sequence[Entry]) -> list[list[Entry]]:
    """Group entries by the module of their class, each in the order of its source."""
    grouped: dict[str, list[Entry]] = {}
    for entry in entries:
        grouped.setdefault(entry.module.__name__.rpartition(".")[2], []).append(entry)
    order = [*_ORDER, *sorted(grouped.keys() - set(_ORDER))]
    return [sorted(grouped[name], key=_line) for name in order if name in grouped]


def _line(entry: Entry) -> int:
    return inspect.getsourcelines(type(entry.built))[1]
