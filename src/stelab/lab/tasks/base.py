"""What a network with binary layers is trained for: the interface of all tasks."""

from typing import Any, ClassVar, Literal

from torch import Tensor, nn

from stelab.binarizer import Binarizer
from stelab.lab.data.datamodule import Batch
from stelab.lab.models.network import Network
from stelab.randomness import Source

Split = Literal["train", "val", "test"]


class Task(nn.Module):
    """The one thing that training asks: what an output is worth, and what is said about it.

    Training minimizes the mean over the examples of ``binarizer.loss(encoder(images), f)`` plus
    `penalty`, where f maps codes to `losses` of what the network makes of them.

    Args:
        loss: The group ``loss``: a module ``(output, target) -> (batch,)``, or one value an
            element, such as torch's with ``reduction="none"``: an example's is their mean.

    Attributes:
        metric: Name of the headline metric, without its split: runs are compared by
            ``test/<metric>``.
        better: Whether its ``"lower"`` or its ``"higher"`` values are better.
        network: What the group ``model`` must build.
        encodes: Whether a code stands for an image, so that it can be encoded and decoded.
    """

    metric: ClassVar[str]
    better: ClassVar[Literal["lower", "higher"]] = "lower"
    network: ClassVar[type[Network]] = Network
    encodes: ClassVar[bool] = False

    def __init__(self, loss: nn.Module):
        super().__init__()
        self.loss = loss

    def require_batch(self, batch: Batch) -> None:
        """Raise ValueError, which says why, where data has not what this needs."""

    def require_fit(self, model: Network, batch: Batch, code: Tensor, output: Any) -> None:
        """Raise ValueError, which says why, where a network cannot be trained for this.

        Args:
            model: The network.
            batch: A batch, perhaps on the meta device; where a run is read, of ``"images"`` alone.
            code: What its binary layer makes of it.
            output: What comes out for that code.
        """

    def target(self, batch: Batch) -> Tensor:
        """Return what an output is compared with."""
        raise NotImplementedError(f"{type(self).__name__} must define target(batch)")

    def losses(self, output: Any, batch: Batch) -> Tensor:
        """Return the loss of every example, shape ``(batch,)``."""
        losses: Tensor = self.loss(output, self.target(batch))
        return losses.flatten(1).mean(1) if losses.dim() > 1 else losses

    def example_losses(self, output: Any, batch: Batch) -> Tensor:
        """Return the loss of every example as measurements take it: of the example alone."""
        return self.losses(output, batch)

    def penalty(self, model: Network, x: Tensor) -> Tensor | None:
        """Return terms that are known without an estimate, such as a KL divergence.

        Args:
            model: The network.
            x: Pre-activations of its binary layer, ``(batch, *code_shape)``.

        Returns:
            Shape ``(batch,)``, or 0-dimensional for what is of the whole batch; None for none.
        """
        return None

    def metrics(self, output: Any, batch: Batch, losses: Tensor) -> dict[str, Tensor]:
        """Return what is logged of every example beside the loss, ``(batch,)`` each, by name.

        Args:
            output: What the network made of a code.
            batch: Of images, and what belongs to them.
            losses: What `losses` says of them, so that nothing is computed twice.
        """
        raise NotImplementedError(
            f"{type(self).__name__} must define metrics(output, batch, losses)"
        )

    def evaluate(
        self, model: Network, batch: Batch, split: Split, *, generator: Source
    ) -> dict[str, Tensor]:
        """Return ``loss`` and the metrics of every example, ``(batch,)`` each, in eval mode.

        Args:
            model: The network.
            batch: Of the split.
            split: Which.
            generator: For a task that draws codes; the others threshold them.
        """
        x = model.encoder(batch["images"])
        output = model.decode(model.binarizer(x))
        losses = self.losses(output, batch)
        metrics = self.metrics(output, batch, losses)
        return {"loss": with_penalty(losses, self.penalty(model, x)), **metrics}

    def image(self, output: Any) -> Tensor:
        """Return the images that an output stands for, normalized, where `encodes`."""
        images: Tensor = output
        return images

    def pictures(self, model: Network, batch: Batch) -> dict[str, Tensor]:
        """Return rows of images for ``figures/reconstructions.png``, by what they are called.

        Each is shaped and normalized as the images; empty where a task makes no images. A study's
        figures give ``"images"`` alone, and show ``"reconstruction"``.
        """
        return {}


def with_penalty(losses: Tensor, penalty: Tensor | None) -> Tensor:
    """Add a penalty to losses, each of which has it where it is of the whole batch."""
    return losses if penalty is None else losses + penalty


def binary_layers(model: nn.Module) -> list[Binarizer]:
    """Return all binary layers, in the order of their definition."""
    return [part for part in model.modules() if isinstance(part, Binarizer)]
