"""Several binary layers: the nested rule against enumeration, and against backpropagation."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import pytest
import torch
from members import MULTI, ONE_PASS, build, fresh, generator
from oracles import codes, normal, z_scores
from torch import Tensor, nn

from stelab import Binarizer, Chain
from stelab.estimators import (
    ARM,
    DisARM,
    Estimator,
    Exact,
    Identity,
    LeaveOneOut,
    MuProp,
    Rebar,
)
from stelab.thresholds import FixedThreshold

FIRST, SECOND = 3, 2  # bits
LAST = [name for name in MULTI if fresh(name).differentiates]
ANYWHERE = [name for name in MULTI if name not in LAST]
N_ROWS = 20_000
Term = Callable[[int, Tensor, tuple[Tensor, ...]], Tensor]


def layer(make: nn.Module, estimator: Estimator) -> tuple[nn.Module, Binarizer]:
    return make, Binarizer(threshold=FixedThreshold(value=0.25), estimator=estimator)


class Rows(nn.Module):
    """A linear layer with weights of its own for every example: the gradients are its estimates."""

    def __init__(self, n: int):
        super().__init__()
        self.weight = nn.Parameter(normal(SECOND, FIRST, seed=20).expand(n, -1, -1).clone())
        self.bias = nn.Parameter(normal(SECOND, seed=21).expand(n, -1).clone())

    def forward(self, bits: Tensor) -> Tensor:
        return torch.einsum("nij,nj->ni", self.weight, bits) + self.bias


def f(bits: tuple[Tensor, ...]) -> Tensor:
    """A function of both layers that neither can be had from without the other."""
    first, second = bits
    both = torch.cat([first, second], dim=1)
    return torch.tanh(both @ normal(FIRST + SECOND, 8, seed=22)) @ normal(8, seed=23)


def kl(index: int, s: Tensor, bits: tuple[Tensor, ...]) -> Tensor:
    """Something analytic of each layer, the second's depends on the first's bits twice."""
    p = torch.sigmoid(s)
    prior = 0.3 if index == 0 else 0.2 + 0.6 * bits[0][:, :1]
    return (p * (p / prior).log() + (1 - p) * ((1 - p) / (1 - prior)).log()).sum(1)


def nothing(index: int, s: Tensor, bits: tuple[Tensor, ...]) -> Tensor:
    return torch.zeros(len(s), dtype=s.dtype)


X = normal(FIRST, seed=24)


def q(bits: Tensor, s: Tensor) -> Tensor:
    p = torch.sigmoid(s)
    return torch.where(bits == 1, p, 1 - p).prod(1)


def true_gradients(term: Term) -> list[Tensor]:
    """The gradient of the expected loss for one example, by enumeration."""
    x, second = X.clone().requires_grad_(), Rows(1)
    s = (x - 0.25)[None]
    total = term(0, s, ()).sum()
    for b in codes(FIRST)[:, None]:
        s2 = second(b) - 0.25
        behind = term(1, s2, (b,)).sum()
        for c in codes(SECOND)[:, None]:
            behind = behind + q(c, s2) @ f((b, c))
        total = total + q(b, s) @ behind[None]
    return list(torch.autograd.grad(total, [x, second.weight, second.bias]))


def estimated_gradients(first: Estimator, second: Estimator, term: Term | None) -> list[Tensor]:
    """One estimate an example, of the input, the weights and the bias between the layers."""
    x, rows = X.expand(N_ROWS, -1).clone().requires_grad_(), Rows(N_ROWS)
    chain = Chain(layer(nn.Identity(), first), layer(rows, second))
    chain.losses(x, f, term=term, generator=generator(5)).sum().backward()
    grads = [x.grad, rows.weight.grad, rows.bias.grad]
    return [grad for grad in grads if grad is not None]


def check_no_bias(first: Estimator, second: Estimator, term: Term | None = None) -> None:
    rows = estimated_gradients(first, second, term)
    expected = true_gradients(term or nothing)
    assert len(rows) == 3
    for mine, theirs in zip(rows, expected, strict=True):
        assert (mine.std(0) > 1e-4).all()
        assert (z_scores(mine, theirs.reshape(mine.shape[1:])).abs() < 4).all()


@pytest.mark.parametrize("name", ANYWHERE)
def test_any_first_layer_that_only_evaluates_has_no_bias(name: str) -> None:
    check_no_bias(build(name, FIRST), DisARM())


@pytest.mark.parametrize("name", MULTI)
def test_any_last_layer_has_no_bias(name: str) -> None:
    check_no_bias(ARM(), build(name, SECOND))


@pytest.mark.parametrize("names", [("exact", "exact"), ("disarm", "mvd"), ("loo", "muprop")])
def test_terms_are_added_where_each_layer_knows_them(names: tuple[str, str]) -> None:
    check_no_bias(build(names[0], FIRST), build(names[1], SECOND), term=kl)


def test_the_last_layers_estimate_has_no_bias_behind_a_biased_one() -> None:
    estimates = estimated_gradients(build("reinmax", FIRST), Exact(bits=SECOND), term=None)
    expected = true_gradients(nothing)
    biased, *of_second = (
        z_scores(mine, theirs.reshape(mine.shape[1:])).abs()
        for mine, theirs in zip(estimates, expected, strict=True)
    )
    assert all((z < 4).all() for z in of_second)
    assert (biased > 4).any()


def test_before_a_step_the_enumeration_of_the_first_layer_is_the_gradient() -> None:
    x, second = X[None].clone().requires_grad_(), Rows(1)
    chain = Chain(layer(nn.Identity(), Exact(bits=FIRST)), layer(second, Identity()))
    chain.losses(x, f, generator=generator()).sum().backward()
    leaf, total = X[None].clone().requires_grad_(), torch.zeros(1)
    for b in codes(FIRST)[:, None]:
        total = total + q(b, leaf - 0.25) * f((b, (second(b) > 0.25).double())).detach()
    (expected,) = torch.autograd.grad(total.sum(), leaf)
    assert torch.allclose(x.grad, expected, rtol=0, atol=1e-14)  # type: ignore[arg-type]


def test_behind_a_step_the_enumeration_of_the_last_layer_is_the_gradient() -> None:
    x, second = X[None], Rows(1)
    chain = Chain(layer(nn.Identity(), Identity()), layer(second, Exact(bits=SECOND)))
    losses = chain.losses(x, f, generator=generator()).sum()
    b = (x > 0.25).double()
    s2 = second(b) - 0.25
    total = sum(q(c, s2) @ f((b, c)) for c in codes(SECOND)[:, None])
    weights = [second.weight, second.bias]
    got, expected = torch.autograd.grad(losses, weights), torch.autograd.grad(total, weights)  # type: ignore[arg-type]
    for mine, theirs in zip(got, expected, strict=True):
        assert torch.allclose(mine, theirs, rtol=0, atol=1e-14)


def network(first: Estimator, second: Estimator) -> Chain:
    torch.manual_seed(1)
    return Chain(
        layer(nn.Linear(4, 6), first), layer(nn.Sequential(nn.Linear(6, 5), nn.Tanh()), second)
    )


@pytest.mark.parametrize("name", ONE_PASS)
def test_one_pass_estimators_chain_as_backpropagation_does(name: str) -> None:
    chain, head, x = network(fresh(name), fresh(name)), nn.Linear(11, 1), torch.randn(7, 4)

    def loss(bits: tuple[Tensor, ...]) -> Tensor:
        return head(torch.cat(bits, dim=1)).squeeze(1).square()

    def by_hand(generator: torch.Generator) -> Tensor:
        pairs: Any = chain.layers
        (first, one), (second, two) = pairs
        a = one(first(x), generator=generator)
        b = two(second(a), generator=generator)
        return loss((a, b))

    def gradients(losses: Tensor) -> tuple[Tensor, ...]:
        return torch.autograd.grad(losses.mean(), [*chain.parameters(), *head.parameters()])

    nested = chain.losses(x, loss, generator=generator())
    assert torch.equal(nested, by_hand(generator()))
    assert torch.equal(nested, loss(chain(x, generator=generator())))
    for mine, theirs in zip(gradients(nested), gradients(by_hand(generator())), strict=True):
        assert torch.equal(mine, theirs)


def test_one_layer_is_the_layer() -> None:
    x = torch.randn(6, 4, requires_grad=True)
    make, binarizer = layer(nn.Linear(4, 5), DisARM())
    chain = Chain((make, binarizer))
    losses = chain.losses(x, lambda bits: bits[0].cos().sum(1), generator=generator())
    alone = binarizer.losses(make(x), lambda bits: bits.cos().sum(1), generator=generator())
    assert torch.equal(losses, alone)
    (mine,) = torch.autograd.grad(losses.sum(), x)
    (theirs,) = torch.autograd.grad(alone.sum(), x)
    assert torch.equal(mine, theirs)


@pytest.mark.parametrize("name", ["disarm", "exact", "bernoulli_st"])
def test_a_generator_makes_it_reproducible(name: str) -> None:
    chain, x = network(build(name, 6), build(name, 5)), torch.randn(7, 4)
    before = torch.get_rng_state()

    def gradients(seed: int) -> list[Tensor]:
        chain.zero_grad()
        losses = chain.losses(x, lambda b: b[0].sum(1) * b[1].sum(1), generator=generator(seed))
        losses.sum().backward()
        return [p.grad.clone() for p in chain.parameters() if p.grad is not None]

    first, again, other = gradients(0), gradients(0), gradients(1)
    assert all(map(torch.equal, first, again))
    assert not all(map(torch.equal, first, other))
    assert torch.equal(torch.get_rng_state(), before)


def test_layers_of_one_shape_draw_bits_of_their_own() -> None:
    class Fair(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.full_like(x, 0.25)  # s = 0

    chain = Chain(layer(Fair(), ARM()), layer(Fair(), ARM()), layer(Fair(), ARM()))
    bits = chain(torch.zeros(2000, 8), generator=generator())
    for a, b in [(0, 1), (1, 2), (0, 2)]:
        agreement = (bits[a] == bits[b]).double().mean()
        assert abs(agreement - 0.5) < 4 * 0.5 / 16_000**0.5


def test_signed_layers_hand_on_minus_one_and_one() -> None:
    def signed(estimator: Estimator) -> Binarizer:
        return Binarizer(threshold=FixedThreshold(value=0.0), estimator=estimator, signed=True)

    class Seen(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            values.append(x)
            return x

    def loss(bits: tuple[Tensor, ...]) -> Tensor:
        values.extend(bits)
        return bits[1].sum(1)

    values: list[Tensor] = []
    chain = Chain((nn.Linear(4, 6), signed(DisARM())), (Seen(), signed(DisARM())))
    chain.losses(torch.randn(7, 4), loss)
    values.extend(chain(torch.randn(7, 4)))
    assert set(torch.cat(values).flatten().tolist()) == {-1, 1}


def test_f_is_evaluated_as_often_as_the_layers_multiply() -> None:
    calls = []

    def count(bits: tuple[Tensor, ...]) -> Tensor:
        calls.append(bits)
        return bits[1].sum(1)

    network(LeaveOneOut(samples=4), DisARM()).losses(torch.randn(3, 4), count)
    assert len(calls) == 4 * 2


@pytest.mark.parametrize("name", LAST)
def test_an_estimator_that_differentiates_stands_last(name: str) -> None:
    network(Identity(), build(name, 5))
    message = rf"only the last .* got {type(fresh(name)).__name__} \(layer 1 of 2\): take one"
    with pytest.raises(ValueError, match=message):
        network(build(name, 6), Identity())


def test_all_that_stand_too_early_are_named_at_once() -> None:
    rebar = Rebar(strength=1.0, temperature=1.0, learning_rate=1e-3)
    early = [layer(nn.Identity(), estimator) for estimator in (MuProp(), Identity(), rebar)]
    with pytest.raises(ValueError, match=r"MuProp \(layer 1 of 4\), Rebar \(layer 3 of 4\)"):
        Chain(*early, layer(nn.Identity(), MuProp()))
    with pytest.raises(ValueError, match="a chain needs a layer or more"):
        Chain()


def test_a_term_is_one_an_example() -> None:
    chain = network(Identity(), Identity())
    with pytest.raises(ValueError, match=r"term must return one loss an example, shape \(3,\)"):
        chain.losses(torch.randn(3, 4), lambda b: b[1].sum(1), term=lambda index, s, bits: s)


def test_copies_and_pickles() -> None:
    chain, x = network(DisARM(), Identity()), torch.randn(3, 4)
    for twin in (copy.deepcopy(chain), pickle.loads(pickle.dumps(chain))):
        assert repr(twin) == repr(chain)
        assert list(twin.state_dict()) == list(chain.state_dict())
        mine, theirs = twin(x, generator=generator()), chain(x, generator=generator())
        assert all(map(torch.equal, mine, theirs))
