"""No data: blank images, for networks that look at none."""

import torch

from stelab.arguments import Count, Size, checked
from stelab.lab.data.datamodule import Batch, ImageDataModule


class Blank(ImageDataModule):
    """Images of one pixel, all alike: as many as an epoch's steps take; one each for val and test.

    Args:
        steps: Training batches an epoch.
        batch_size: Images a batch, so draws an optimizer step, over all processes.
        seed: Of the order of the batches, which are all alike.
    """

    @checked
    def __init__(self, *, steps: Count, batch_size: Count, seed: Size):
        super().__init__(limit=None, batch_size=batch_size, seed=seed, mean=0.5, std=0.5)
        self.steps = steps

    def load(self, split: str) -> Batch:
        """Return the images of a split."""
        count = self.steps * self.batch_size if split == "train" else 1
        return {"images": torch.zeros(count, 1, 1, 1)}
