"""A likelihood of binary pixels."""

from typing import Annotated

import torch
from torch import Tensor, nn

from stelab.arguments import Only, checked


class NoisyPixels(nn.Module):
    r"""Negative log-likelihood, in nats, of pixels of which a share is wrong.

    Each pixel y in {0, 1} is what the network says, of logit l, and then flipped with probability
    :math:`\epsilon`, so that none costs more than :math:`-\log\epsilon`:

    .. math:: -\sum_i \log\left(\epsilon + (1 - 2\epsilon)\,\sigma((2y_i - 1)\,l_i)\right)

    Args:
        noise: :math:`\epsilon`, above 0 and below 1/2.

    References:
        Mnih, Hinton (2012), "Learning to Label Aerial Images from Noisy Data", with one noise for
        both values.
    """

    @checked
    def __init__(self, *, noise: Annotated[float, Only(float, above=0, below=0.5)]):
        super().__init__()
        self.noise = noise

    def forward(self, logits: Tensor, pixels: Tensor) -> Tensor:
        """Return one loss an example, ``(batch,)``, for logits in the shape of the pixels."""
        p = self.noise + (1 - 2 * self.noise) * torch.sigmoid((2 * pixels - 1) * logits)
        return -p.log().flatten(1).sum(1)
