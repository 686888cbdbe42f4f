"""Philox4x32-10 against its known answers, and a source of what steps draw."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch._dynamo.testing import CompileCounterWithBackend

from stelab import Philox
from stelab.philox import in_unit_interval, philox4x32
from stelab.randomness import exponential, uniform

# Random123, tests/kat_vectors: four words of the counter, two of the key, four that come out.
KNOWN_ANSWERS = """
00000000 00000000 00000000 00000000 00000000 00000000 6627e8d5 e169c58d bc57ac4c 9b00dbd8
ffffffff ffffffff ffffffff ffffffff ffffffff ffffffff 408f276d 41c83b0e a20bc7c6 6d5451fd
243f6a88 85a308d3 13198a2e 03707344 a4093822 299f31d0 d16cfe09 94fdcceb 5001e420 24126ea1
"""
DEVICES = ["cpu", *(["cuda"] if torch.cuda.is_available() else [])]


def pair(high: int, low: int) -> int:
    """Two words as the int64 that holds them."""
    return ((high << 32 | low) + 2**63) % 2**64 - 2**63


@pytest.mark.parametrize("line", KNOWN_ANSWERS.split("\n")[1:-1])
@pytest.mark.parametrize("device", DEVICES)
def test_known_answers(line: str, device: str) -> None:
    c0, c1, c2, c3, k0, k1, *answer = (int(word, 16) for word in line.split())
    counters = torch.tensor([[pair(c0, c1)] * 3, [pair(c2, c3)] * 3], device=device)
    expected = torch.tensor([[pair(*answer[:2])] * 3, [pair(*answer[2:])] * 3])
    for key in (pair(k1, k0), torch.tensor(pair(k1, k0), device=device)):
        assert torch.equal(philox4x32(counters, key).cpu(), expected)


@pytest.mark.parametrize("device", DEVICES)
def test_the_first_numbers_are_those_of_the_first_answer(device: str) -> None:
    words = [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]
    u = uniform(torch.zeros(4, device=device), generator=Philox(0, 0))
    assert u.tolist() == torch.tensor([(w + 0.5) / 2**32 for w in words]).tolist()
    u = uniform(torch.zeros(2, device=device, dtype=torch.float64), generator=Philox(0, 0))
    top = [(words[0] << 20) + (words[1] >> 12), (words[2] << 20) + (words[3] >> 12)]
    assert u.tolist() == [(k + 0.5) / 2**52 for k in top]


def test_a_bit_is_1_with_its_probability() -> None:
    """Of all words, counted: float32 numbers are in the words' order, so a bisection finds them."""

    def count_below(p: float) -> int:
        least, most = 0, 2**32
        while least < most:
            middle = (least + most) // 2
            below = in_unit_interval(torch.tensor(middle)) < torch.tensor(p)
            least, most = (middle + 1, most) if below else (least, middle)
        return least

    for p in (2.0**-33, 1e-8, 2.0**-24, 1e-3, 0.1, 0.25, 0.5, 0.7, 0.999, 1 - 2.0**-24):
        rounded = torch.tensor(p).item()
        assert abs(count_below(p) / 2**32 - rounded) <= 2**-24
        if p < 2**-8:
            assert abs(count_below(p) / 2**32 - rounded) <= 2**-32
    assert count_below(0.0) == 0
    assert count_below(1.0) == 2**32


def test_all_laws_are_finite_at_the_edges(monkeypatch: pytest.MonkeyPatch) -> None:
    edges = torch.tensor([0, -1]).expand(2, 2)  # words of zeros, words of ones
    monkeypatch.setattr("stelab.philox.philox4x32", lambda counters, key: edges)
    for dtype in (torch.float16, torch.float32, torch.float64):
        like = torch.zeros(2, dtype=dtype)
        u = uniform(like, generator=Philox(0, 0))
        assert u.dtype == torch.promote_types(dtype, torch.float32)
        assert (u > 0).all()
        assert (u < 1).all()
        assert torch.logit(u).isfinite().all()
        e = exponential(like, generator=Philox(0, 0))
        assert (e > 0).all()
        assert e.log().isfinite().all()


def test_numbers_are_of_their_seed_step_stream_draw_and_position_alone() -> None:
    def draw(source: Philox, *shape: int) -> Tensor:
        return uniform(torch.zeros(shape), generator=source)

    source = Philox(3, 5, 1)
    first, second = draw(source, 9, 7), draw(source, 9, 7)
    again = Philox(torch.tensor(3), torch.tensor(5), torch.tensor(1))
    assert torch.equal(draw(again, 11, 7)[:9], first)  # of whatever shape
    assert torch.equal(draw(again, 63).reshape(9, 7), second)
    assert draw(Philox(3, 5, 1), 0, 7).shape == (0, 7)
    assert draw(Philox(3, 5, 1)).item() == first[0, 0]
    sources = [Philox(*numbers) for numbers in itertools.product((0, 1), repeat=3)]
    words = [source._next(500, torch.device("cpu")) for source in sources for _ in range(3)]
    assert torch.stack(words).unique().numel() == 8 * 3 * 2 * 500


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_drawn_numbers_are_uniform(dtype: torch.dtype) -> None:
    u = uniform(torch.zeros(2**18, dtype=dtype), generator=Philox(0, 0)).double()
    for law, mean, variance in ((u, 1 / 2, 1 / 12), (u.square(), 1 / 3, 4 / 45)):
        assert abs(law.mean() - mean) < 4 * math.sqrt(variance / 2**18)
    neighbours = (u[1:] - 0.5) * (u[:-1] - 0.5)
    assert abs(neighbours.mean()) < 4 / 12 / math.sqrt(2**18)


def of_runs(seed: Tensor, step: Tensor) -> Tensor:
    source = Philox(seed, step, 2)
    like = torch.zeros(5, 3)
    return torch.stack([uniform(like, generator=source), exponential(like, generator=source)])


def test_stacked_is_alone() -> None:
    seeds, steps = torch.tensor([0, 1, 2**40]), torch.tensor([7, 7, 8])
    stacked = torch.func.vmap(of_runs)(seeds, steps)
    alone = [of_runs(seed, step) for seed, step in zip(seeds, steps, strict=True)]
    assert torch.equal(stacked, torch.stack(alone))
    same_step = torch.func.vmap(of_runs, in_dims=(0, None))(seeds, steps[0])
    assert torch.equal(same_step[:2], stacked[:2])
    same_seed = torch.func.vmap(of_runs, in_dims=(None, 0))(seeds[1], steps)
    assert torch.equal(same_seed[1], stacked[1])


def test_compiled_once_it_draws_for_every_step() -> None:
    counter = CompileCounterWithBackend("aot_eager")
    compiled: Callable[..., Tensor] = torch.compile(of_runs, backend=counter, fullgraph=True)
    for seed, step in ((0, 0), (0, 1), (5, 2)):
        numbers = torch.tensor(seed), torch.tensor(step)
        assert torch.equal(compiled(*numbers), of_runs(*numbers))
    assert counter.frame_count == 1
    torch._dynamo.reset()


def test_shapes_are_known_without_numbers() -> None:
    u = uniform(torch.zeros(6, 5, device="meta"), generator=Philox(0, 0))
    assert u.device.type == "meta"
    assert u.shape == (6, 5)


def test_it_shows_where_it_is() -> None:
    draws = Philox(3, 7, 1)
    draws.uniform(torch.Size([2]), dtype=torch.float32, device=torch.device("cpu"))
    assert repr(draws) == "Philox(3, 7, 1), 1 draws"
