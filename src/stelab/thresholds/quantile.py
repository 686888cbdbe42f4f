r"""Thresholds that follow the pre-activations: a quantile of every channel.

With the median about half of a channel's bits are 1, whatever the encoder emits: no bit is dead.
The quantile at q of n sorted values is read off at the position :math:`q\,(n - 1)`, linearly
between its two neighbours, as `torch.quantile` and numpy do.

Backward: theta carries no gradient. The estimate treats it as a constant and leaves out that a
shift of all pre-activations shifts theta with them.

Where a batch is split over processes (DDP), every process takes the quantile of its own part.
"""

import math

import torch
from torch import Tensor

from stelab.arguments import Count, Fraction, checked
from stelab.thresholds.base import Threshold


def channel_quantile(x: Tensor, quantile: float) -> Tensor:
    """Compute the quantile of every channel over batch and positions, without a gradient.

    Args:
        x: Pre-activation, ``(batch, channels, ...)``.
        quantile: Between 0 and 1.

    Returns:
        ``(channels,)``, in float32 or wider; finite where `x` is.
    """
    values = x.detach().transpose(0, 1).flatten(1)
    # Sorted here: torch.quantile refuses half precision, and in older versions large inputs.
    ordered = values.sort(dim=1).values.to(torch.promote_types(x.dtype, torch.float32))
    position = quantile * (values.shape[1] - 1)
    lower, upper = ordered[:, math.floor(position)], ordered[:, math.ceil(position)]
    return torch.lerp(lower, upper, position % 1)


def per_channel(theta: Tensor, x: Tensor) -> Tensor:
    """Return theta ``(channels,)`` as ``(channels, 1, ...)``, which broadcasts to `x`."""
    return theta.reshape(-1, *(1,) * (x.dim() - 2))


class BatchQuantileThreshold(Threshold):
    """The quantile of every channel over the batch at hand, in training and in evaluation.

    The share of ones is the wanted one in every batch that it sees: the layer has no state and
    nothing to freeze. So also in evaluation the bits of an example depend on the examples beside
    it; with the median, one example alone with one value a channel has only zeros. To encode
    examples one by one, or to compare codes across batches, take `RunningQuantileThreshold`.

    Args:
        quantile: Share of values that get the bit 0, at least 0, below 1; 0.5 is the median.
    """

    @checked
    def __init__(self, *, quantile: Fraction):
        super().__init__()
        self.quantile = quantile

    def forward(self, x: Tensor) -> Tensor:
        """Return theta, ``(channels, 1, ...)``, for `x` of shape ``(batch, channels, ...)``."""
        return per_channel(channel_quantile(x, self.quantile), x).to(x.dtype)


class RunningQuantileThreshold(Threshold):
    r"""The exponential moving average of every channel's quantile, frozen in evaluation.

    With :math:`q_c` the quantile of channel c over a training batch,

    .. math:: \theta_c \leftarrow (1 - m)\,\theta_c + m\,q_c,

    after the first batch :math:`\theta_c = q_c`. Training uses theta after its update. Evaluation
    leaves it as it is (0 before the first training batch), so an example's bits are its own.

    theta is a buffer: it is in the state dict, and DDP sends the first process's to the others
    before every forward pass, so that all freeze the same.

    Args:
        channels: Size of dimension 1 of `x`.
        quantile: Share of values that get the bit 0, at least 0, below 1; 0.5 is the median.
        momentum: m, the weight of the newest batch, at least 0 (the first batch's stay), below 1.

    Raises:
        ValueError: An argument is out of its range, or (in `forward`) `x` has not this many
            channels.
    """

    theta: Tensor
    seen: Tensor

    @checked
    def __init__(self, *, channels: Count, quantile: Fraction, momentum: Fraction):
        super().__init__()
        self.channels = channels
        self.quantile = quantile
        self.momentum = momentum
        self.register_buffer("theta", torch.zeros(channels))
        self.register_buffer("seen", torch.zeros((), dtype=torch.bool))

    def forward(self, x: Tensor) -> Tensor:
        """Return theta, ``(channels, 1, ...)``, for `x` of shape ``(batch, channels, ...)``."""
        if x.shape[1] != self.channels:
            raise ValueError(
                f"the threshold follows {self.channels} channels, but x has shape "
                f"{tuple(x.shape)}: expected (batch, {self.channels}, ...)"
            )
        if self.training:
            self._follow(x)
        # A copy: the next training batch overwrites the buffer.
        return per_channel(self.theta, x).to(x.dtype, copy=True)

    def _follow(self, x: Tensor) -> None:
        newest = channel_quantile(x, self.quantile)
        average = torch.lerp(self.theta.to(newest.dtype), newest, self.momentum)
        self.theta.copy_(torch.where(self.seen, average, newest))
        self.seen.fill_(True)
