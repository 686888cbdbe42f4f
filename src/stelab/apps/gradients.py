"""``stelab gradients``: measure estimators against the exact gradient."""

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from stelab.engine.files import require_folder
from stelab.engine.importing import importing
from stelab.engine.studies import read_finished
from stelab.engine.sweepers.plan import Plan
from stelab.engine.trust import packages, require_trusted

TEXTS = ("trust",)


def start(cfg: DictConfig) -> None:
    """Measure one estimator."""
    _measure([cfg])


def execute(plan: Plan, launch: Callable[[], None]) -> None:
    """Measure all jobs in this process: they share the enumeration."""
    _measure(plan.jobs)


def _measure(jobs: Sequence[DictConfig]) -> None:
    for run, trust in {(cfg.problem.get("run"), cfg.problem.get("trust")) for cfg in jobs}:
        if run:
            require_trusted(read_finished(run), ["model", "data"], packages(trust))
    with importing():
        from stelab.lab.gradients.figures import draw_measurements, print_measurements
        from stelab.lab.gradients.sweep import measure_all, write_tables

    folder = _folder(jobs)
    require_folder(folder)
    rows = measure_all(jobs)
    write_tables(folder, rows)
    print_measurements(rows)
    pictures = draw_measurements(folder, rows)
    print(f"\nTables:  {folder}/gradients.csv, {folder}/per_bit.csv")
    print(f"Figures: {', '.join(map(str, pictures))}")


def _folder(jobs: Sequence[DictConfig]) -> Path:
    """Name the folder after the problem and a hash of everything that was asked for."""
    configurations: list[Any] = [OmegaConf.to_container(cfg, resolve=True) for cfg in jobs]
    for cfg in configurations:  # what is trusted, and where things lie, changes no number
        del cfg["trust"]
        cfg["problem"].pop("trust", None)
        cfg["paths"] = None
    digest = hashlib.sha256(json.dumps(configurations).encode()).hexdigest()[:8]
    first = jobs[0]
    return Path(first.paths.outputs, first.study, f"{first.names.problem}-{digest}")
