"""Convolutions between a whole map and a single point, as the matrix products that they are.

Up to rounding they are what ``nn.Conv2d`` and ``nn.ConvTranspose2d`` compute with the same weights,
in half the time (oneDNN, 64 images, 256 channels of 3x3 pixels and 512 bits, both directions).
"""

from torch import Tensor, nn
from torch.nn import functional as F


class ToPoint(nn.Conv2d):
    """Convolve maps with kernels of their size: ``nn.Conv2d(channels, outputs, kernel_size)``.

    Forward and backward are those of the convolution, from ``(batch, channels, *kernel_size)`` to
    ``(batch, outputs, 1, 1)``.

    Args:
        channels: Of a map.
        outputs: Channels of a point.
        kernel_size: ``(height, width)`` of a map.
    """

    def __init__(self, channels: int, outputs: int, kernel_size: tuple[int, int]):
        super().__init__(channels, outputs, kernel_size)

    def forward(self, x: Tensor) -> Tensor:
        """Return a point for every map."""
        return F.linear(x.flatten(1), self.weight.flatten(1), self.bias)[:, :, None, None]


class FromPoint(nn.ConvTranspose2d):
    """Spread points over maps: ``nn.ConvTranspose2d(channels, outputs, kernel_size)``.

    Forward and backward are those of the transposed convolution, from ``(batch, channels, 1, 1)``
    to ``(batch, outputs, *kernel_size)``.

    Args:
        channels: Of a point.
        outputs: Channels of a map.
        kernel_size: ``(height, width)`` of a map.
    """

    def __init__(self, channels: int, outputs: int, kernel_size: tuple[int, int]):
        super().__init__(channels, outputs, kernel_size)

    def forward(self, x: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Return a map for every point."""
        assert self.bias is not None
        maps = x.flatten(1) @ self.weight.flatten(1)
        return maps.unflatten(1, self.weight.shape[1:]) + self.bias[:, None, None]
