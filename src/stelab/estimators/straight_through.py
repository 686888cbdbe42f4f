"""Straight-through estimators: a hard step forward, a rule on the incoming gradient backward.

References:
    [Bengio2013] Bengio, Léonard, Courville (2013), "Estimating or Propagating Gradients Through
    Stochastic Neurons for Conditional Computation", arXiv:1308.3432.
    [Askary2020] Askary (2020), "Intuitive Explanation of Straight-Through Estimators with PyTorch
    Implementation" (a tutorial).
"""

from typing import Any

import torch
from torch import Tensor

from stelab.arguments import Positive, checked
from stelab.estimators.backward import HardForward, hand_back, scalar
from stelab.estimators.base import Estimator
from stelab.randomness import Source


class _Step(HardForward):
    """Subclasses say what comes back."""

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        s, _, *hyperparameters = inputs
        ctx.save_for_backward(s, *hyperparameters)


class IdentityGradient(_Step):
    """Backward: the gradient itself."""

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        """See the class."""
        return hand_back(g, *ctx.saved_tensors), None


class _ClampedGradient(_Step):
    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        s, bound = ctx.saved_tensors
        return hand_back(g.clamp(-bound, bound), s), None, None


class _ZeroGradient(_Step):
    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        return hand_back(torch.zeros_like(g), *ctx.saved_tensors), None


class Identity(Estimator):
    r"""The straight-through estimator: the gradient passes as if the step were the identity.

    Forward: :math:`b = 1[s > 0]`. Backward: :math:`\partial L/\partial s = g` with
    :math:`g = \partial L/\partial b`.

    Biased. One evaluation of the loss a step, no randomness. [Bengio2013]
    """

    def forward(
        self, s: Tensor, *, bits: Tensor | None = None, generator: Source | None = None
    ) -> Tensor:
        """See `Estimator.forward`; `generator` is ignored."""
        return IdentityGradient.apply(s, bits)


class HardtanhClip(Estimator):
    r"""Straight-through with every entry of the *gradient* clamped.

    Forward: :math:`b = 1[s > 0]`. Backward: :math:`\partial L/\partial s = \max(-c, \min(c, g))`
    with the bound :math:`c`.

    It ignores `s`. Masking by :math:`|s| \le 1` is another estimator that also goes by the name
    of "hardtanh" (Hubara et al. 2016). Where all gradients are within the bound this one is
    bitwise `Identity`; the metric ``estimator/clip_fraction`` says how often they are not.

    Biased. One evaluation of the loss a step, no randomness. [Askary2020]

    Args:
        bound: The largest magnitude that passes, above 0.
    """

    @checked
    def __init__(self, *, bound: Positive):
        super().__init__()
        self.bound = bound

    def forward(
        self, s: Tensor, *, bits: Tensor | None = None, generator: Source | None = None
    ) -> Tensor:
        """See `Estimator.forward`; `generator` is ignored."""
        return _ClampedGradient.apply(s, bits, scalar(self.bound, s))

    def clipped(self, grad: Tensor) -> Tensor:
        """Mark the entries of `grad` that lie outside the bound."""
        return grad.abs() > self.bound


class ZeroGradient(Estimator):
    r"""The true derivative of the step: nothing passes, the encoder stays as it was initialized.

    Forward: :math:`b = 1[s > 0]`. Backward: :math:`\partial L/\partial s = 0`, exact zeros (not
    an absent gradient, so that optimizers and DDP still see the parameters).

    The baseline of a study: a decoder that learns on random features. Biased. One evaluation of
    the loss a step, no randomness. The zeros are why [Bengio2013] estimates.
    """

    def forward(
        self, s: Tensor, *, bits: Tensor | None = None, generator: Source | None = None
    ) -> Tensor:
        """See `Estimator.forward`; `generator` is ignored."""
        return _ZeroGradient.apply(s, bits)
