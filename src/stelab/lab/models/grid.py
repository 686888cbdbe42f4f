"""An autoencoder whose bits lie in a grid, each beside the pixels that it speaks of.

References:
    He et al. (2016), "Identity Mappings in Deep Residual Networks".
"""

import math
from collections.abc import Sequence

from torch import Tensor, nn

from stelab.arguments import Count, Flag, Size, checked
from stelab.binarizer import Binarizer
from stelab.lab.models.autoencoder import Autoencoder


class Residual(nn.Module):
    """``x + branch(x)``, where the branch begins as a constant: its last weight is zero.

    Args:
        layers: The branch; the last one has a weight.
    """

    def __init__(self, *layers: nn.Module):
        super().__init__()
        last = layers[-1]
        assert isinstance(last.weight, Tensor)
        nn.init.zeros_(last.weight)
        self.branch = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor of the shape of `x`."""
        change: Tensor = self.branch(x)
        return x + change.view_as(x)


@checked
def grid(
    *,
    binarizer: Binarizer,
    bits: Count,
    widths: Sequence[int],
    blocks: Size,
    mixer: Size,
    kernel: Count,
    signed: Flag,
    image_shape: Sequence[int],
) -> Autoencoder:
    """Build an autoencoder with codes of shape ``(bits / cells, rows, columns)``.

    Two convolutions halve an image, from 28x28 to 14x14 and to 8x8: the grid's 64 cells. A code is
    made there, by a convolution of the last feature map. So a bit depends on some pixels and acts
    on some, which a network has to learn where all bits see all pixels (`conv`), and the network
    trains in a fraction of the steps. `mixer` lets all bits know of each other again.

    Args:
        binarizer: The binary layer.
        bits: Bits a code, a multiple of the cells.
        widths: Channels of the encoder's layers, and of the decoder's, backwards. The first two
            halve; further ones look at one cell each.
        blocks: Residual blocks behind each of these layers.
        mixer: Hidden width of a residual perceptron over the whole code, one before the bits and
            one behind; 0: none.
        kernel: Width of the kernels that make the code and read it, odd.
        signed: Feed the decoder {-1, 1} instead of {0, 1}.
        image_shape: ``(channels, height, width)``; 8x8 pixels or more.
    """
    channels, height, width = image_shape
    if min(height, width) < 8:
        raise ValueError(f"images must have 8x8 pixels or more, got {tuple(image_shape)}")
    if len(widths) < 2 or min(widths) < 1:
        raise ValueError(f"widths must be two or more, each at least 1, got {list(widths)}")
    if kernel % 2 == 0:
        raise ValueError(f"kernel must be odd, got {kernel}")
    half = (height // 2, width // 2)
    cells = (half[0] // 2 + 1, half[1] // 2 + 1)
    depth, rest = divmod(bits, math.prod(cells))
    if rest:
        raise ValueError(
            f"bits must be a multiple of the grid's {cells[0]}x{cells[1]} cells, got {bits}"
        )
    # Each kernel is as large as it takes to double to the size that the encoder had there.
    to_half = (half[0] - 2 * cells[0] + 6, half[1] - 2 * cells[1] + 6)
    to_whole = (height - 2 * half[0] + 4, width - 2 * half[1] + 4)
    first, second, *further = widths
    around = kernel // 2
    encoder = nn.Sequential(
        nn.Conv2d(channels, first, kernel_size=4, stride=2, padding=1),
        *_stage(first, blocks),
        nn.Conv2d(first, second, kernel_size=4, stride=2, padding=2),
        *_stage(second, blocks),
    )
    for before, width in zip(widths[1:], further, strict=False):
        encoder.extend([nn.Conv2d(before, width, kernel_size=1), *_stage(width, blocks)])
    encoder.extend(
        [
            nn.Conv2d(widths[-1], depth, kernel_size=kernel, padding=around),
            *_mixer(bits, mixer),
            nn.BatchNorm2d(depth),
        ]
    )
    decoder = nn.Sequential(
        *_mixer(bits, mixer),
        nn.Conv2d(depth, widths[-1], kernel_size=kernel, padding=around),
        *_stage(widths[-1], blocks),
    )
    for before, width in zip(reversed(further), reversed(widths[1:-1]), strict=True):
        decoder.extend([nn.Conv2d(before, width, kernel_size=1), *_stage(width, blocks)])
    decoder.extend(
        [
            nn.ConvTranspose2d(second, first, kernel_size=to_half, stride=2, padding=2),
            *_stage(first, blocks),
            nn.ConvTranspose2d(first, channels, kernel_size=to_whole, stride=2, padding=1),
            nn.Tanh(),
        ]
    )
    code_shape = (depth, *cells)
    return Autoencoder(
        encoder=encoder, binarizer=binarizer, decoder=decoder, code_shape=code_shape, signed=signed
    )


def _stage(width: int, blocks: int) -> list[nn.Module]:
    """Return what follows a layer of `width` channels: residual blocks, norm, ReLU."""

    def norm() -> list[nn.Module]:
        return [nn.BatchNorm2d(width), nn.ReLU()]

    def convolution() -> nn.Module:
        return nn.Conv2d(width, width, kernel_size=3, padding=1)

    residual = (Residual(*norm(), convolution(), *norm(), convolution()) for _ in range(blocks))
    return [*residual, *norm()]


def _mixer(bits: int, hidden: int) -> list[nn.Module]:
    """Return a residual perceptron over all `bits` of an example, or nothing."""
    if hidden == 0:
        return []
    return [
        Residual(
            nn.Flatten(),
            nn.BatchNorm1d(bits),
            nn.Linear(bits, hidden),
            nn.BatchNorm1d(hidden),
            nn.ReLU(),
            nn.Linear(hidden, bits),
        )
    ]
