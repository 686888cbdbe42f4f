"""Baselines of `Reinforce`: what is subtracted from the loss, without a look at the bits.

References:
    [Mnih2014] Mnih, Gregor (2014), "Neural Variational Inference and Learning in Belief
    Networks", arXiv:1402.0030.
"""

import torch
from torch import Tensor, nn

from stelab.arguments import Count, Fraction, Positive, checked, show_arguments
from stelab.estimators.variance import VarianceNet


class Baseline(nn.Module):
    """Predicts the loss of every example from its logits.

    Attributes:
        learning_rate: Of its parameters; 0 where it has none.
    """

    learning_rate = 0.0
    extra_repr = show_arguments

    def forward(self, s: Tensor) -> Tensor:
        """Return c, broadcastable to ``(batch,)``, for logits `s` of ``(batch, *code_shape)``."""
        raise NotImplementedError(f"{type(self).__name__} must define forward(s)")

    def learn(self, s: Tensor, losses: Tensor) -> None:
        """Take in the losses ``(batch,)`` that came; by default nothing."""


class NoBaseline(Baseline):
    """c = 0."""

    def forward(self, s: Tensor) -> Tensor:
        """Return 0."""
        return s.new_zeros(())


class MovingAverage(Baseline):
    """The exponential moving average of the losses before this step, 0 before the first.

    Args:
        decay: What of the average stays at every step, at least 0, below 1.
    """

    total: Tensor
    weight: Tensor

    @checked
    def __init__(self, *, decay: Fraction):
        super().__init__()
        self.decay = decay
        self.register_buffer("total", torch.zeros(()))
        self.register_buffer("weight", torch.zeros(()))

    def forward(self, s: Tensor) -> Tensor:
        """Return the average."""
        average = torch.where(self.weight > 0, self.total / self.weight, self.total)
        return average.to(s.dtype)

    def learn(self, s: Tensor, losses: Tensor) -> None:
        """Average in the batch's mean loss."""
        self.total.lerp_(losses.mean().to(self.total.dtype), 1 - self.decay)
        self.weight.lerp_(torch.ones_like(self.weight), 1 - self.decay)


class LearnedBaseline(Baseline):
    r"""A network of one hidden layer that learns by :math:`(f - c(s))^2`. [Mnih2014].

    Args:
        bits: Bits of a code.
        hidden: Width of the hidden layer.
        learning_rate: Of its optimizer.
    """

    @checked
    def __init__(self, *, bits: Count, hidden: Count, learning_rate: Positive):
        super().__init__()
        self.net = VarianceNet(bits=bits, hidden=hidden)
        self.learning_rate = learning_rate

    def forward(self, s: Tensor) -> Tensor:
        """Return the prediction."""
        return self.net(s)

    def learn(self, s: Tensor, losses: Tensor) -> None:
        """Leave the gradient of the squared error in the parameters."""
        with torch.enable_grad():
            stand_ins = self.net.stand_ins()
            self.net.leave((losses - self.net(s, stand_ins)).square().mean(), stand_ins)
