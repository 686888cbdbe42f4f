"""examples/plugin: a task, model, dataset, loss and experiment of a package of its own."""

from __future__ import annotations

import itertools
import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import stelab
from conftest import REPOSITORY, Cli
from halves import MNIST5kHalves, NoisyPixels, PredictLower
from resuming import assert_same, stop_at
from stelab.engine.studies import Run

PLUGIN = REPOSITORY / "examples" / "plugin"
SMALL = ("data.limit=128", "trainer.max_epochs=2", "trainer.accelerator=cpu", "task.draws=3")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the package as anyone would, but into a folder of its own."""
    site = tmp_path_factory.mktemp("plugin")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "install"]
    how = ["--no-deps", "--no-build-isolation", "--target", str(site), str(PLUGIN)]
    subprocess.run([*pip, *how], check=True, capture_output=True)
    return site


def test_its_experiment_is_trained_compared_and_read(
    cli: Cli, installed: Path, tmp_path: Path
) -> None:
    environment = {"PYTHONPATH": str(installed)}
    groups = ("--config-dir", str(installed / "halves" / "conf"))
    trained = cli("train", *groups, "experiment=halves", "model.bits=8", *SMALL, **environment)
    assert trained.returncode == 0, trained.stderr
    assert "reconstructions.png" in trained.stdout
    runs = {path.name.split("-")[0]: path for path in tmp_path.glob("outputs/halves/*-s0-*")}
    assert set(runs) == {"bernoulli_st", "reinmax", "disarm"}
    record = json.loads((runs["disarm"] / "run.json").read_text())
    assert record["task"] == {"metric": "nll", "better": "lower"}
    # The mean of three likelihoods is at least that of their logarithms.
    metrics = record["metrics"]
    assert metrics["test/nll"] < metrics["test/loss"] < 28 * 14 * math.log(2)

    compared = cli("compare", "study=halves", "trust=halves", **environment)
    assert compared.returncode == 0, compared.stderr
    assert "test/nll" in compared.stdout
    assert "No reconstructions" not in compared.stdout
    figure = tmp_path / "outputs" / "halves" / "comparison" / "figures" / "reconstructions.svg"
    titles = figure.read_text()
    assert "upper half" in titles and "original" not in titles

    run = f"run={runs['disarm']}"
    refused = cli("evaluate", run, **environment)
    assert refused.returncode == 2
    assert "halves.model.HalfToHalf" in refused.stderr
    assert "trust=PACKAGE" in refused.stderr
    evaluated = cli("evaluate", run, "trust=halves", **environment)
    assert evaluated.returncode == 0, evaluated.stderr
    values = dict(line.split() for line in evaluated.stdout.splitlines())
    expected = {name: metrics[name] for name in ("test/loss", "test/nll")}
    assert {k: float(v) for k, v in values.items()} == pytest.approx(expected, rel=1e-5)
    encoded = cli("encode", run, "trust=halves", **environment)
    assert encoded.returncode == 2
    assert "PredictLower has no codes that stand for images" in encoded.stderr


def test_its_mistakes_are_found_before_it_trains(cli: Cli, installed: Path) -> None:
    environment = {"PYTHONPATH": str(installed)}
    groups = ("--config-dir", str(installed / "halves" / "conf"))
    for override, message in (
        ("task.draws=0", "task.draws must be greater than or equal to 1, got 0"),
        ("loss.noise=0.5", "loss.noise must be less than 0.5, got 0.5"),
        ("estimator=identity", "but estimator Identity draws none: take one such as bernoulli_st"),
        ("data=binarized_mnist5k", "data must have lower halves"),
    ):
        result = cli("train", *groups, "task=halves", "dry_run=true", override, **environment)
        assert result.returncode == 2
        assert message in result.stderr


def train(outputs: Path) -> Run:
    place = ("study=halves", f"paths.outputs={outputs}")
    cfg = stelab.compose("task=halves", *SMALL, *place, config_dir=str(PLUGIN / "conf"))
    return stelab.train(cfg)


def test_a_stopped_run_continues_bit_by_bit(tmp_path: Path) -> None:
    whole = train(tmp_path / "whole")
    with pytest.MonkeyPatch.context() as patched, pytest.raises(SystemExit):
        stop_at(patched, 3)  # in the second epoch
        train(tmp_path / "parts")
    assert_same(train(tmp_path / "parts"), whole)


def test_the_loss_is_a_likelihood_of_flipped_pixels() -> None:
    logits = torch.tensor([0.0, math.log(3), -math.log(3), 50.0]).reshape(1, 1, 2, 2)
    pixels = torch.tensor([1.0, 1.0, 1.0, 0.0]).reshape(1, 1, 2, 2)
    p = [0.5, 0.1 + 0.8 * 0.75, 0.1 + 0.8 * 0.25, 0.1]
    (loss,) = NoisyPixels(noise=0.1)(logits, pixels).tolist()
    assert loss == pytest.approx(-sum(map(math.log, p)), rel=1e-6)


def test_the_metric_is_the_likelihood_of_all_codes() -> None:
    cfg = stelab.compose("task=halves", "model.bits=3", config_dir=str(PLUGIN / "conf"))
    task, copies = PredictLower(NoisyPixels(noise=0.01), draws=100), 1000
    model = stelab.build(cfg.model).double().eval()
    upper, lower = torch.randint(2, (2, 1, 1, 14, 28)).double()
    with torch.no_grad():
        batch = {"images": upper, "lower": lower}
        batch = {name: half.expand(copies, -1, -1, -1) for name, half in batch.items()}
        values = task.evaluate(model, batch, "test", generator=torch.Generator().manual_seed(0))

        codes = torch.tensor(list(itertools.product([-1.0, 1.0], repeat=3))).double()
        log_p = -task.losses(model.decode(codes), {"lower": lower.expand(8, -1, -1, -1)})
        law = torch.sigmoid(codes * model.encoder(upper)).prod(1)
    loss, bound = values["loss"], -(law * log_p).sum()
    assert ((loss.mean() - bound) / (loss.std() / copies**0.5)).abs() < 4
    exact = -torch.logsumexp(law.log() + log_p, 0)
    assert values["nll"].mean().item() == pytest.approx(exact.item(), abs=0.1)
    assert exact < bound - 1


@pytest.mark.parametrize("binarization", ["dynamic", "static", "threshold"])
def test_halves_are_those_of_the_digits(binarization: str) -> None:
    option = f"data.binarization={binarization}"
    whole = stelab.build(stelab.compose("data=binarized_mnist5k", option).data)
    config = str(PLUGIN / "conf")
    halves: MNIST5kHalves = stelab.build(
        stelab.compose("data=mnist5k_halves", option, config_dir=config).data
    )
    for split in ("train", "val"):
        first, digits = (data.tensors(split) for data in (halves, whole))
        assert first["images"].shape[1:] == (1, 14, 28)
        joined = torch.cat([first["images"], first["lower"]], dim=2)
        assert torch.equal(joined, digits["images"])
        assert torch.equal(first["labels"], digits["labels"])
    drawn, digits = next(iter(halves.train_dataloader())), next(iter(whole.train_dataloader()))
    joined = torch.cat([drawn["images"], drawn["lower"]], dim=2)
    assert torch.equal(joined, digits["images"])
    assert joined.unique().tolist() == [0, 1]
