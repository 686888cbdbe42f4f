r"""Binary spherical quantization: lookup-free quantization of directions.

References:
    [Zhao2024] Zhao, Xiong, Krähenbühl (2024), "Image and Video Tokenization with Binary Spherical
    Quantization", arXiv:2406.07548.
"""

import torch
from torch import Tensor

from stelab.arguments import Count, FewBits, NonNegative, Positive, checked
from stelab.binarizer import Binarizer
from stelab.estimators.backward import known
from stelab.quantizers.lookup_free import LookupFreeQuantizer

SHORTEST = 1e-12


class BinarySphericalQuantizer(LookupFreeQuantizer):
    r"""Binary spherical quantization (BSQ): the corners of a cube inside of the unit sphere.

    Forward: :math:`u = z/\|z\|`, :math:`x = \tfrac12\sqrt d\,u`,
    :math:`\mathrm{code} = (2b - 1)/\sqrt d`. Backward: the estimator's rule, then the derivative
    of the projection; `Identity` gives the gradient of the code to u. [Zhao2024]

    `penalty`, `entropies` and `commitment` are those of `LookupFreeQuantizer`, of u in place of z
    and with :math:`v = 1/\sqrt d`.

    Where :math:`\|z\|` is below 1e-12, z has no direction: u is 0, and no gradient comes back.

    Args:
        binarizer: Threshold and estimator of each decision.
        channels: d.
        temperature: :math:`\tau`, above 0.
        entropy_weight: :math:`w_e`, not below 0.
        diversity: :math:`\gamma`, not below 0.
        commitment_weight: :math:`w_c`, not below 0.
        group_size: Channels whose codewords are enumerated together, at most 16.
    """

    @checked
    def __init__(
        self,
        *,
        binarizer: Binarizer,
        channels: Count,
        temperature: Positive,
        entropy_weight: NonNegative,
        diversity: NonNegative,
        commitment_weight: NonNegative,
        group_size: FewBits,
    ):
        super().__init__(
            binarizer=binarizer,
            channels=channels,
            scale=channels**-0.5,
            temperature=temperature,
            entropy_weight=entropy_weight,
            diversity=diversity,
            commitment_weight=commitment_weight,
            group_size=group_size,
        )

    def position(self, z: Tensor) -> Tensor:
        """See `Quantizer.position`."""
        return super().position(direction(z))


def direction(z: Tensor) -> Tensor:
    r"""Compute :math:`u = z/\|z\|` along dimension 1, in float32 or wider.

    Where :math:`\|z\|` is below 1e-12, u and its derivative are 0.
    """
    z = known(z)
    # Of what is 1 at its largest, no square overflows or vanishes. u is the same for any factor.
    z = z / z.detach().abs().amax(1, keepdim=True).clamp_min(SHORTEST)
    length = torch.linalg.vector_norm(z, dim=1, keepdim=True)
    return z / torch.where(length < 0.5, torch.inf, length)
