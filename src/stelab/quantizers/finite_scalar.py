r"""Finite scalar quantization: every channel rounded to a few levels.

References:
    [Mentzer2023] Mentzer, Minnen, Agustsson, Tschannen (2023), "Finite Scalar Quantization:
    VQ-VAE Made Simple", arXiv:2309.15505.
"""

import math
from collections.abc import Sequence
from typing import Annotated, Any

import torch
from torch import Tensor

from stelab.arguments import checked
from stelab.binarizer import Binarizer
from stelab.estimators.backward import wide
from stelab.quantizers.base import Quantizer
from stelab.thresholds.channels import per_channel

MARGIN = 1e-3
"""How much wider than its outermost levels the paper bounds z, relative to their distance."""


def _three_or_more(levels: Any) -> Any:
    several = isinstance(levels, Sequence) and len(levels) > 0
    if not several or any(type(level) is not int or level < 3 for level in levels):
        raise ValueError(
            "must be integers of at least 3, one a channel (of two, take LookupFreeQuantizer)"
        )
    return levels


class FiniteScalarQuantizer(Quantizer):
    r"""Finite scalar quantization (FSQ): a bounded z, rounded to L levels in each channel.

    Forward: with :math:`h = (L - 1)(1 + 10^{-3})/2`, w the integer part of :math:`L/2`, and
    :math:`o = \tfrac12` for even L, 0 for odd,

    .. math:: \bar z = h \tanh(z + \mathrm{artanh}(o/h)) - o, \qquad x = \bar z + w - \tfrac12,
       \qquad \mathrm{code} = (n - w)/w.

    The code is :math:`\bar z` rounded to an integer, over w: from -1 to 1 for odd L, to
    :math:`1 - 2/L` for even L. Backward: the estimator's rule, then the derivative of
    :math:`\bar z`; `Identity` gives the gradient of the code, over w, to :math:`\bar z`.
    `penalty` is 0: all of a small codebook is used without. [Mentzer2023]

    Indices count the first channel fastest, as published.

    Args:
        binarizer: Threshold and estimator of each decision.
        levels: L of each channel, 3 or more, such as ``(8, 5, 5, 5)``.
    """

    @checked
    def __init__(self, *, binarizer: Binarizer, levels: Annotated[Sequence[int], _three_or_more]):
        super().__init__(binarizer=binarizer, levels=levels)

    def position(self, z: Tensor) -> Tensor:
        """See `Quantizer.position`."""
        z = wide(z)
        levels = per_channel(self._levels, z).to(z.dtype)
        half, offset = (levels - 1) * (1 + MARGIN) / 2, (1 - levels % 2) / 2
        bounded = half * torch.tanh(z + torch.atanh(offset / half)) - offset
        return bounded + self._width(z) - 0.5

    def codewords(self, digits: Tensor) -> Tensor:
        """See `Quantizer.codewords`."""
        width = self._width(digits)
        return (digits - width) / width

    def digits(self, codes: Tensor) -> Tensor:
        """See `Quantizer.digits`."""
        width = self._width(codes)
        return (wide(codes) * width + width).round().long()

    def place_values(self) -> list[int]:
        """Return what a digit counts in an index: least significant channel first."""
        return [math.prod(self.levels[:i]) for i in range(len(self.levels))]

    def _width(self, like: Tensor) -> Tensor:
        return per_channel(self._levels // 2, like)
