"""Sub-codes of a trained network."""

from __future__ import annotations

import pytest
import torch

from stelab.engine.errors import InputError
from stelab.engine.studies import Run
from stelab.estimators import LocalExpectation
from stelab.lab.gradients import Enumeration, Subcode, TrainedLoss
from stelab.lab.gradients.measure import estimates
from stelab.lab.training.restore import load_data, restore


def squares(codes: torch.Tensor) -> torch.Tensor:
    weights = torch.arange(1.0, codes.shape[1] + 1, dtype=codes.dtype)
    return (codes.flatten(1) @ weights).square()


def test_a_whole_code_is_its_own_sub_code() -> None:
    s = torch.randn(2, 5, dtype=torch.float64)
    problem = Subcode(s, squares, bits=5, seed=0)
    assert torch.equal(problem.logits, s)
    codes = torch.randint(0, 2, (6, 5)).double()
    assert torch.equal(problem(codes), squares(codes))


def test_the_other_bits_are_held() -> None:
    s = torch.randn(2, 7, 1, 1, dtype=torch.float64)
    problem = Subcode(s, lambda codes: codes.flatten(1).sum(1), bits=3, seed=0)
    held = torch.ones(7, dtype=torch.bool)
    held[problem.chosen] = False
    expected = (s.flatten(1) > 0).double()[:, held].sum(1)
    assert torch.equal(problem(torch.zeros(4, 3).double()), expected.repeat(2))
    assert torch.equal(problem.logits, s.flatten(1)[:, problem.chosen])


def test_more_bits_than_the_code_has_are_refused() -> None:
    with pytest.raises(InputError, match="at most the code's 5, got 6"):
        Subcode(torch.zeros(1, 5), squares, bits=6, seed=0)


def test_the_loss_is_the_error_of_the_run(trained: Run) -> None:
    problem = TrainedLoss(run=str(trained.folder), checkpoint="last", bits=4, examples=3, seed=0)
    model = restore(trained, checkpoint="last").model.double()
    images = load_data(trained).images("test")[:3].double()
    with torch.no_grad():
        error = (model(images) - images).square().mean((1, 2, 3))
    hard = (problem.logits > 0).double()
    assert torch.allclose(problem(hard), error, rtol=0, atol=1e-12)


def test_local_expectations_agree_with_the_enumeration(trained: Run) -> None:
    problem = TrainedLoss(run=str(trained.folder), checkpoint="last", bits=4, examples=2, seed=0)
    enumeration = Enumeration(problem)
    exact = enumeration.gradient(torch.sigmoid)
    drawn = estimates(LocalExpectation(), enumeration, 200, torch.Generator().manual_seed(0))
    z = (drawn.mean(0) - exact) / (drawn.std(0) / 200**0.5)
    assert z.abs().max() < 4
