"""To tell what an image shows."""

from typing import Any

import torch
from torch import Tensor

from stelab.lab.data.datamodule import Batch
from stelab.lab.models.network import Network
from stelab.lab.tasks.base import Task


class Classify(Task):
    r"""Classify images with a network of binary layers.

    The loss of an example is the configured one between logits ``(batch, classes)`` and labels,
    such as cross-entropy; its metric is ``accuracy``, 1 where the largest logit is the label's.

    Args:
        loss: ``(logits, labels) -> (batch,)``.
    """

    metric = "accuracy"
    better = "higher"

    def require_batch(self, batch: Batch) -> None:
        """Raise ValueError unless there are labels."""
        if "labels" not in batch:
            raise ValueError("data must have labels, and has images alone")

    def require_fit(self, model: Network, batch: Batch, code: Tensor, output: Any) -> None:
        """Raise ValueError unless there is one logit a class."""
        if output.dim() != 2 or len(output) != len(batch["images"]):
            raise ValueError(
                "model must make logits of shape (batch, classes), but makes "
                f"{tuple(output.shape)} of {len(batch['images'])} images"
            )

    def target(self, batch: Batch) -> Tensor:
        """Return the labels."""
        return batch["labels"]

    def metrics(self, output: Tensor, batch: Batch, losses: Tensor) -> dict[str, Tensor]:
        """Return ``accuracy``."""
        return {"accuracy": (output.argmax(1) == batch["labels"]).to(torch.float32)}
