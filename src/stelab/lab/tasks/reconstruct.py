"""To make an image of its bits again."""

from typing import Any, ClassVar

from torch import Tensor
from torch.nn.functional import mse_loss

from stelab.lab.data.datamodule import Batch
from stelab.lab.models.autoencoder import Autoencoder
from stelab.lab.models.network import Network
from stelab.lab.tasks.base import Task
from stelab.lab.tasks.losses import SquaredError


class Reconstruct(Task):
    r"""Compress images to bits and back.

    The loss of an example is the configured one between reconstruction and image. Its metric is
    ``mse``, always the mean over pixels of the squared error of normalized images, so that any
    two runs compare.

    Args:
        loss: ``(reconstruction, images) -> (batch,)``, or one value a pixel.
    """

    metric = "mse"
    network: ClassVar[type[Network]] = Autoencoder
    encodes = True

    def require_fit(self, model: Network, batch: Batch, code: Tensor, output: Any) -> None:
        """Compare the shapes of codes and images with what they should be."""
        assert isinstance(model, Autoencoder)
        shape = tuple(batch["images"].shape)
        if code.shape[1:] != model.code_shape:
            raise ValueError(
                f"model has code_shape {tuple(model.code_shape)}, but makes codes of shape "
                f"{tuple(code.shape)} of images of shape {shape}"
            )
        require_image(output, batch)

    def target(self, batch: Batch) -> Tensor:
        """Return the images."""
        return batch["images"]

    def example_losses(self, output: Tensor, batch: Batch) -> Tensor:
        """Return the squared error, averaged over pixels: a sum is of the whole batch."""
        return _squared_error(output, batch["images"])

    def metrics(self, output: Tensor, batch: Batch, losses: Tensor) -> dict[str, Tensor]:
        """Return ``mse``."""
        if isinstance(self.loss, SquaredError) and self.loss.reduction == "mean":
            return {"mse": losses}
        return {"mse": _squared_error(output.float(), batch["images"])}

    def pictures(self, model: Network, batch: Batch) -> dict[str, Tensor]:
        """Return the images and their reconstructions."""
        return {"original": batch["images"], "reconstruction": model(batch["images"])}


def require_image(output: Tensor, batch: Batch) -> None:
    """Raise ValueError unless an output has the shape of the images."""
    shape = tuple(batch["images"].shape)
    if output.shape != shape:
        raise ValueError(
            f"model must make images of the shape it is given, {shape}, but makes "
            f"{tuple(output.shape)}"
        )


def _squared_error(output: Tensor, images: Tensor) -> Tensor:
    return mse_loss(output, images, reduction="none").flatten(1).mean(1)
