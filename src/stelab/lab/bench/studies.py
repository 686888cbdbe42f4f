"""How long it takes to read large studies, made of copies of a real run."""

import json
import random
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from stelab.engine.config.identity import fingerprint_of_resolved
from stelab.engine.studies import Run
from stelab.engine.studies.record import RunFolder
from stelab.lab.bench.commands import quoted
from stelab.lab.bench.turns import Case, Sample, Values, run_python, spread, values_of

TITLE = "Large studies"
SEEDS = 10  # of each setting
_LOAD = "import sys, stelab; stelab.studies.load(sys.argv[1])"


def about(cfg: Any) -> str:
    """Say what the table shows."""
    return f"""\
Seconds of whole commands, and their memory. The runs are copies of one, of other thresholds and
{SEEDS} seeds each, with other losses. *load*: `stelab.studies.load` in Python."""


def cases(cfg: Any, run: Run) -> Iterator[Case]:
    """Yield what is measured of copies of `run`, which are made beside its study."""
    outputs = run.folder.parents[1]
    for count in cfg.runs:
        study = outputs / f"made{count}"
        make_study(run, study, count)
        named = (f"study={study.name}", f"paths.outputs={quoted(str(outputs))}")
        case = partial(Case, "studies", f"{count:,}")
        yield case("load", partial(_read, ("-c", _LOAD, str(study))))
        yield case("status", partial(_read, ("-m", "stelab", "status", *named)))
        command = ("-m", "stelab", "compare", *named, "report=false")
        yield case("compare", partial(_read, command))


def _read(arguments: Sequence[str], folder: Path) -> Values:
    return run_python(*arguments)[0]


def make_study(run: Run, study: Path, count: int) -> None:
    """Make a study of runs whose losses are up to a tenth larger than those of `run`."""
    config = {**run.config, "study": study.name}
    stand_ins = {"seed": 987654321, "value": 0.123456789}  # a text is faster to change than YAML
    text = OmegaConf.to_yaml(OmegaConf.create(_changed(config, **stand_ins)))
    rows = RunFolder(run.folder).metrics.read_text(encoding="utf-8").splitlines()
    larger = random.Random(0)
    for i in range(count):
        seed, value, scale = i % SEEDS, i // SEEDS / 1000, 1 + larger.random() / 10
        digest = fingerprint_of_resolved(_changed(config, seed=seed, value=value))
        folder = RunFolder(study / f"identity-fixed{value:g}-s{seed}-{digest[:8]}")
        folder.path.mkdir(parents=True)
        metrics = {name: scale * number for name, number in run.metrics.items()}
        record = {**run.record, "fingerprint": digest, "metrics": metrics}
        folder.record.write_text(json.dumps(record, indent=2), encoding="utf-8")
        own = text
        for stand_in, number in zip(stand_ins.values(), (seed, value), strict=True):
            own = own.replace(str(stand_in), str(number))
        folder.config.write_text(own, encoding="utf-8")
        scaled = [rows[0], *(_scaled(row, scale) for row in rows[1:]), ""]
        folder.metrics.write_text("\n".join(scaled), encoding="utf-8")


def _changed(config: dict[str, Any], *, seed: float, value: float) -> dict[str, Any]:
    """Return a run's configuration with another seed and threshold, wherever they stand."""
    threshold = {**config["threshold"], "value": value}
    binarizer = {**config["model"]["binarizer"], "threshold": threshold}
    return {
        **config,
        "seed": seed,
        "data": {**config["data"], "seed": seed},
        "threshold": threshold,
        "model": {**config["model"], "binarizer": binarizer},
    }


def _scaled(row: str, scale: float) -> str:
    """Return a row of metrics.csv with other values behind epoch and step."""
    epoch, step, *values = row.split(",")
    return ",".join([epoch, step, *(str(scale * float(v)) if v else "" for v in values)])


def tables(samples: Sequence[Sample]) -> Iterator[str]:
    """Yield a row for each size."""
    yield "| runs | load | status | compare |"
    yield "| --- | --- | --- | --- |"
    for group in dict.fromkeys(sample.group for sample in samples):
        cells = []
        for name in ("load", "status", "compare"):
            seconds, peak = (
                values_of(samples, group, name, key) for key in ("seconds", "peak_mib")
            )
            cells.append(f"{spread(seconds, 2)}, {spread([max(peak)] if peak else [])} MiB")
        yield f"| {group} | {' | '.join(cells)} |"
