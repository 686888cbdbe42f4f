"""The interface every gradient estimator implements, and the step they all share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Generator, Tensor, nn
from torch.autograd import Function
from torch.optim import Adam, Optimizer

PerExampleLoss = Callable[[Tensor], Tensor]
"""Maps bits of shape ``(batch, *code_shape)`` to one loss per example, shape ``(batch,)``."""

Exactness = Literal["biased", "exact for linear", "exact for quadratic", "unbiased"]
"""The largest family of losses for which the mean of the estimate is the gradient."""

Randomness = Literal["none", "bits", "noise"]
"""What an estimate depends on besides `s`: nothing, the bits, or more noise than the bits."""


def step(s: Tensor) -> Tensor:
    """Compute ``b = 1[s > 0]``, 0 at equality (and at NaN), in the shape and dtype of `s`."""
    return (s > 0).to(s.dtype)


class _Through(Function):
    """Forward: the given bits. Backward: the gradient times the given derivative.

    An autograd Function returns the bits themselves; the usual ``s + (b - s).detach()`` rounds.
    Written with `setup_context`, so that `torch.func` transforms and `vmap` work through it.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(s: Tensor, bits: Tensor, derivative: Tensor) -> Tensor:
        return bits.to(s.dtype, copy=True)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(inputs[2])

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        (derivative,) = ctx.saved_tensors
        return g * derivative, None, None


def through(s: Tensor, bits: Tensor, derivative: Tensor) -> Tensor:
    """Return `bits`; backward, let the gradient through to `s`, times `derivative`, elementwise."""
    return _Through.apply(s, bits, derivative)


class Estimator(nn.Module):
    """A forward law (step or Bernoulli) and a rule for the gradient with respect to `s`.

    A subclass writes `forward`. An estimator that evaluates the loss more than once overrides
    `loss` as well; training, measurement and reproduction all go through `loss`.

    Attributes:
        exactness: For which losses the mean of the estimate is the gradient.
        randomness: What an estimate depends on besides `s`. Where that is the bits alone, their
            enumeration gives its mean and variance exactly.
        relaxed: Whether training sees values between 0 and 1; evaluation sees bits all the same.
        learning_rate: Of `variance_optimizer`; estimators that have one take it as an argument.
    """

    exactness: Exactness = "biased"
    randomness: Randomness = "none"
    relaxed = False
    learning_rate = 1e-3

    def forward(
        self, s: Tensor, *, bits: Tensor | None = None, generator: Generator | None = None
    ) -> Tensor:
        """Binarize the centred pre-activation.

        Args:
            s: Centred pre-activation (logit) ``x - theta``, shape ``(batch, *code_shape)``.
            bits: Take these instead of computing or drawing them; the gradient rule is the same.
                Enumerating codes therefore runs the code that trains.
            generator: Source of randomness of stochastic estimators; deterministic ones ignore it.

        Returns:
            Bits in {0, 1}, shape and dtype of `s`, differentiable by this estimator's rule.
        """
        raise NotImplementedError(
            f"{type(self).__name__} must define forward(s, *, bits, generator)"
        )

    def loss(self, s: Tensor, f: PerExampleLoss, *, generator: Generator | None = None) -> Tensor:
        """Evaluate ``mean_i f(b)_i``, a scalar whose gradient with respect to `s` is the estimate.

        With respect to the parameters inside `f` the gradient is the ordinary one.

        Args:
            s: Centred pre-activation, shape ``(batch, *code_shape)``.
            f: Loss of every example as a function of the bits.
            generator: As in `forward`.
        """
        return f(self(s, generator=generator)).mean()

    def probability(self, s: Tensor) -> Tensor:
        r"""Return P(b = 1) of the smoothed problem whose gradient is estimated, given `s`.

        A step behind logistic noise, :math:`\sigma(s)`, unless a subclass knows better.
        Stochastic estimators draw bits with it. Where the backward pass of a deterministic one is
        the density of another noise, this is that noise's distribution function.
        """
        return torch.sigmoid(s)

    def evaluations(self, bits: int) -> int:
        """Return how often `loss` evaluates f, for codes of so many bits."""
        return 1

    def variance_optimizer(self) -> Optimizer | None:
        """Return what trains the parameters that only lower the variance, or None without any.

        They take no gradient from the model's loss (``requires_grad`` is false, so optimizers of
        the model and DDP pass them by); `loss` leaves the gradient of their own objective in
        ``.grad``, and whoever trains calls ``step()`` after it.
        """
        parameters = [p for p in self.parameters() if not p.requires_grad]
        return Adam(parameters, lr=self.learning_rate) if parameters else None

    def clipped(self, grad: Tensor) -> Tensor:
        """Mark the entries of `grad`, the gradient at the bits, that this estimator clamps.

        Returns:
            Booleans in the shape of `grad`; all false unless the estimator clips gradients.
        """
        return torch.zeros_like(grad, dtype=torch.bool)
