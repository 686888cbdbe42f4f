"""A run that was made before run.json had a format, and before the packages had floors."""

from __future__ import annotations

import shutil
from pathlib import Path

import stelab
from conftest import Cli
from stelab.engine.config.identity import run_id
from stelab.engine.studies import finished_run, load, read_run
from stelab.engine.trust import require_trusted

STUDY = Path(__file__).with_name("old") / "study"
(OLD,) = STUDY.iterdir()
OVERRIDES = (
    "study=study",
    "callbacks=basket",
    "data=mnist5k",
    "data.limit=256",
    "model=mlp",
    "trainer.max_epochs=1",
)


def test_its_components_have_the_names_of_today() -> None:
    run = read_run(OLD)
    config = run.config
    assert config["model"]["_target_"] == "stelab.lab.models.mlp"
    assert config["model"]["binarizer"]["_target_"] == "stelab.binarizer.Binarizer"
    assert config["callbacks"]["basket"]["_target_"] == "stelab.lab.gradients.GradientBasket"
    require_trusted(run, ["model", "loss", "data"])


def test_the_same_command_finds_it(tmp_path: Path) -> None:
    shutil.copytree(STUDY, tmp_path / "outputs" / "study")
    cfg = stelab.compose(*OVERRIDES, f"paths.outputs={tmp_path}/outputs")
    assert run_id(cfg) == OLD.name
    assert finished_run(cfg) is not None


def test_it_stands_in_tables(cli: Cli, tmp_path: Path) -> None:
    shutil.copytree(STUDY, tmp_path / "outputs" / "study")
    study = load(tmp_path / "outputs" / "study")
    (row,) = study.finished.to_dict("records")
    assert (row["estimator"], row["test/mse"], row["edited"]) == (
        "identity",
        0.3811356648802757,
        False,
    )
    compared = cli("compare", "study=study", "report=false")
    assert compared.returncode == 0, compared.stderr
    assert "0.3811" in compared.stdout
