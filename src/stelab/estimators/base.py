"""The interface every gradient estimator implements, and the step they all share."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Generator, Tensor, nn

PerExampleLoss = Callable[[Tensor], Tensor]
"""Maps bits of shape ``(batch, *code_shape)`` to one loss per example, shape ``(batch,)``."""


def step(s: Tensor) -> Tensor:
    """Compute ``b = 1[s > 0]``, 0 at equality (and at NaN), in the shape and dtype of `s`."""
    return (s > 0).to(s.dtype)


class Estimator(nn.Module):
    """A forward law (step or Bernoulli) and a rule for the gradient with respect to `s`.

    A subclass writes `forward`. An estimator that evaluates the loss more than once overrides
    `loss` as well; training, measurement and reproduction all go through `loss`.
    """

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

    def clipped(self, grad: Tensor) -> Tensor:
        """Mark the entries of `grad`, the gradient at the bits, that this estimator clamps.

        Returns:
            Booleans in the shape of `grad`; all false unless the estimator clips gradients.
        """
        return torch.zeros_like(grad, dtype=torch.bool)
