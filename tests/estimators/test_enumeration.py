"""Estimators that try values of bits: exact where they say so, by enumerations of another kind."""

from __future__ import annotations

import pytest
import torch
from oracles import (
    BITS,
    CODES,
    LOSSES,
    THETA,
    codes,
    estimates,
    law,
    mlp,
    moments,
    normal,
    over_codes,
    row_gradients,
    true_gradient,
)
from torch import Tensor

from stelab.estimators import BitFlip, Exact, LocalExpectation
from stelab.estimators.enumeration import all_codes, flip_difference, log_probability


def test_all_codes_in_order() -> None:
    assert torch.equal(all_codes(BITS, like=THETA), CODES)
    assert torch.equal(all_codes(1, like=torch.zeros(1)), torch.tensor([[0.0], [1.0]]))
    assert all_codes(16, like=THETA).unique(dim=0).shape == (2**16, 16)


def test_their_probabilities() -> None:
    assert torch.allclose(log_probability(CODES, THETA).exp(), law(torch.sigmoid(THETA)))
    certain = torch.tensor([1e4, -1e4, 100.0, -100.0])
    log_q = log_probability(torch.tensor([[1.0, 0, 1, 0], [0, 0, 1, 0]]), certain)
    assert log_q.tolist() == pytest.approx([0, -1e4], abs=1e-30)


@pytest.mark.parametrize("loss", LOSSES)
def test_exact_is_the_gradient_of_the_mean(loss: str) -> None:
    rows = estimates(Exact(bits=BITS), LOSSES[loss], n=50)
    expected = true_gradient(LOSSES[loss]).expand_as(rows)
    assert torch.allclose(rows, expected, rtol=0, atol=1e-12)


def square_loss(b: Tensor) -> Tensor:
    return torch.cos(b.flatten(1).cumsum(1)).prod(1)


def test_exact_for_rows_of_their_own_in_two_dimensions() -> None:
    s = 2 * normal(4, 2, 3, seed=0)
    rows = row_gradients(Exact(bits=6), square_loss, s)
    expected = torch.stack([true_gradient(square_loss, logits) for logits in s])
    assert torch.allclose(rows, expected, rtol=0, atol=1e-12)


def test_exact_keeps_small_differences_of_large_losses_in_float32() -> None:
    """Written as the sum of q (b - p) f, it would be wrong by 0.001 here."""

    def f(b: Tensor) -> Tensor:
        return b @ torch.tensor([1.0, 2.0, -3.0, 4.0, 5.0], dtype=b.dtype)

    s = 3 * normal(200, BITS, seed=1)
    rows = row_gradients(Exact(bits=BITS), lambda b: 10_000 + f(b), s.float())
    expected = torch.stack([true_gradient(f, logits) for logits in s])
    assert torch.allclose(rows.double(), expected, rtol=0, atol=1e-5)


def test_exact_names_its_limit() -> None:
    assert Exact(bits=16).evaluations(16) == 1 + 2**16
    with pytest.raises(ValueError, match=r"bits must be at most 16, got 17: .*estimator=mvd"):
        Exact(bits=17)
    with pytest.raises(ValueError, match="made for codes of 4 bits, got 5"):
        Exact(bits=4).loss(THETA[None], mlp)
    with pytest.raises(ValueError, match="bits"):
        Exact(bits=0)


@pytest.mark.parametrize("loss", LOSSES)
def test_local_expectations_by_enumeration(monkeypatch: pytest.MonkeyPatch, loss: str) -> None:
    mean, variance = over_codes(monkeypatch, LocalExpectation(), LOSSES[loss])
    assert torch.allclose(mean, true_gradient(LOSSES[loss]), rtol=0, atol=1e-12)
    if loss == "linear":
        assert variance.abs().max() < 1e-25


@pytest.mark.parametrize("p", [0.02, 0.5, 0.85])
def test_one_bit_has_no_other_bits_to_vary(monkeypatch: pytest.MonkeyPatch, p: float) -> None:
    s = torch.tensor([p], dtype=torch.float64).logit()
    mean, variance = over_codes(monkeypatch, LocalExpectation(), lambda b: b.exp().sum(1), s)
    assert mean.item() == pytest.approx(p * (1 - p) * (torch.e - 1), abs=1e-15)
    assert variance.item() == pytest.approx(0, abs=1e-30)


@pytest.mark.parametrize("loss", LOSSES)
def test_bitflip_by_enumeration(monkeypatch: pytest.MonkeyPatch, loss: str) -> None:
    """Of all codes with all choices of a bit; only the chosen bit gets a gradient."""
    pairs = torch.cartesian_prod(torch.arange(len(CODES)), torch.arange(BITS))
    chosen = (pairs[:, 1] + 0.5) / BITS
    monkeypatch.setattr("stelab.estimators.enumeration.uniform", lambda *_, **__: chosen)
    estimator = BitFlip()
    monkeypatch.setattr(estimator, "sample", lambda s, generator: CODES[pairs[:, 0]])
    rows = row_gradients(estimator, LOSSES[loss], THETA.expand(len(pairs), -1))
    mean, _ = moments(rows, law(torch.sigmoid(THETA))[pairs[:, 0]] / BITS)
    assert torch.allclose(mean, true_gradient(LOSSES[loss]), rtol=0, atol=1e-12)
    tried = torch.nn.functional.one_hot(pairs[:, 1], BITS).bool()
    assert (rows[~tried] == 0).all()


def test_bitflip_tries_every_bit() -> None:
    rows = estimates(BitFlip(), lambda b: b.sum(1), n=50_000)
    frequency = (rows != 0).double().mean(0)
    assert ((frequency - 0.2).abs() < 4 * (0.2 * 0.8 / 50_000) ** 0.5).all()


def test_the_difference_of_one_bit() -> None:
    bits, index = codes(3), torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])

    def f(b: Tensor) -> Tensor:
        return b @ torch.tensor([1.0, 10.0, 100.0], dtype=torch.float64)

    difference = flip_difference(f, bits, f(bits), index)
    assert difference.tolist() == [1, 10, 100, 1, 10, 100, 1, 10]
    assert torch.equal(bits, codes(3))  # flipped on a copy
