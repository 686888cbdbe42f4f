"""The pieces of a step, by themselves: stelab's, and what a plain loop has in their place.

``python -m stelab.lab.bench.pieces THREADS SECONDS OVERRIDES...`` measures them on the CPU, and
prints JSON: microseconds by piece and whose it is, see `stelab.lab.bench.profile`.
"""

import json
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.benchmark import Timer

from stelab.engine.config import build, compose
from stelab.lab.bench.loops import Bits, plain
from stelab.lab.bench.profile import OURS, PLAIN, STEP
from stelab.lab.training import build_module
from stelab.lab.training.building import build_data, to_plain
from stelab.lab.training.finite import FiniteCheck
from stelab.lab.training.processes import EpochMeans

Piece = Callable[[], object]


def pieces(cfg: Any) -> dict[str, Piece]:
    """Return what is measured, by name: of the setting's own model, data, task and optimizer."""
    module, data = build_module(cfg), build_data(cfg)
    model, task = module.model, module.task
    batch = {"images": data.images("train")[: cfg.data.batch_size]}
    x = model.encoder(batch["images"]).detach().requires_grad_()
    code = model.binarizer(x)
    at_bits, output = torch.ones_like(x), model.decode(code).detach().requires_grad_()
    losses = task.losses(output, batch).detach()
    loss = losses.mean()
    optimizer = build(to_plain(cfg.optimizer), params=[*model.parameters()])
    finite = FiniteCheck(model, [optimizer], scaled=False)
    means = EpochMeans()

    def add_means() -> None:
        metrics = task.metrics(output, batch, losses)
        values = {name: value.detach().mean() for name, value in metrics.items()}
        means.add(len(losses), loss=loss, **values)

    def back(loss: Tensor) -> None:
        torch.autograd.grad(loss, output)

    steps = plain(build(cfg.model), cfg, data, torch.device("cpu"))
    return {
        f"layer {OURS}": lambda: torch.autograd.grad(model.binarizer(x), x, at_bits),
        f"layer {PLAIN}": lambda: torch.autograd.grad(Bits.apply(x), x, at_bits),
        f"loss {OURS}": lambda: back(task.losses(output, batch).mean()),
        f"loss {PLAIN}": lambda: back(F.mse_loss(output, batch["images"])),
        f"finite {OURS}": lambda: finite.add(loss, x, step=0, batch=batch),
        f"means {OURS}": add_means,
        f"{STEP} {PLAIN}": lambda: next(steps),
    }


def measure(piece: Piece, *, threads: int, seconds: float) -> float:
    """Return the median time of a call, in microseconds."""
    timer = Timer("piece()", globals={"piece": piece}, num_threads=threads)
    return float(timer.blocked_autorange(min_run_time=seconds).median * 1e6)


def main(threads: str, seconds: str, *overrides: str) -> None:
    """Measure all pieces, for so many seconds together."""
    torch.manual_seed(0)
    found = pieces(compose(*overrides))
    share = float(seconds) / len(found)
    values = {
        name: measure(piece, threads=int(threads), seconds=share) for name, piece in found.items()
    }
    print(json.dumps(values))


if __name__ == "__main__":
    main(*sys.argv[1:])
