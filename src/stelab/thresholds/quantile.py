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

from stelab.arguments import Count, Dimension, Fraction, checked
from stelab.thresholds.base import Threshold
from stelab.thresholds.channels import (
    channel_dim,
    per_channel,
    require_channels,
    require_no_batch,
)


def channel_quantile(x: Tensor, quantile: float, dim: int = 1) -> Tensor:
    """Compute the quantile of every channel over all else, without a gradient.

    Args:
        x: Pre-activation, ``(batch, channels, ...)``, or with its channels in another dimension.
        quantile: Between 0 and 1.
        dim: The dimension of channels.

    Returns:
        ``(channels,)``, in float32 or wider; finite where `x` is.
    """
    values = x.detach().movedim(channel_dim(x, dim), 0).flatten(1)
    # Sorted here: torch.quantile refuses half precision, and in older versions large inputs.
    ordered = values.sort(dim=1).values.to(torch.promote_types(x.dtype, torch.float32))
    position = quantile * (values.shape[1] - 1)
    lower, upper = ordered[:, math.floor(position)], ordered[:, math.ceil(position)]
    return torch.lerp(lower, upper, position % 1)


class BatchQuantileThreshold(Threshold):
    """The quantile of every channel over the batch at hand, in training and in evaluation.

    The share of ones is the wanted one in every batch that it sees: the layer has no state and
    nothing to freeze. So also in evaluation the bits of an example depend on the examples beside
    it; with the median, one example alone with one value a channel has only zeros. To encode
    examples one by one, or to compare codes across batches, take `RunningQuantileThreshold`.

    Args:
        quantile: Share of values that get the bit 0, at least 0, below 1; 0.5 is the median.
        dim: The dimension of channels, from the last one where negative; never the batch's.

    Raises:
        ValueError: An argument is out of its range, `dim` is the batch's, or (in `forward`) `x`
            has no such dimension.
    """

    @checked
    def __init__(self, *, quantile: Fraction, dim: Dimension = 1):
        super().__init__()
        require_no_batch(dim)
        self.quantile = quantile
        self.dim = dim

    def forward(self, x: Tensor) -> Tensor:
        """Return theta, ``(channels, 1, ...)``, which broadcasts to `dim` of `x`."""
        quantiles = channel_quantile(x, self.quantile, self.dim)
        return per_channel(quantiles, x, self.dim).to(x.dtype)


class RunningQuantileThreshold(Threshold):
    r"""The exponential moving average of every channel's quantile, frozen in evaluation.

    With :math:`q_c` the quantile of channel c over a training batch,

    .. math:: \theta_c \leftarrow (1 - m)\,\theta_c + m\,q_c,

    after the first batch :math:`\theta_c = q_c`. Training uses theta after its update. Evaluation
    leaves it as it is (0 before the first training batch), so an example's bits are its own.

    theta is a buffer: it is in the state dict, and DDP sends the first process's to the others
    before every forward pass, so that all freeze the same.

    Args:
        channels: Size of dimension `dim` of `x`.
        quantile: Share of values that get the bit 0, at least 0, below 1; 0.5 is the median.
        momentum: m, the weight of the newest batch, at least 0 (the first batch's stay), below 1.
        dim: The dimension of channels, from the last one where negative; never the batch's.

    Raises:
        ValueError: An argument is out of its range, `dim` is the batch's, or (in `forward`) `x`
            has not this many channels.
    """

    theta: Tensor
    seen: Tensor

    @checked
    def __init__(
        self, *, channels: Count, quantile: Fraction, momentum: Fraction, dim: Dimension = 1
    ):
        super().__init__()
        require_no_batch(dim)
        self.channels = channels
        self.dim = dim
        self.quantile = quantile
        self.momentum = momentum
        self.register_buffer("theta", torch.zeros(channels))
        self.register_buffer("seen", torch.zeros((), dtype=torch.bool))

    def forward(self, x: Tensor) -> Tensor:
        """Return theta, ``(channels, 1, ...)``, which broadcasts to `dim` of `x`."""
        require_channels(x, self.channels, self.dim, "follows")
        if self.training:
            self._follow(x)
        # A copy: the next training batch overwrites the buffer.
        return per_channel(self.theta, x, self.dim).to(x.dtype, copy=True)

    def _follow(self, x: Tensor) -> None:
        newest = channel_quantile(x, self.quantile, self.dim)
        average = torch.lerp(self.theta.to(newest.dtype), newest, self.momentum)
        self.theta.copy_(torch.where(self.seen, average, newest))
        self.seen.fill_(True)
