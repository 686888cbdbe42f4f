"""A threshold trained with the network."""

import torch
from torch import Tensor, nn

from stelab.arguments import Count, Dimension, Real, checked
from stelab.thresholds.base import Threshold
from stelab.thresholds.channels import per_channel, require_channels, require_no_batch


class LearnedThreshold(Threshold):
    r"""One trained threshold a channel.

    Backward: the centred pre-activation is :math:`s = x - \theta`, so
    :math:`\partial L/\partial\theta_c = -\sum \partial L/\partial s` over the batch and the
    positions of channel :math:`c`, whatever the estimator puts in :math:`\partial L/\partial s`.

    A batch norm behind a linear layer on the bits takes every shift of the bits out again. There
    that sum is 0 for `stelab.estimators.Identity`, and the threshold stays: train it with an
    estimator that looks at `s`, or with ``model.norm=group``.

    Args:
        channels: Size of dimension `dim` of `x`.
        init: Where every threshold starts, any finite number.
        dim: The dimension of channels, from the last one where negative; never the batch's.

    Raises:
        ValueError: `channels` is below 1, `init` is not finite, `dim` is the batch's, or (in
            `forward`) `x` has not this many channels.
    """

    @checked
    def __init__(self, *, channels: Count, init: Real, dim: Dimension = 1):
        super().__init__()
        require_no_batch(dim)
        self.channels = channels
        self.dim = dim
        self.theta = nn.Parameter(torch.full((channels,), float(init)))

    def forward(self, x: Tensor) -> Tensor:
        """Return theta, ``(channels, 1, ...)``, which broadcasts to `dim` of `x`."""
        require_channels(x, self.channels, self.dim, "is learned for")
        return per_channel(self.theta, x, self.dim)
