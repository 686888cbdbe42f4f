"""``stelab gradients`` as a process."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from conftest import Cli, Start, train
from stelab.engine.config import CONF_DIR
from waiting import PATIENCE

SMALL = ("bits=4", "samples=50", "adapt=2")


def table(folder: Path) -> list[dict[str, str]]:
    (path,) = folder.glob("outputs/gradients/*/gradients.csv")
    with path.open() as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("problem", ["linear", "quadratic", "cubic", "toy", "mlp"])
def test_all_estimators_on_every_problem(cli: Cli, tmp_path: Path, problem: str) -> None:
    result = cli("gradients", "estimator=all", f"problem={problem}", *SMALL)
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    rows = table(tmp_path)
    names = {path.stem for path in Path(CONF_DIR, "estimator").glob("*.yaml")}
    assert {row["estimator"] for row in rows} == names
    errors = [float(row["mse"]) for row in rows]
    assert errors == sorted(errors)
    for name in names:
        assert f"\n {name} " in result.stdout
    (folder,) = tmp_path.glob("outputs/gradients/*")
    assert folder.name.startswith(f"{problem}-")
    for picture in ("bias_variance.png", "errors.png"):
        assert (folder / picture).read_bytes().startswith(b"\x89PNG")


def test_a_list_is_measured_together_and_a_swept_number_gives_curves(
    cli: Cli, tmp_path: Path
) -> None:
    swept = "estimator.temperature=0.25,0.5,1.0"
    result = cli("gradients", "estimator=gumbel_st,bernoulli_st", swept, *SMALL)
    assert result.returncode == 0, result.stderr
    labels = {row["label"] for row in table(tmp_path)}
    assert labels == {
        f"{e} temperature={t}" for e in ("gumbel_st", "bernoulli_st") for t in (0.25, 0.5, 1.0)
    }
    assert list(tmp_path.glob("outputs/gradients/*/sweep.png"))


def test_the_same_command_gives_the_same_numbers(cli: Cli, tmp_path: Path) -> None:
    command = ("gradients", "estimator=relax,gumbel_rao", *SMALL)
    tables = []
    for _ in range(2):
        assert cli(*command).returncode == 0
        tables.append(
            [{k: v for k, v in r.items() if k != "microseconds"} for r in table(tmp_path)]
        )
    assert tables[0] == tables[1]


def test_a_trained_run_in_two_gigabytes(start: Start, tmp_path: Path) -> None:
    run = train(tmp_path, "model.bits=64", "model.hidden=64")
    arguments = [
        *("gradients", "problem=autoencoder", "problem.examples=1", f"run={run.folder}"),
        *("bits=16", "estimator=bernoulli_st", f"paths.outputs={tmp_path}"),
    ]
    fork = start(*arguments)
    assert fork.wait(PATIENCE) == 0, fork.communicate()
    assert fork.mebibytes < 2048 - 512  # a fork's count leaves out the files of libraries


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["bits=17"], "bits must be less than or equal to 16, got 17"),
        (["bits=0"], "bits must be greater than or equal to 1"),
        (["samples=1"], "samples must be greater than or equal to 2"),
        (["progress=1.5"], "progress must be less than or equal to 1"),
        (["estimator=reinmx"], "did you mean 'reinmax'"),
        (["estimator=glob(typo*)"], "matches nothing"),
        (["estimator=reinmax", "estimator.temperature=0.5,2.0"], "temperature must be greater"),
        (["problem=autoencoder"], "stelab: run must be a valid string, got None"),
        (["problem=autoencoder", "run=nowhere"], "nowhere"),
        (["problem=mlp", "problem.spread=-1"], "spread"),
    ],
    ids=lambda v: " ".join(v) if isinstance(v, list) else "",
)
def test_mistakes(cli: Cli, tmp_path: Path, arguments: list[str], message: str) -> None:
    result = cli("gradients", *arguments)
    assert result.returncode == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert not list(tmp_path.iterdir())
