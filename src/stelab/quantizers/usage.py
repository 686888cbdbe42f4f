r"""How much of a codebook is used: pure functions of the codes of many images.

Indices say it where a codebook is small beside the number of codes looked at: with :math:`\pi_c`
the share of codes that are c, the usage, entropy and perplexity of a codebook.

Of n codes at most n differ, and the entropy of their shares is at most :math:`\log_2 n`, so for
long codes (more than about 16 bits) neither says much of the codebook. There `distinct` says
whether codes collide, and `bit_entropy` bounds the entropy from above: what no dependence between
bits can raise.
"""

import math

import torch
from torch import Tensor


def usage(indices: Tensor, codebook_size: int) -> float:
    """Compute the share of the codebook that occurs, ``distinct indices / codebook_size``.

    Args:
        indices: Integers of any shape.
        codebook_size: How many there could be.
    """
    return indices.unique().numel() / codebook_size


def entropy(indices: Tensor) -> float:
    r"""Compute :math:`H = -\sum_c \pi_c \log_2 \pi_c`, in bits.

    Args:
        indices: Integers of any shape.

    Raises:
        ValueError: There are none.
    """
    _require_some(indices)
    _, counts = indices.unique(return_counts=True)
    return _bits_of(counts.cpu().double() / indices.numel())


def perplexity(indices: Tensor) -> float:
    r"""Compute :math:`2^H`: so many codes, used equally often, have this entropy.

    Args:
        indices: Integers of any shape.

    Raises:
        ValueError: There are none.
    """
    return math.pow(2, entropy(indices))


def distinct(codes: Tensor) -> int:
    """Count the codes that differ.

    Args:
        codes: Codes, bits or digits, ``(batch, d, *positions)``: one code at each position.
    """
    return len(codes.movedim(1, -1).flatten(0, -2).unique(dim=0))


def bit_entropy(bits: Tensor) -> float:
    r"""Compute :math:`\sum_i H(p_i)` in bits, with :math:`p_i` the share of ones in channel i.

    At most d, where every bit is 1 half of the time; the entropy of the codes is not above it.

    Args:
        bits: Bits, or codes whose sign is the bit, ``(batch, d, *positions)``.

    Raises:
        ValueError: There are none.
    """
    _require_some(bits)
    ones = (bits > 0).movedim(1, -1).flatten(0, -2).sum(0).cpu().double()
    p = ones / (bits.numel() / bits.shape[1])
    return _bits_of(p) + _bits_of(1 - p)


def _bits_of(p: Tensor) -> float:
    """Compute the sum of -p log2 p, where 0 log2 0 = 0."""
    return torch.special.entr(p).sum().item() / math.log(2)


def _require_some(codes: Tensor) -> None:
    if not codes.numel():
        raise ValueError(f"codes are needed, got none: a tensor of shape {tuple(codes.shape)}")
