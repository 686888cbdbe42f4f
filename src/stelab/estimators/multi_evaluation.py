"""What estimators share that evaluate the loss, or differentiate it, more than once a step.

They return a gradient for `s`, not a rule for the one that arrives at the bits. An example's loss
must depend on its own bits only: batch norm behind the bits makes all of them biased.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd import Function

from stelab.estimators.backward import HardForward, hand_back, known, once
from stelab.estimators.base import PerExampleLoss, Randomness, evaluate, rows
from stelab.estimators.bernoulli import Bernoulli
from stelab.estimators.variance import leave_gradient
from stelab.randomness import Source


class _Graft(Function):
    """Forward: the value, one or one an example. Backward: its own, and the given one for `s`."""

    generate_vmap_rule = True

    @staticmethod
    def forward(value: Tensor, s: Tensor, gradient: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        value, s, gradient = ctx.saved_tensors
        return g, once(hand_back(column(g, s) * gradient, s), s, value), None


class _NoRule(HardForward):
    """Backward: there is none, and zeros would be a silent mistake."""

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

    An estimate needs drawn bits: `loss` draws them in evaluation mode, too. It hands `estimate`
    codes as rows and finite logits only, so that no subclass has to look after shapes and edges.
    """

    exactness = "unbiased"
    randomness: Randomness = "noise"

    @property
    def learns(self) -> bool:
        """Whether `loss` may change what lowers the variance: in training, with gradients."""
        return self.training and torch.is_grad_enabled()

    def estimate(
        self, s: Tensor, f: PerExampleLoss, *, generator: Source | None
    ) -> tuple[Tensor, Tensor]:
        """Evaluate the loss and estimate its gradient.

        Args:
            s: Logits without history, ``(batch, bits)``, finite, float32 or wider; never empty.
            f: The loss of every example; keep its history for what is returned first only.
            generator: Source of randomness.

        Returns:
            The losses of drawn bits, ``(batch,)``, with the history that trains f's parameters,
            and for every example the estimate of the gradient of its loss, in the shape of `s`.
        """
        raise NotImplementedError(f"{type(self).__name__} must define estimate(s, f, generator)")

    def learn(
        self, gradient: Tensor, parameters: Sequence[nn.Parameter], stand_ins: Sequence[Tensor]
    ) -> None:
        """Leave the gradient of the estimate's mean square in the parameters' ``.grad``."""
        if self.learns:
            leave_gradient(gradient.square().sum(1).mean(), parameters, stand_ins)

    def forward(
        self, s: Tensor, *, bits: Tensor | None = None, generator: Source | None = None
    ) -> Tensor:
        """See `Estimator.forward`; going backward through the bits raises RuntimeError."""
        return _NoRule.apply(s, self.take(s, bits, generator), type(self).__name__)

    def loss(self, s: Tensor, f: PerExampleLoss, *, generator: Source | None = None) -> Tensor:
        """See `Estimator.loss`."""
        losses, gradient = self._estimate_rows(s, f, generator)
        return _Graft.apply(losses.mean(), s, gradient / len(s))

    def losses(self, s: Tensor, f: PerExampleLoss, *, generator: Source | None = None) -> Tensor:
        """See `Estimator.losses`."""
        losses, gradient = self._estimate_rows(s, f, generator)
        return _Graft.apply(losses, s, gradient)

    def _estimate_rows(
        self, s: Tensor, f: PerExampleLoss, generator: Source | None
    ) -> tuple[Tensor, Tensor]:
        logits = rows(known(s.detach()))

        def losses_of(bits: Tensor) -> Tensor:
            return evaluate(f, bits.reshape(s.shape).to(s.dtype)).to(logits.dtype)

        if logits.numel():
            losses, gradient = self.estimate(logits, losses_of, generator=generator)
        else:  # no bits: nothing to estimate, nothing to learn from
            losses, gradient = losses_of(logits), logits
        return losses, gradient.detach().reshape(s.shape)


def column(losses: Tensor, s: Tensor) -> Tensor:
    """Return the losses ``(batch,)`` in a shape that multiplies `s`, ``(batch, *code_shape)``."""
    return losses.reshape(-1, *(1,) * (s.dim() - 1))
