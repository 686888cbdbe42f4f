"""The tutorial's experiment on the real MNIST and its official test set, shortened."""

from __future__ import annotations

from pathlib import Path

import pytest

import stelab
from stelab.engine.studies import Run


@pytest.fixture(scope="module")
def runs(mnist_root: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    outputs = tmp_path_factory.mktemp("outputs")

    def run(*overrides: str) -> Run:
        cfg = stelab.compose(
            *("experiment=tutorial", f"data.root={mnist_root}", f"paths.outputs={outputs}"),
            *("model=mlp", "model.relu_before_bits=true", "model.signed=false"),
            *("data.limit=3000", "trainer.max_epochs=4", *overrides),
        )
        return stelab.train(cfg)

    names = ("identity", "hardtanh_clip", "none")
    mean = {name: run(f"estimator={name}") for name in names}
    short = ("loss.reduction=sum", "trainer.max_epochs=1")
    summed = {f"{n} summed": run(f"estimator={n}", *short) for n in names[:2]}
    return mean | summed


def test_clipping_never_acts_on_a_mean_loss(runs: dict[str, Run]) -> None:
    identity, clip = runs["identity"], runs["hardtanh_clip"]
    assert (identity.folder / "metrics.csv").read_bytes() == (
        clip.folder / "metrics.csv"
    ).read_bytes()
    assert clip.metrics["estimator/clip_fraction"] == 0


def test_clipping_acts_on_a_summed_loss(runs: dict[str, Run]) -> None:
    identity, clip = runs["identity summed"], runs["hardtanh_clip summed"]
    assert clip.metrics["estimator/clip_fraction"] > 0
    assert clip.metrics["train/loss"] != identity.metrics["train/loss"]


def test_none_ends_clearly_worse(runs: dict[str, Run]) -> None:
    assert runs["none"].metrics["estimator/zero_grad_fraction"] == 1
    assert runs["none"].metrics["test/mse"] > 1.1 * runs["identity"].metrics["test/mse"]
    assert runs["identity"].metrics["test/mse"] < 0.06
