"""The binary layer inside other people's networks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.multiprocessing.spawn import spawn

from stelab import Binarizer
from stelab.estimators import (
    ApproxSign,
    DisARM,
    Estimator,
    HardtanhClip,
    Identity,
    PerExampleLoss,
)
from stelab.thresholds import FixedThreshold, LearnedThreshold


def network() -> nn.Sequential:
    torch.manual_seed(0)
    layer = Binarizer(
        threshold=LearnedThreshold(channels=8, init=0.1), estimator=HardtanhClip(bound=0.05)
    )
    return nn.Sequential(nn.Linear(4, 8), layer, nn.Linear(8, 3))


def gradients(net: Any, x: Tensor) -> list[Tensor]:
    net.zero_grad()
    net(x).square().sum(1).mean().backward()
    return [p.grad.clone() for p in net.parameters() if p.grad is not None]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_keeps_bits_exact_and_trains(dtype: torch.dtype) -> None:
    net = network()
    x = torch.randn(16, 4)
    with torch.autocast("cpu", dtype=dtype):
        hidden = net[0](x)
        bits = net[1](hidden)
        out = net[2](bits)
    assert bits.dtype == hidden.dtype == dtype
    assert ((bits == 0) | (bits == 1)).all()
    out.float().square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


def test_float64() -> None:
    net = network().double()
    x = torch.randn(16, 4, dtype=torch.float64)
    assert net[1](net[0](x)).dtype == torch.float64
    assert all(g.dtype == torch.float64 for g in gradients(net, x))


def test_compiled_equals_eager() -> None:
    net, x = network(), torch.randn(16, 4)
    compiled = torch.compile(net, backend="aot_eager", fullgraph=True)
    for mine, theirs in zip(gradients(net, x), gradients(compiled, x), strict=True):
        assert torch.allclose(mine, theirs, rtol=0, atol=1e-6)
    torch._dynamo.reset()


def test_vmap_over_the_batch() -> None:
    layer = Binarizer(threshold=FixedThreshold(value=0.2), estimator=Identity())
    x = torch.randn(5, 6, 3)
    assert torch.equal(torch.func.vmap(layer)(x), layer(x))
    grad = torch.func.grad(lambda x: (layer(x) * x).sum())
    assert torch.equal(torch.func.vmap(grad)(x), grad(x))


def test_loss_goes_through_the_estimator() -> None:
    layer = Binarizer(threshold=FixedThreshold(value=0.0), estimator=HardtanhClip(bound=1e-3))
    x = torch.randn(4, 3, requires_grad=True)
    layer.loss(x, lambda b: 100 * b.sum(1)).backward()
    assert x.grad is not None
    assert torch.equal(x.grad, torch.full((4, 3), 1e-3))


def test_losses_go_through_the_estimator_example_by_example() -> None:
    layer = Binarizer(threshold=FixedThreshold(value=0.0), estimator=HardtanhClip(bound=1e-3))
    x = torch.randn(4, 3, requires_grad=True)
    losses = layer.losses(x, lambda b: 100 * b.sum(1))
    assert torch.equal(losses, 100 * (x > 0).float().sum(1))
    losses[1].backward()
    assert x.grad is not None
    assert torch.equal(x.grad, 1e-3 * torch.eye(4)[1][:, None].expand(4, 3))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_signed_is_exactly_minus_one_or_one_and_doubles_the_gradient(dtype: torch.dtype) -> None:
    threshold, estimator = FixedThreshold(value=0.25), ApproxSign()
    plain = Binarizer(threshold=threshold, estimator=estimator)
    signed = Binarizer(threshold=threshold, estimator=estimator, signed=True)
    x, g = torch.randn(64, 3).to(dtype).requires_grad_(), torch.randn(64, 3).to(dtype)
    assert signed(x).dtype == dtype
    assert torch.equal(signed(x), torch.where(x > 0.25, 1, -1).to(dtype))
    (double,) = torch.autograd.grad(signed(x), x, g)
    (single,) = torch.autograd.grad(plain(x), x, g)
    assert torch.equal(double, 2 * single)
    assert "signed=True" in repr(signed)


@pytest.mark.parametrize("estimator", [ApproxSign(), DisARM()], ids=lambda e: type(e).__name__)
def test_signed_losses_see_minus_one_and_one(estimator: Estimator) -> None:
    threshold = FixedThreshold(value=0.25)
    plain = Binarizer(threshold=threshold, estimator=estimator)
    signed = Binarizer(threshold=threshold, estimator=estimator, signed=True)
    x = torch.randn(8, 3, requires_grad=True)
    seen: list[Tensor] = []

    def f(v: Tensor) -> Tensor:
        seen.append(v.detach())
        return v.cumsum(1).cos().sum(1)

    def run(layer: Binarizer, f: PerExampleLoss) -> tuple[Tensor, ...]:
        losses = layer.losses(x, f, generator=torch.Generator().manual_seed(0))
        loss = layer.loss(x, f, generator=torch.Generator().manual_seed(0))
        return losses, *torch.autograd.grad(losses.sum() + loss, x)

    first, second = run(signed, f), run(plain, lambda b: f(2 * b - 1))
    assert all(map(torch.equal, first, second))
    assert set(torch.cat(seen).flatten().tolist()) == {-1, 1}


def _worker(rank: int, folder: str) -> None:
    dist.init_process_group(
        "gloo", init_method=f"file://{folder}/rendezvous", rank=rank, world_size=2
    )
    net = nn.parallel.DistributedDataParallel(network())
    x = torch.load(f"{folder}/x.pt")
    torch.save(gradients(net, x[rank::2]), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


def test_ddp_averages_to_the_gradient_of_one_process(tmp_path: Path) -> None:
    x = torch.randn(16, 4)
    torch.save(x, tmp_path / "x.pt")
    spawn(_worker, args=(str(tmp_path),), nprocs=2)
    first, second = torch.load(tmp_path / "0.pt"), torch.load(tmp_path / "1.pt")
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    halves = [gradients(network(), x[rank::2]) for rank in range(2)]
    for got, *parts in zip(first, *halves, strict=True):
        assert torch.allclose(got, (parts[0] + parts[1]) / 2, rtol=0, atol=1e-6)
