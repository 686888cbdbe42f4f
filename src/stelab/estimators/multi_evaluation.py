"""What estimators share that evaluate the loss, or differentiate it, more than once a step.

They return a gradient for `s`, not a rule for the one that arrives at the bits. An example's loss
must depend on its own bits only: batch norm behind the bits makes all of them biased.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Generator, Tensor
from torch.autograd import Function

from stelab.estimators.base import PerExampleLoss, Randomness
from stelab.estimators.bernoulli import Bernoulli


class _Graft(Function):
    """Forward: the value. Backward: its own gradient, and the given one for `s`."""

    generate_vmap_rule = True

    @staticmethod
    def forward(value: Tensor, s: Tensor, gradient: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(inputs[2])

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = ctx.saved_tensors
        return g, (g * gradient).to(gradient.dtype), None


class _NoRule(Function):
    """Forward: the given bits. Backward: there is none, and zeros would be a silent mistake."""

    generate_vmap_rule = True

    @staticmethod
    def forward(s: Tensor, bits: Tensor, name: str) -> Tensor:
        return bits.to(s.dtype, copy=True)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.name = inputs[2]

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        raise RuntimeError(
            f"{ctx.name} has no backward rule for its bits: it evaluates the loss itself. "
            "Train through binarizer.loss(x, f), with f the loss of every example given its bits"
        )


class MultiEvaluation(Bernoulli):
    """A multi-evaluation estimator; a subclass defines `estimate` and `evaluations`.

    An estimate needs drawn bits: `loss` draws them in evaluation mode, too.
    """

    exactness = "unbiased"
    randomness: Randomness = "noise"

    def estimate(
        self, s: Tensor, f: PerExampleLoss, *, generator: Generator | None
    ) -> tuple[Tensor, Tensor]:
        """Evaluate the loss and estimate its gradient.

        Args:
            s: Logits without history, float32 or wider.
            f: The loss of every example; keep its history for what is returned first only.
            generator: Source of randomness.

        Returns:
            The losses of drawn bits, ``(batch,)``, with the history that trains f's parameters,
            and for every example the estimate of the gradient of its loss, in the shape of `s`.
        """
        raise NotImplementedError(f"{type(self).__name__} must define estimate(s, f, generator)")

    def forward(
        self, s: Tensor, *, bits: Tensor | None = None, generator: Generator | None = None
    ) -> Tensor:
        """See `Estimator.forward`; going backward through the bits raises RuntimeError."""
        bits = self.draw(s, generator=generator) if bits is None else bits
        return _NoRule.apply(s, bits, type(self).__name__)

    def loss(self, s: Tensor, f: PerExampleLoss, *, generator: Generator | None = None) -> Tensor:
        """See `Estimator.loss`."""
        wide = s.detach().to(torch.promote_types(s.dtype, torch.float32))
        losses, gradient = self.estimate(
            wide, lambda bits: f(bits.to(s.dtype)).to(wide.dtype), generator=generator
        )
        return _Graft.apply(losses.mean(), s, (gradient.detach() / len(s)).to(s.dtype))


def column(losses: Tensor, s: Tensor) -> Tensor:
    """Return the losses ``(batch,)`` in a shape that multiplies `s`, ``(batch, *code_shape)``."""
    return losses.reshape(-1, *(1,) * (s.dim() - 1))
