"""Every estimator of conf/estimator/, built once: a new YAML file is tested without an edit."""

from __future__ import annotations

import copy
from pathlib import Path

import torch
from omegaconf import OmegaConf

import stelab
from stelab.annealing import advance
from stelab.engine.config import CONF_DIR
from stelab.estimators import Estimator, MultiEvaluation

BITS = 5


def build(name: str, bits: int = BITS) -> Estimator:
    # Not composed, which would take most of the time: tests of the configuration do it.
    file = OmegaConf.load(Path(CONF_DIR, "estimator", f"{name}.yaml"))
    torch.manual_seed(0)
    return stelab.build(OmegaConf.create({"model": {"bits": bits}, "estimator": file}).estimator)


NAMES = sorted(path.stem for path in Path(CONF_DIR, "estimator").glob("*.yaml"))
ESTIMATORS = {name: build(name) for name in NAMES}
MULTI = [name for name in NAMES if isinstance(ESTIMATORS[name], MultiEvaluation)]
ONE_PASS = [name for name in NAMES if name not in MULTI]


def fresh(name: str, *, progress: float = 0.0) -> Estimator:
    estimator = copy.deepcopy(ESTIMATORS[name])
    advance(estimator, progress)
    return estimator


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)
