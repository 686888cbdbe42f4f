"""Image tokenizers: a grid of discrete codes, each of a few channels, and back.

References:
    Esser, Rombach, Ommer (2021), "Taming Transformers for High-Resolution Image Synthesis",
    arXiv:2012.09841. Yu et al. (2023), arXiv:2310.05737. Mentzer, Minnen, Agustsson, Tschannen
    (2023), "Finite Scalar Quantization", arXiv:2309.15505.
"""

from collections.abc import Sequence

from torch import Tensor, nn

from stelab.arguments import Count, checked
from stelab.lab.models.network import Network
from stelab.quantizers import Quantizer


class Tokenizer(Network):
    """``x_hat = decoder(quantizer(encoder(x)))``, with a code at each position of a grid.

    Args:
        encoder: Images to ``(batch, d, *grid)``, with the quantizer's d channels.
        binarizer: The quantizer.
        decoder: Codes to images.
        grid: Its shape.
    """

    binarizer: Quantizer

    def __init__(
        self,
        *,
        encoder: nn.Module,
        binarizer: Quantizer,
        decoder: nn.Module,
        grid: Sequence[int] | None,
    ):
        super().__init__()
        self.encoder = encoder
        self.binarizer = binarizer
        self.decoder = decoder
        self.grid = None if grid is None else tuple(grid)

    def decode(self, code: Tensor) -> Tensor:
        """Return the images that codes stand for."""
        images: Tensor = self.decoder(code)
        return images


@checked
def tokenizer(
    *,
    binarizer: Quantizer,
    bits: Count,
    hidden: Count,
    channels: Count,
    grid: Sequence[int] | None = None,  # of older runs, which do not say it
) -> Tokenizer:
    """Build two strided convolutions, residual ones on the grid, and the same back.

    A code stands for 4x4 pixels: 28x28 images have a grid of 7x7. Group norm keeps examples apart.

    Args:
        binarizer: The quantizer.
        bits: Channels of a code, which are the quantizer's.
        hidden: Channels inside, a multiple of 8.
        channels: Of an image.
        grid: Codes down and across an image, which is what the task compares.

    Raises:
        ValueError: The quantizer has other channels.
    """
    if bits != len(binarizer.levels):
        raise ValueError(
            f"model.bits must be the channels of the quantizer, {len(binarizer.levels)}, got {bits}"
        )
    down = {"kernel_size": 4, "stride": 2, "padding": 1}
    encoder = nn.Sequential(
        nn.Conv2d(channels, hidden, **down),  # type: ignore[arg-type]
        nn.SiLU(),
        nn.Conv2d(hidden, hidden, **down),  # type: ignore[arg-type]
        _Residual(hidden),
        nn.GroupNorm(8, hidden),
        nn.SiLU(),
        nn.Conv2d(hidden, bits, kernel_size=1),
    )
    decoder = nn.Sequential(
        nn.Conv2d(bits, hidden, kernel_size=3, padding=1),
        _Residual(hidden),
        nn.GroupNorm(8, hidden),
        nn.SiLU(),
        nn.ConvTranspose2d(hidden, hidden, **down),  # type: ignore[arg-type]
        nn.SiLU(),
        nn.ConvTranspose2d(hidden, channels, **down),  # type: ignore[arg-type]
    )
    return Tokenizer(encoder=encoder, binarizer=binarizer, decoder=decoder, grid=grid)


class _Residual(nn.Module):
    """Add to a grid what two convolutions make of it."""

    def __init__(self, hidden: int):
        super().__init__()
        convolution = {"kernel_size": 3, "padding": 1}
        self.layers = nn.Sequential(
            nn.GroupNorm(8, hidden),
            nn.SiLU(),
            nn.Conv2d(hidden, hidden, **convolution),  # type: ignore[arg-type]
            nn.GroupNorm(8, hidden),
            nn.SiLU(),
            nn.Conv2d(hidden, hidden, **convolution),  # type: ignore[arg-type]
        )

    def forward(self, x: Tensor) -> Tensor:
        images: Tensor = x + self.layers(x)
        return images
