"""A static step and its update as CUDA graphs: captured once, and repeated without the host."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from stelab.lab.data.datamodule import Batch
from stelab.lab.training.static_step import Differentiated, StaticStep, Takes

_WARM_UP = 3  # steps before the one that is captured

# Checkpoints are written by another thread, which may use the GPU meanwhile.
_capturing = partial(torch.cuda.graph, capture_error_mode="thread_local")


class Captured:
    """What is computed of a batch, as a graph.

    At first it is computed as ever, on a stream of its own, while libraries set themselves up.

    Args:
        compute: Whatever else it reads has to lie where it is.
        device: Where.
    """

    def __init__(self, compute: Callable[[Batch], Any], device: torch.device):
        self.compute, self.device = compute, device
        self.left = _WARM_UP
        self.stream = torch.cuda.Stream(device)
        self.graph: torch.cuda.CUDAGraph | None = None
        self.batch: Batch = {}  # what the graph reads

    def __call__(self, batch: Batch) -> Any:
        """Repeat the graph with this batch; what it returns is overwritten by the next."""
        if not self.batch:
            self.batch = {name: part.clone() for name, part in batch.items()}
        for name, part in batch.items():
            self.batch[name].copy_(part)
        if self.left > 0:
            self.left -= 1
            return self._warm_up()
        if self.graph is None:
            self.graph = torch.cuda.CUDAGraph()
            with _capturing(self.graph):  # which computes nothing yet
                self.made = self.compute(self.batch)
        self.graph.replay()
        return self.made

    def _warm_up(self) -> Any:
        current = torch.cuda.current_stream(self.device)
        self.stream.wait_stream(current)
        with torch.cuda.stream(self.stream):
            made = self.compute(self.batch)
        current.wait_stream(self.stream)
        return made


class CapturedStep(StaticStep):
    """`StaticStep` as a graph."""

    def __init__(self, module: Takes, *, size: int):
        super().__init__(module, size=size)
        self.captured = Captured(super().run, self.number.device)

    def run(self, batch: Batch) -> Differentiated:
        """Repeat the graph with this batch."""
        made: Differentiated = self.captured(batch)
        return made


class CapturedUpdate:
    """What takes the place of a fused optimizer's ``step``: a graph, as long as it says the same.

    The graph has built in where gradients lie and all hyperparameters but the learning rates, which
    it reads on the device, where schedules write them. Where anything else moves, such as momentum,
    or gradients come to lie elsewhere, as those of an epoch's last batch, the optimizer steps as it
    would have by itself.

    Args:
        optimizer: Whose ``step`` it is, with the state that it continues with.
    """

    _wrapped_by_lr_sched = True  # else torch's schedules warn that they do not see steps

    def __init__(self, optimizer: Optimizer):
        self.optimizer = optimizer
        self.step: Callable[[], Any] = optimizer.step
        self.graph: torch.cuda.CUDAGraph | None = None
        self.last: list[Tensor | None] = []
        for group in optimizer.param_groups:
            device = group["params"][0].device
            group["lr"] = torch.as_tensor(group["lr"], dtype=torch.float32, device=device)
            if "capturable" in group:
                group["capturable"] = True

    def __call__(self, closure: Callable[[], Any]) -> Any:
        """Compute the gradients, and update."""
        loss = closure()
        gradients = [p.grad for group in self.optimizer.param_groups for p in group["params"]]
        stay = len(gradients) == len(self.last) and all(map(_is, gradients, self.last))
        if self.graph is None:
            self.last = gradients
            if stay:
                self.settings, self.graph = self._settings(), torch.cuda.CUDAGraph()
                with _capturing(self.graph):
                    self.step()
        if self.graph is not None and stay and self._settings() == self.settings:
            self.graph.replay()
        else:
            self.step()
        return loss

    def _settings(self) -> list[dict[str, Any]]:
        apart = {"params", "lr", "initial_lr"}
        groups = self.optimizer.param_groups
        return [{key: group[key] for key in group.keys() - apart} for group in groups]


def _is(one: Any, other: Any) -> bool:
    return one is other


def capture_update(optimizer: Optimizer) -> None:
    """Let a fused optimizer repeat its step as a graph; leave any other as it is."""
    if all(group.get("fused") for group in optimizer.param_groups):
        optimizer.__dict__["step"] = CapturedUpdate(optimizer)
