r"""The interface every categorical gradient estimator implements, and what they share.

Words: the logits l give the probabilities :math:`\pi = \mathrm{softmax}(l)`, D is the one-hot
drawn from them, :math:`g = \partial L/\partial D`. The Jacobian of the softmax, as a function of
its value q, is :math:`J(q)\,g = q \odot (g - q \cdot g)`.
"""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from stelab.arguments import show_arguments
from stelab.estimators.backward import HardForward, once, require_shape, scalar, wide
from stelab.estimators.base import Exactness, evaluate, require_batch
from stelab.randomness import Source, exponential

PerExampleLoss = Callable[[Tensor], Tensor]
"""Maps one-hots of shape ``(batch, ..., K)`` to one loss per example, shape ``(batch,)``."""

Randomness = Literal["sample", "noise"]
"""What an estimate depends on besides the logits: the one-hot, or more noise than the one-hot."""

Mixture = Sequence[tuple[float | Tensor, Tensor]]
"""Weights and probabilities, shape ``(..., K)`` or, to be averaged, ``(n, ..., K)``."""


def jacobian_product(q: Tensor, g: Tensor) -> Tensor:
    r"""Compute :math:`J(q)\,g` along the last dimension."""
    return q * (g - (q * g).sum(-1, keepdim=True))


def log_probabilities(logits: Tensor) -> Tensor:
    r"""Compute :math:`\log\pi`; a logit of +inf is that of the class, as inf - inf would not be."""
    return logits.clamp_max(torch.finfo(logits.dtype).max).log_softmax(-1)


def one_hot(index: Tensor, like: Tensor) -> Tensor:
    """Return the one-hots of `index`, in the shape and dtype of `like`."""
    classes = torch.arange(like.shape[-1], device=like.device)
    return (index.unsqueeze(-1) == classes).to(like.dtype)


class _JacobianMixture(HardForward):
    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        logits, _, *mixture = inputs
        ctx.save_for_backward(logits, *mixture)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        logits, *mixture = ctx.saved_tensors
        total = torch.zeros_like(g)
        for weight, q in zip(mixture[::2], mixture[1::2], strict=True):
            product = jacobian_product(q, g)
            total = total + weight * (product.mean(0) if product.dim() > g.dim() else product)
        return once(total.to(g.dtype), logits), None, *(None for _ in mixture)


class CategoricalEstimator(nn.Module):
    """A draw from a categorical law and a rule for the gradient with respect to its logits.

    A subclass writes `forward`, or derives from `SoftmaxJacobians`.

    What holds for all of them:

    - Half precision and arguments: as for `stelab.estimators.Estimator`.
    - Edges: an infinite logit has a finite gradient, -inf excludes its class, +inf the others.
      Where a logit is NaN, so is the gradient of its one-hot, and that of no other.
    - An empty batch has an empty gradient, no losses, and a loss of NaN, the mean of nothing.
    - Second derivatives raise RuntimeError: the gradient is an estimate, and has none of its own.

    Attributes:
        exactness: For which losses the mean of the estimate is the gradient.
        randomness: What an estimate depends on besides the logits. Where that is the one-hot
            alone, enumerating the classes gives its mean and variance exactly.
    """

    exactness: Exactness = "biased"
    randomness: Randomness = "sample"
    extra_repr = show_arguments

    def forward(
        self, logits: Tensor, *, sample: Tensor | None = None, generator: Source | None = None
    ) -> Tensor:
        """Draw one-hots in training mode; in evaluation mode take the largest logit.

        Args:
            logits: Unnormalized log-probabilities, shape ``(..., K)``; -inf excludes a class.
            sample: Take these one-hots, in the shape of `logits`, instead of drawing them; the
                gradient rule is the same. Enumerating classes therefore runs the code that trains.
            generator: Source of randomness.

        Returns:
            One-hots in {0, 1}, shape and dtype of `logits`, differentiable by this estimator's
            rule.

        Raises:
            ValueError: `logits` has no classes, or `sample` another shape.
        """
        raise NotImplementedError(
            f"{type(self).__name__} must define forward(logits, *, sample, generator)"
        )

    def loss(self, logits: Tensor, f: PerExampleLoss, *, generator: Source | None = None) -> Tensor:
        """Evaluate ``mean_i f(D)_i``, a scalar whose gradient at `logits` is the estimate.

        With respect to the parameters inside `f` the gradient is the ordinary one.

        Args:
            logits: As in `forward`, shape ``(batch, ..., K)``.
            f: Loss of every example as a function of the one-hots.
            generator: As in `forward`.

        Raises:
            ValueError: `logits` has no batch dimension, or f returns anything but ``(batch,)``.
        """
        return self.losses(logits, f, generator=generator).mean()

    def losses(
        self, logits: Tensor, f: PerExampleLoss, *, generator: Source | None = None
    ) -> Tensor:
        """Evaluate ``f(D)_i`` for every example, ``(batch,)``; their gradients are the estimates.

        The gradient of a weighted sum of them is, at each example's logits, its weight times its
        estimate, and for the parameters inside `f` the ordinary one. `loss` is the mean.

        Arguments and errors: see `loss`.
        """
        require_batch(logits, at_least=2)
        return evaluate(f, self(logits, generator=generator))

    def take(self, logits: Tensor, sample: Tensor | None, generator: Source | None) -> Tensor:
        """Return the given one-hots in the dtype of `logits`, or without any draw some.

        Raises:
            ValueError: `logits` has no classes, or `sample` another shape.
        """
        if not logits.dim() or not logits.shape[-1]:
            raise ValueError(
                "logits must have a class or more in their last dimension, got shape "
                f"{tuple(logits.shape)}"
            )
        if sample is None:
            return self.draw(logits, generator=generator)
        require_shape(sample, logits, "sample")
        return sample.to(logits.dtype)

    def draw(self, logits: Tensor, *, generator: Source | None) -> Tensor:
        """Draw one-hots in training mode; in evaluation mode take the largest logit."""
        logits = logits.detach()
        if not self.training:
            return one_hot(logits.argmax(-1), logits)
        race = logits - exponential(logits, generator=generator).log()
        return one_hot(race.argmax(-1), logits)


class SoftmaxJacobians(CategoricalEstimator):
    r"""Backward: :math:`\sum_m c_m\,J(q_m)\,g`; a subclass defines the mixture of c and q."""

    def mixture(self, log_pi: Tensor, sample: Tensor, *, generator: Source | None) -> Mixture:
        r"""Return the weights c and the probabilities q, in the dtype of `log_pi`.

        Args:
            log_pi: :math:`\log\pi`, detached, in float32 or wider, shape ``(..., K)``.
            sample: D, in the shape and dtype of `log_pi`.
            generator: Source of noise beyond D.
        """
        raise NotImplementedError(
            f"{type(self).__name__} must define mixture(log_pi, sample, *, generator)"
        )

    def forward(
        self, logits: Tensor, *, sample: Tensor | None = None, generator: Source | None = None
    ) -> Tensor:
        """See `CategoricalEstimator.forward`."""
        sample = self.take(logits, sample, generator)
        log_pi = log_probabilities(wide(logits.detach()))
        mixture = self.mixture(log_pi, wide(sample), generator=generator)
        flat = (tensor for weight, q in mixture for tensor in (scalar(weight, q), q))
        return _JacobianMixture.apply(logits, sample, *flat)
