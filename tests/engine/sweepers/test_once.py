"""A job of a sweep is composed and validated once, and its record is read a few times only."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import Cli

COUNTING = """
import importlib, json, os, sys
from collections import Counter

from stelab.apps.main import main

compose = importlib.import_module("stelab.engine.config.compose")
validate = importlib.import_module("stelab.engine.config.validate")
reads, composed, validated = Counter(), Counter(), Counter()
compose_job, mistakes = compose._compose_job, validate._missing_or_not_finite

def read(event, arguments):
    if event == "open" and str(arguments[0]).endswith("run.json"):
        reads[os.path.basename(os.path.dirname(arguments[0]))] += 1

def counted_compose_job(*arguments):
    cfg, *rest = compose_job(*arguments)
    if cfg.study == "debug":  # a job, and not what Hydra begins with
        composed[cfg.paths.run] += 1
    return cfg, *rest

def counted_mistakes(tree):
    validated[tree["paths"]["run"]] += 1
    return mistakes(tree)

compose._compose_job, validate._missing_or_not_finite = counted_compose_job, counted_mistakes
sys.addaudithook(read)
main(sys.argv[1:])
with open("counts.json", "w") as file:
    json.dump([reads, composed, validated], file)
"""


Count = Callable[..., "list[dict[str, int]]"]


@pytest.fixture
def count(cli: Cli, tmp_path: Path) -> Count:
    """How often run.json was read, a job composed, and it validated, by names or folders."""

    def run(*arguments: str) -> list[dict[str, int]]:
        result = cli("train", *arguments, code=COUNTING)
        assert result.returncode == 0, result.stderr
        counts: list[dict[str, int]] = json.loads((tmp_path / "counts.json").read_text())
        return counts

    return run


def test_a_sweep_composes_and_validates_each_job_once(count: Count, tmp_path: Path) -> None:
    fast = ("debug=fast", "model=mlp", "model.bits=8")
    sweep = ("-m", *fast, "estimator=identity,none", "seed=0,1")
    count(*sweep)
    reads, composed, validated = count(*sweep)  # all are finished
    jobs = {str(path.relative_to(tmp_path)) for path in tmp_path.glob("outputs/debug/*-s[01]-*")}
    assert composed == dict.fromkeys(jobs, 1)
    assert {job: validated[job] for job in jobs} == composed
    # When the sweep begins, when the job's turn has come, and for the tables; one run of each
    # group once more, for its reconstructions.
    assert sorted(reads.values()) == [3, 3, 4, 4]


def test_a_trial_is_composed_once_when_it_is_chosen(count: Count, tmp_path: Path) -> None:
    search = ("sweep=optuna", "model.bits=range(4,9)", "seed=0,1", "hydra.sweeper.n_trials=2")
    _, composed, validated = count("debug=fast", "model=mlp", *search)
    made = [str(path.relative_to(tmp_path)) for path in tmp_path.glob("outputs/debug/*-s[01]-*")]
    assert len(made) == 4
    # Both ends of the range stand for all before the first trial is chosen.
    examples = Counter(composed) - Counter(made)
    assert examples.total() == 2
    assert {job: validated[job] for job in composed} == composed
