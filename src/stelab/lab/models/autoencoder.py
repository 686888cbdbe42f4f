"""An autoencoder whose bottleneck is bits."""

from torch import Tensor, nn

from stelab.binarizer import Binarizer
from stelab.lab.models.network import Network


class Autoencoder(Network):
    """``x_hat = decoder(binarizer(encoder(x)))``.

    Args:
        encoder: Images ``(batch, channels, height, width)`` to pre-activations
            ``(batch, *code_shape)``.
        binarizer: Pre-activations to bits of the same shape.
        decoder: Bits to images in (-1, 1).
        code_shape: Shape of one code.
        signed: Feed the decoder ``2b - 1`` in {-1, 1} instead of ``b`` in {0, 1}.
    """

    def __init__(
        self,
        *,
        encoder: nn.Module,
        binarizer: Binarizer,
        decoder: nn.Module,
        code_shape: tuple[int, ...],
        signed: bool,
    ):
        super().__init__()
        if binarizer.signed:
            raise ValueError(
                "codes are bits in {0, 1}, got a binarizer with signed=True: leave it False, and "
                "set model.signed=true, which feeds the decoder {-1, 1}"
            )
        self.encoder = encoder
        self.binarizer = binarizer
        self.decoder = decoder
        self.code_shape = tuple(code_shape)  # YAML has lists
        self.signed = signed

    def decode(self, code: Tensor) -> Tensor:
        """Return the images that bits of shape ``(batch, *code_shape)`` stand for."""
        images: Tensor = self.decoder(2 * code - 1 if self.signed else code)
        return images
