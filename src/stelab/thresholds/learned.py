"""A threshold trained with the network."""

import torch
from torch import Tensor, nn

from stelab.arguments import Count, Real, checked
from stelab.thresholds.base import Threshold


class LearnedThreshold(Threshold):
    r"""One trained threshold a channel.

    Backward: the centred pre-activation is :math:`s = x - \theta`, so
    :math:`\partial L/\partial\theta_c = -\sum \partial L/\partial s` over the batch and the
    positions of channel :math:`c`, whatever the estimator puts in :math:`\partial L/\partial s`.

    A batch norm behind a linear layer on the bits takes every shift of the bits out again. There
    that sum is 0 for `stelab.estimators.Identity`, and the threshold stays: train it with an
    estimator that looks at `s`, or with ``model.norm=group``.

    Args:
        channels: Size of dimension 1 of `x`.
        init: Where every threshold starts, any finite number.

    Raises:
        ValueError: `channels` is below 1, `init` is not finite, or (in `forward`) `x` has not
            this many channels.
    """

    @checked
    def __init__(self, *, channels: Count, init: Real):
        super().__init__()
        self.channels = channels
        self.theta = nn.Parameter(torch.full((channels,), float(init)))

    def forward(self, x: Tensor) -> Tensor:
        """Return theta, ``(channels, 1, ...)``, for `x` of shape ``(batch, channels, ...)``."""
        if x.shape[1] != self.channels:
            raise ValueError(
                f"the threshold is learned for {self.channels} channels, but x has shape "
                f"{tuple(x.shape)}: expected (batch, {self.channels}, ...)"
            )
        return self.theta.reshape(-1, *(1,) * (x.dim() - 2))
