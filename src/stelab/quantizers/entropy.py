r"""Entropies of a soft assignment to the corners of a cube, in nats, with :math:`0 \ln 0 = 0`.

The logits a, ``(samples, bits)``, give :math:`q(c) = \prod_i \sigma(\pm a_i)`, the sign that of
the corner c in channel i.
"""

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid


def entropy(p: Tensor) -> Tensor:
    r"""Compute :math:`-\sum p \ln p` over the last dimension."""
    # At p = 0 the derivative of the logarithm itself is infinite.
    return -(p * p.clamp_min(torch.finfo(p.dtype).tiny).log()).sum(-1)


def sample_entropy(logits: Tensor) -> Tensor:
    r"""Compute :math:`\mathbb{E}\,H(q)`, a scalar: entropies of independent bits add up."""
    each = torch.sigmoid(logits) * logsigmoid(logits) + torch.sigmoid(-logits) * logsigmoid(-logits)
    return -each.sum(1).mean()


def codebook_entropy(logits: Tensor, group_size: int) -> Tensor:
    r"""Compute :math:`\sum H(\mathbb{E}\,q)` over groups of so many bits, a scalar."""
    means = [joint(group).mean(0) for group in logits.split(group_size, dim=1)]
    return torch.stack([entropy(mean) for mean in means]).sum()


def joint(logits: Tensor) -> Tensor:
    """Compute q of all corners, ``(samples, 2**bits)``, most significant bit first."""
    q = torch.ones_like(logits[:, :1])
    for a in logits.unsqueeze(-1).unbind(1):
        q = torch.stack([q * torch.sigmoid(-a), q * torch.sigmoid(a)], -1).flatten(1)
    return q
