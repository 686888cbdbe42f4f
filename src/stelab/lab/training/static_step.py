"""A training step as a function of tensors, to be compiled, or captured as a CUDA graph."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal, Protocol

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from stelab.engine.errors import InputError, first_line
from stelab.lab.data.datamodule import Batch
from stelab.philox import Philox

Kind = Literal["eager", "compiled", "graph"]
Taken = tuple[Tensor, Tensor, dict[str, Tensor]]
"""Of a batch: the loss, pre-activations, and the means of what is measured, 0-dimensional."""
Differentiated = tuple[Tensor, Tensor, dict[str, Tensor], tuple[Tensor | None, ...]]
"""The same without history, and the gradient."""


class Takes(Protocol):
    """What a step is taken of: a `TaskModule`."""

    seed: int

    def take(self, batch: Batch, generator: Philox) -> Taken:
        """Pass a batch; the loss has its history."""

    def parameters(self) -> Iterator[nn.Parameter]:
        """Return all, of which some are trained."""


class StaticStep:
    """The loss of a batch and its gradient as one function of tensors.

    What changes from step to step is in them: nothing of a step is built into a program of it. The
    gradient is taken inside, as estimators that differentiate the loss themselves ask for, and
    estimators' own averages are read before they move. Whatever the optimizer does comes after it.

    Args:
        module: What is trained.
        size: Images of a batch; the last one of an epoch, if it is smaller, is taken as ever.
    """

    def __init__(self, module: Takes, *, size: int):
        self.module = module
        self.size = size
        self.parameters = [p for p in module.parameters() if p.requires_grad]
        device = self.parameters[0].device
        # A tensor too, so that other seeds find the same program in the compiler's cache.
        self.seed = torch.tensor(module.seed, device=device)
        self.number = torch.zeros((), dtype=torch.long, device=device)

    def differentiate(self, batch: Batch, seed: Tensor, number: Tensor) -> Differentiated:
        """Return what `Takes.take` does, without history, and the gradient."""
        loss, x, values = self.module.take(batch, Philox(seed, number))
        with torch.autocast(loss.device.type, enabled=False):  # as where a trainer goes backward
            gradient = torch.autograd.grad(loss, self.parameters, allow_unused=True)
        laid_out = tuple(map(_laid_out_as, self.parameters, gradient))
        return loss.detach(), x.detach(), values, laid_out

    def run(self, batch: Batch) -> Differentiated:
        """Do it with the seed and the number of this step."""
        return self.differentiate(batch, self.seed, self.number)

    def __call__(self, batch: Batch, number: int) -> Taken:
        """Take step `number`, and keep the gradient for `backward`."""
        self.number.fill_(number)
        loss, x, values, self.gradient = self.run(batch)
        return loss, x, values

    def backward(self) -> None:
        """Leave the gradient where the optimizer looks for it."""
        for parameter, gradient in zip(self.parameters, self.gradient, strict=True):
            parameter.grad = gradient


def _laid_out_as(parameter: Tensor, gradient: Tensor | None) -> Tensor | None:
    """Return a gradient that lies in memory as its parameter does, as fused optimizers assume."""
    if gradient is None or gradient.stride() == parameter.stride():
        return gradient
    return torch.empty_like(parameter).copy_(gradient)


class CompiledStep(StaticStep):
    """One that `torch.compile` makes a program of."""

    def __init__(self, module: Takes, *, size: int, backend: str = "inductor"):
        super().__init__(module, size=size)
        # One program for a shape, whatever was seen before: a continued run has the same.
        options: dict[str, Any] = {"fullgraph": True, "dynamic": False, "backend": backend}
        self.program = torch.compile(self.differentiate, **options)

    def run(self, batch: Batch) -> Differentiated:
        """Run the program, which is made when it first runs."""
        made: Differentiated = self.program(batch, self.seed, self.number)
        return made


@contextmanager
def compiling(kind: Kind) -> Iterator[None]:
    """Have the compiler to oneself: a run's programs depend on no run before, nor stay behind."""
    if kind == "eager":
        yield
        return
    # It tells at length that this machine has no GPU.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    import torch._dynamo
    import torch._inductor.config as inductor

    torch._dynamo.reset()
    try:
        # In this process: a step is one program, so others would have nothing to compile.
        with torch._dynamo.config.patch(trace_autograd_ops=True), inductor.patch(compile_threads=1):
            yield
    finally:
        torch._dynamo.reset()


def require_possible(kind: Kind, trainer: pl.Trainer) -> None:
    """Raise InputError where this trainer, or this machine, cannot take such steps."""
    several = trainer.world_size > 1 or trainer.accumulate_grad_batches > 1
    scaled = getattr(trainer.precision_plugin, "scaler", None) is not None
    if several or scaled or trainer._detect_anomaly:
        raise InputError(
            f"trainer.step={kind} is for runs on one device, with trainer.precision other than "
            "16-mixed, trainer.accumulate_grad_batches=1 and trainer.detect_anomaly=false: change "
            "that, or take trainer.step=eager"
        )
    if kind == "graph" and (device := trainer.strategy.root_device.type) != "cuda":
        raise InputError(
            f"trainer.step=graph needs a CUDA GPU, and this run is on {device}: take trainer=gpu "
            "where there is one, or trainer.step=compiled or eager"
        )
    if kind == "compiled" and not any(shutil.which(name) for name in _compilers()):
        raise InputError(
            "trainer.step=compiled needs a C++ compiler, and there is none: install g++, name one "
            "in the variable CXX, or take trainer.step=eager"
        )


def _compilers() -> list[str]:
    from torch._inductor.config import cpp

    return [name for name in cpp.cxx if name]


def require_static(kind: Kind, module: Takes, batch: Batch) -> None:
    """Raise InputError unless a step is one program, which is traced but not compiled here."""
    from torch._dynamo.exc import TorchDynamoException

    # A captured step has the same limits: no number of the device decides what comes next.
    traced = CompiledStep(module, size=len(batch["images"]), backend="eager")
    try:
        traced(batch, 0)
    except TorchDynamoException as error:
        raise InputError(
            f"trainer.step={kind}: a step of this run is no program of tensors alone, which "
            f"trainer.step=eager does not ask for: {first_line(error)}"
        ) from error
