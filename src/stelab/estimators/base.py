"""The interface every gradient estimator implements, and the step they all share."""

from collections.abc import Callable
from typing import Literal

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from stelab.arguments import show_arguments
from stelab.estimators.backward import require_shape, wide
from stelab.randomness import Source

PerExampleLoss = Callable[[Tensor], Tensor]
"""Maps bits of shape ``(batch, *code_shape)`` to one loss per example, shape ``(batch,)``."""

Exactness = Literal["biased", "exact for linear", "exact for quadratic", "unbiased"]
"""The largest family of losses for which the mean of the estimate is the gradient."""

Randomness = Literal["none", "bits", "noise"]
"""What an estimate depends on besides `s`: nothing, the bits, or more noise than the bits."""


def step(s: Tensor) -> Tensor:
    """Compute ``b = 1[s > 0]``, 0 at equality (and at NaN), in the shape and dtype of `s`."""
    return (s > 0).to(s.dtype)


def require_batch(code: Tensor, *, at_least: int = 1) -> None:
    """Raise ValueError unless there is a batch dimension before the others, if there are any."""
    if code.dim() < at_least:
        raise ValueError(
            "a batch is needed, shape (batch, *code_shape), got a tensor of shape "
            f"{tuple(code.shape)}"
        )


def rows(code: Tensor) -> Tensor:
    """Return codes ``(batch, *code_shape)`` as rows ``(batch, bits)``."""
    require_batch(code)
    return code.flatten(1) if code.dim() > 1 else code.unsqueeze(1)


def evaluate(f: PerExampleLoss, bits: Tensor, name: str = "f") -> Tensor:
    """Return f's losses in float32 or wider, ``(batch,)``.

    Raises:
        ValueError: `bits` has no batch dimension, or f returns anything but one loss an example.
    """
    require_batch(bits)
    losses = f(bits)
    if losses.shape != bits.shape[:1]:
        raise ValueError(
            f"{name} must return one loss an example, shape ({len(bits)},), got "
            f"{tuple(losses.shape)}: reduce over everything but the batch"
        )
    return wide(losses)


class Estimator(nn.Module):
    """A forward law (step or Bernoulli) and a rule for the gradient with respect to `s`.

    A subclass writes `forward`. An estimator that evaluates the loss more than once derives from
    `stelab.estimators.MultiEvaluation`; training, measurement and reproduction all go through
    `loss`, or through `losses` where examples are weighed or binary layers nested.

    What holds for all of them:

    - Half precision: slopes and estimates are computed in float32, multiplied with the gradient
      that arrives there, and cast last, so losses may be scaled; `loss` and `losses` are float32
      or wider.
      f sees codes in the dtype of `s`, which rounds relaxed ones.
    - Arguments: a constructor raises ValueError, which names each that is not what it must be.
    - Edges: where `s` is infinite the gradient is finite. Where it is NaN the bit is 0, as at
      -inf, and the gradient NaN; all else is as if -inf stood there.
    - Evaluation mode: `loss` and `losses` change nothing but the state of their generator. Where
      gradients are off (``torch.no_grad()``) they return values, and nothing is learned.
    - An empty batch has an empty gradient, no losses, and a loss of NaN, the mean of nothing.
    - Second derivatives with respect to `s` are those of the rule where it is differentiable as
      written (`Identity`, `HardtanhClip`, `ZeroGradient`, `DSQ`, piecewise constant surrogates,
      and `Progressive` in training); elsewhere RuntimeError, as they would lack terms.

    Attributes:
        exactness: For which losses the mean of the estimate is the gradient.
        randomness: What an estimate depends on besides `s`. Where that is the bits alone, their
            enumeration gives its mean and variance exactly.
        draws: Whether bits are drawn in training mode, not computed.
        relaxed: Whether training sees values between 0 and 1; evaluation sees bits all the same.
        differentiates: Whether `loss` itself takes derivatives of f, or evaluates it at other codes
            than bits. Of several binary layers only the last may, see `stelab.chain`.
        learning_rate: Of `variance_optimizer`; estimators that have one take it as an argument.
    """

    exactness: Exactness = "biased"
    randomness: Randomness = "none"
    draws = False
    relaxed = False
    differentiates = False
    learning_rate: float
    extra_repr = show_arguments

    def forward(
        self, s: Tensor, *, bits: Tensor | None = None, generator: Source | None = None
    ) -> Tensor:
        """Binarize the centred pre-activation.

        Args:
            s: Centred pre-activation (logit) ``x - theta``, shape ``(batch, *code_shape)``.
            bits: Take these, in the shape of `s`, instead of computing or drawing them; the
                gradient rule is the same. Enumerating codes therefore runs the code that trains.
            generator: Source of randomness of stochastic estimators; deterministic ones ignore it.

        Returns:
            Bits in {0, 1}, shape and dtype of `s`, differentiable by this estimator's rule.

        Raises:
            ValueError: `bits` has another shape than `s`.
        """
        raise NotImplementedError(
            f"{type(self).__name__} must define forward(s, *, bits, generator)"
        )

    def loss(self, s: Tensor, f: PerExampleLoss, *, generator: Source | None = None) -> Tensor:
        """Evaluate ``mean_i f(b)_i``, a scalar whose gradient with respect to `s` is the estimate.

        With respect to the parameters inside `f` the gradient is the ordinary one.

        Args:
            s: Centred pre-activation, shape ``(batch, *code_shape)``.
            f: Loss of every example as a function of the bits.
            generator: As in `forward`.

        Raises:
            ValueError: `s` has no batch dimension, or f returns anything but ``(batch,)``.
        """
        return self.losses(s, f, generator=generator).mean()

    def losses(self, s: Tensor, f: PerExampleLoss, *, generator: Source | None = None) -> Tensor:
        r"""Evaluate ``f(b)_i`` for every example, ``(batch,)``; their gradients are the estimates.

        For weights :math:`w_i` that do not depend on the bits drawn here, the gradient of
        :math:`\sum_i w_i f(b)_i` is, with respect to :math:`s_i`, :math:`w_i` times the estimate
        of :math:`\partial\,\mathbb{E} f(b)_i / \partial s_i`, and with respect to the parameters
        inside `f` the ordinary one. So examples can be weighed, terms added to each, and f may
        itself be the `losses` of another binary layer, see `stelab.chain`. `loss` is the mean.
        (Rules that are not linear in what arrives see it weighed: `HardtanhClip` clamps
        :math:`w_i g_i`.)

        Arguments and errors: see `loss`.
        """
        return evaluate(f, self(s, generator=generator))

    def draw(self, s: Tensor, *, generator: Source | None) -> Tensor:
        """Return this estimator's own bits: the step, unless a subclass draws them."""
        return step(s)

    def take(self, s: Tensor, bits: Tensor | None, generator: Source | None) -> Tensor:
        """Return the given bits in the dtype of `s`, or without any this estimator's own.

        Raises:
            ValueError: `bits` has another shape than `s`.
        """
        if bits is None:
            return self.draw(s, generator=generator)
        require_shape(bits, s)
        return bits.to(s.dtype)

    def probability(self, s: Tensor) -> Tensor:
        r"""Return P(b = 1) of the smoothed problem whose gradient is estimated, given `s`.

        A step behind logistic noise, :math:`\sigma(s)`, unless a subclass knows better.
        Stochastic estimators draw bits with it. Where the backward pass of a deterministic one is
        the density of another noise, this is that noise's distribution function.
        """
        return torch.sigmoid(s)

    def evaluations(self, bits: int) -> int:
        """Return how often `loss` evaluates f to estimate a gradient, for codes of so many bits."""
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
