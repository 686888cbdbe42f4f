r"""The interface of quantizers: a grid of codewords, and the binary layer that rounds to it.

Words: z is what the encoder emits, shape ``(batch, d, *positions)`` with its channels in dimension
1. In every channel a codeword has one of L digits, 0 to L - 1. The position x of z is measured in
distances between two neighbouring codewords, from the border between digits 0 and 1: the border
between digits k and k + 1 is at k.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from stelab.arguments import show_arguments
from stelab.binarizer import Binarizer
from stelab.estimators.backward import wide
from stelab.estimators.base import Estimator, PerExampleLoss
from stelab.randomness import Source
from stelab.thresholds.channels import per_channel


class Quantizer(nn.Module):
    r"""One decision of a `Binarizer` in every coordinate: which of two codewords, left or right.

    With k the border nearest to the position x, in 0 to L - 2 and without a gradient,

    .. math:: s = x - k - \theta, \qquad n = k + b, \qquad \mathrm{code} = c(n),

    where b is the binarizer's bit of x - k and c maps digits to codewords. Backward: the
    estimator's rule for b. As x is measured in distances between codewords, `Identity` is the
    published straight-through: the gradient of the code is that of z before it was rounded.

    A subclass defines `position`, `codewords` and its inverse `digits`, and where its paper has
    auxiliary terms `penalty`.

    What holds for all of them:

    - Half precision: everything is computed in float32 or wider, and codes are cast last. `loss`,
      `losses` and `penalty` are float32 or wider.
    - Edges: every code of bits is a codeword, whatever the threshold. Where z is NaN the digit is
      0 and the gradient NaN; where z is infinite the gradient is finite.
    - An empty batch has an empty gradient, no losses, and a loss of NaN, the mean of nothing.
    - Second derivatives follow the estimator's own rule, and relaxed bits give what lies between
      codewords.

    Args:
        binarizer: Threshold and estimator of each decision. Its threshold is a shift in distances
            between codewords: 0 rounds to the nearest codeword.
        levels: L of each channel, 2 or more.

    Raises:
        ValueError: The binarizer is signed, or (when called) z has not d channels.
    """

    extra_repr = show_arguments
    _levels: Tensor

    def __init__(self, *, binarizer: Binarizer, levels: Sequence[int]):
        super().__init__()
        if binarizer.signed:
            raise ValueError(
                "a quantizer counts bits in {0, 1}, got a binarizer that is signed: build it with "
                "signed=False, codewords have their signs from the quantizer"
            )
        self.binarizer = binarizer
        self.levels = tuple(levels)
        self.register_buffer("_levels", torch.tensor(self.levels), persistent=False)

    @property
    def codebook_size(self) -> int:
        """The number of codewords, the product of all L."""
        return math.prod(self.levels)

    def position(self, z: Tensor) -> Tensor:
        """Return x, in the shape of `z`, float32 or wider, differentiable."""
        raise NotImplementedError(f"{type(self).__name__} must define position(z)")

    def codewords(self, digits: Tensor) -> Tensor:
        """Return the codewords of `digits`, ``(batch, d, *positions)``; affine, differentiable."""
        raise NotImplementedError(f"{type(self).__name__} must define codewords(digits)")

    def digits(self, codes: Tensor) -> Tensor:
        """Return the digits of `codes`, 0 to L - 1, as integers in their shape."""
        raise NotImplementedError(f"{type(self).__name__} must define digits(codes)")

    def penalty(self, z: Tensor) -> Tensor:
        """Return the auxiliary terms to add to the loss, a scalar: 0 unless a subclass has some."""
        return wide(z).new_zeros(())

    @property
    def estimator(self) -> Estimator:
        """The estimator of the decisions."""
        return self.binarizer.estimator

    def values(self, bits: Tensor, z: Tensor) -> Tensor:
        """Return the codes of `bits`, the decisions made on `z`, in its shape and dtype."""
        _, border = self._locate(z)
        return self.codewords(border + bits).to(z.dtype)

    def centre(self, z: Tensor) -> Tensor:
        """Compute s, what the estimator sees, in the shape of `z`, float32 or wider."""
        x, border = self._locate(z)
        return self.binarizer.centre(x - border)

    def forward(self, z: Tensor, *, generator: Source | None = None) -> Tensor:
        """Quantize `z` of shape ``(batch, d, *positions)``: codes of the same shape and dtype."""
        x, border = self._locate(z)
        bits = self.binarizer(x - border, generator=generator)
        return self.codewords(border + bits).to(z.dtype)

    def loss(self, z: Tensor, f: PerExampleLoss, *, generator: Source | None = None) -> Tensor:
        """Evaluate the scalar that the estimator differentiates; see `Estimator.loss`.

        Args:
            z: Shape ``(batch, d, *positions)``.
            f: Loss of every example as a function of the codes, which it gets in the shape and
                dtype of `z`.
            generator: Source of randomness of stochastic estimators.
        """
        x, border = self._locate(z)
        return self.binarizer.loss(x - border, self._of_bits(f, border, z), generator=generator)

    def losses(self, z: Tensor, f: PerExampleLoss, *, generator: Source | None = None) -> Tensor:
        """Evaluate one loss an example, ``(batch,)``; see `Estimator.losses` and `loss`."""
        x, border = self._locate(z)
        return self.binarizer.losses(x - border, self._of_bits(f, border, z), generator=generator)

    def indices(self, codes: Tensor) -> Tensor:
        """Return the number of each code, int64, ``(batch, *positions)``, 0 to codebook_size - 1.

        Raises:
            ValueError: `codes` have not d channels, or there are more than 2**63 codewords.
        """
        self._require_channels(codes)
        return (self.digits(codes) * self._places(codes)).sum(1)

    def codes(self, indices: Tensor) -> Tensor:
        """Return the codes of `indices`, ``(batch, d, *positions)``: the inverse of `indices`.

        They have torch's default dtype.

        Raises:
            ValueError: An index is none of a codeword, or there are more than 2**63 codewords.
        """
        rest = indices.unsqueeze(1)
        places = self._places(rest)
        if ((indices < 0) | (indices > self.codebook_size - 1)).any():
            raise ValueError(
                f"indices must be from 0 to {self.codebook_size - 1}, got "
                f"{indices.min().item()} to {indices.max().item()}"
            )
        digits = rest // places % per_channel(self._levels, rest)
        return self.codewords(digits.to(torch.get_default_dtype()))

    def place_values(self) -> list[int]:
        """Return what a digit counts in an index: most significant channel first."""
        return [math.prod(self.levels[i + 1 :]) for i in range(len(self.levels))]

    def _places(self, like: Tensor) -> Tensor:
        if self.codebook_size > 2**63:
            raise ValueError(
                f"indices must fit in 64 bits, got a codebook of {self.codebook_size} codewords: "
                "split the channels, or keep codes as digits(codes)"
            )
        return per_channel(torch.tensor(self.place_values(), device=like.device), like)

    def _locate(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """Return the positions and their nearest borders, without a gradient."""
        self._require_channels(z)
        x = self.position(z)
        last = per_channel(self._levels - 2, x).to(x.dtype)
        return x, x.detach().round().nan_to_num(nan=0.0).clamp_min(0).minimum(last)

    def _of_bits(self, f: PerExampleLoss, border: Tensor, z: Tensor) -> PerExampleLoss:
        return lambda bits: f(self.codewords(border + bits).to(z.dtype))

    def _require_channels(self, z: Tensor) -> None:
        if z.dim() < 2 or z.shape[1] != len(self.levels):
            raise ValueError(
                f"the quantizer has {len(self.levels)} channels, but what it got has shape "
                f"{tuple(z.shape)}: expected (batch, {len(self.levels)}, *positions)"
            )
