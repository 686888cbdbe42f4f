"""The losses of trained classifiers, VAEs and tokenizers, as functions of a few bits."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import stelab
from conftest import Cli
from stelab.engine.errors import InputError
from stelab.engine.studies import Run
from stelab.lab.gradients import Enumeration, TrainedLoss
from stelab.lab.gradients.problems import code_loss
from stelab.lab.training import build_module
from stelab.lab.training.restore import load_data, restore

SMALL = ("data.limit=64", "trainer.max_epochs=1", "trainer.accelerator=cpu", "model.bits=6")
TASKS = {
    "classifier": ("task=classify", "data=mnist5k", "model.layers=2"),
    "vae": ("task=elbo", "data=binarized_mnist5k", "task.bounds=[]"),
    "tokenizer": ("task=tokenize", "data=mnist5k", "model.hidden=8", "estimator=clipped_input"),
}


def train(outputs: Path, problem: str) -> Run:
    return stelab.train(stelab.compose(*TASKS[problem], *SMALL, f"paths.outputs={outputs}"))


@pytest.mark.parametrize("problem", TASKS)
def test_the_loss_at_its_own_bits_is_the_networks(problem: str, tmp_path: Path) -> None:
    run = train(tmp_path, problem)
    loss = TrainedLoss(run=str(run.folder), checkpoint="last", bits=4, examples=3, seed=0)
    module = restore(run, checkpoint="last", loss=True)
    batch = {n: t[:3] for n, t in load_data(run).tensors("test").items()}
    with torch.no_grad():
        model = module.model
        expected = module.task.example_losses(model.decode(model.encode(batch["images"])), batch)
    own = (loss.logits > 0).to(loss.logits)
    assert torch.allclose(loss(own), expected.double(), rtol=1e-4)
    assert Enumeration(loss).gradient(torch.sigmoid).abs().sum() > 0


def test_they_are_problems_of_the_command_line(cli: Cli, tmp_path: Path) -> None:
    run = train(tmp_path, "vae")
    few = ("bits=4", "samples=50", "adapt=2", "estimator=bernoulli_st,disarm,exact")
    result = cli("gradients", "problem=vae", f"run={run.folder}", *few)
    assert result.returncode == 0, result.stderr
    assert "disarm" in result.stdout
    (table,) = tmp_path.glob("outputs/gradients/vae-*/gradients.csv")
    assert len(table.read_text().splitlines()) > 3


def test_the_basket_hangs_in_any_task(tmp_path: Path) -> None:
    basket = ("callbacks=basket", "callbacks.basket.bits=4", "callbacks.basket.samples=20")
    for problem in TASKS:
        cfg = stelab.compose(*TASKS[problem], *SMALL, *basket, f"paths.outputs={tmp_path}")
        metrics = stelab.train(cfg).metrics
        assert metrics["gradients/disarm/cosine"] == pytest.approx(1, abs=0.2), problem


def test_one_hots_have_no_gradient_at_bits() -> None:
    small = ("model=vae_categorical", "model.classes=4", "model.bits=3", "data=binarized_mnist5k")
    module = build_module(stelab.compose("task=elbo", *small))
    with pytest.raises(InputError, match="a gradient at bits, but the layer has one-hots"):
        code_loss(module.task, module.model, {"images": torch.rand(2, 1, 28, 28)})
