"""To make a grid of discrete codes of an image, for models of sequences to learn."""

from typing import Any

from torch import Tensor

from stelab.lab.data.datamodule import Batch
from stelab.lab.models.network import Network
from stelab.lab.models.tokenizers import Tokenizer
from stelab.lab.tasks.reconstruct import Reconstruct, require_image


class Tokenize(Reconstruct):
    """Compress images to codes of a quantizer and back.

    As `Reconstruct`, with the quantizer's own terms (entropy, commitment) added to the loss. How
    its codebook is used is told by the callback `code`: see `stelab.lab.training.CodeMonitor`.

    Args:
        loss: ``(reconstruction, images) -> (batch,)``, or one value a pixel.
    """

    network = Tokenizer

    def require_fit(self, model: Network, batch: Batch, code: Tensor, output: Any) -> None:
        """Compare the shapes of grid and image with what they should be."""
        assert isinstance(model, Tokenizer)
        grid = tuple(code.shape[2:])
        if model.grid not in (None, grid):
            raise ValueError(
                f"model.grid must be that of codes, {[*grid]} of images of shape "
                f"{tuple(batch['images'].shape)}, got {list(model.grid or ())}"
            )
        require_image(output, batch)

    def penalty(self, model: Network, x: Tensor) -> Tensor:
        """Return the quantizer's terms, 0-dimensional."""
        assert isinstance(model, Tokenizer)
        return model.binarizer.penalty(x)
