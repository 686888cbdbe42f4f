r"""Binarized digits, for variational autoencoders: every pixel is 0 or 1.

Of a grey value :math:`g` in [0, 1], which is read as the probability of 1.

References:
    [Salakhutdinov2008] Salakhutdinov, Murray (2008), "On the Quantitative Analysis of Deep Belief
    Networks": one draw of every image.
    [Burda2016] Burda, Grosse, Salakhutdinov (2016), "Importance Weighted Autoencoders",
    arXiv:1509.00519: a new draw every time that an image is trained on.
"""

from functools import lru_cache
from typing import Literal

import torch
from torch import Generator, Tensor

from stelab.arguments import Count, One, Size, Text, Zero, checked
from stelab.lab.data.datamodule import SPLITS, Batch, Draw, ImageDataModule, seeded
from stelab.lab.data.mnist import MNIST, MNIST5k


class _Binarized(ImageDataModule):
    """What makes images of grey values: a class that comes before the dataset's among its bases."""

    binarization: str
    split_seed: int

    def load(self, split: str) -> Batch:
        """Return binary images; of training images that are drawn anew, their grey values."""
        grey = super().load(split)
        if self.binarization == "dynamic" and split == "train":
            return grey
        if self.binarization == "threshold":
            return {**grey, "images": _threshold(grey["images"])}
        return {**grey, "images": _drawn_once(grey["images"], self.split_seed, split)}

    @property
    def draw(self) -> Draw | None:
        """Return what draws the pixels of a training batch, if they are drawn anew each time."""
        return self._draw if self.binarization == "dynamic" else None

    def _draw(self, batch: Batch, epoch: int, index: int) -> Batch:
        grey = batch["images"]
        # A last number of its own: what training draws is seeded with (seed, step, process).
        generator = seeded(self.seed, epoch, index, 1, device=grey.device)
        return {**batch, "images": _bernoulli(grey, generator)}


def _bernoulli(grey: Tensor, generator: Generator) -> Tensor:
    """Draw pixels that are 1 with probability `grey`: never for 0, always for 1."""
    uniform = torch.rand(grey.shape, generator=generator, device=grey.device)
    return (uniform < grey).to(grey.dtype)


# Once a process, as the grey values are: a tensor is its own key, by identity.
@lru_cache(maxsize=6)
def _drawn_once(grey: Tensor, seed: int, split: str) -> Tensor:
    return _bernoulli(grey, seeded(seed, 1 + SPLITS.index(split)))


@lru_cache(maxsize=6)
def _threshold(grey: Tensor) -> Tensor:
    return (grey > 0.5).to(grey.dtype)


class BinarizedMNIST(_Binarized, MNIST):
    """All of MNIST, every pixel 0 or 1.

    Args:
        binarization: ``"dynamic"`` draws the pixels of training images anew every epoch, and those
            of validation and test images once; ``"static"`` draws all once; ``"threshold"`` is
            whether grey is above 0.5.
        root: Folder that holds, or will hold, the dataset's folder.
        val_size: Images of the training set held out for validation, stratified.
        split_seed: Decides which, and what is drawn once.
        limit: Keep the first `limit` images of each split; None keeps all.
        batch_size: Images a batch, over all processes.
        seed: With the epoch, decides the order of the batches, and what is drawn every epoch.

    Only batches of training are drawn anew: whoever looks at the training split otherwise, such as
    ``stelab encode split=train``, sees its grey values.

    Raises:
        InputError: The files are absent and cannot be downloaded, or are damaged.

    References:
        [Burda2016] for ``"dynamic"``, [Salakhutdinov2008] for ``"static"``, whose draw is another.
    """

    @checked
    def __init__(
        self,
        *,
        binarization: Literal["dynamic", "static", "threshold"],
        root: Text,
        val_size: Size,
        split_seed: Size,
        limit: Count | None,
        batch_size: Count,
        seed: Size,
        mean: Zero = 0.0,
        std: One = 1.0,
    ):
        super().__init__(
            root=root,
            val_size=val_size,
            split_seed=split_seed,
            limit=limit,
            batch_size=batch_size,
            seed=seed,
            mean=mean,
            std=std,
        )
        self.binarization = binarization


class BinarizedMNIST5k(_Binarized, MNIST5k):
    """The 5,000 digits of `MNIST5k`, every pixel 0 or 1.

    Args:
        binarization: See `BinarizedMNIST`.
        test_size: Images held out for the test, stratified.
        val_size: Images held out for validation, stratified.
        split_seed: Decides which, and what is drawn once.
        limit: Keep the first `limit` images of each split; None keeps all.
        batch_size: Images a batch, over all processes.
        seed: With the epoch, decides the order of the batches, and what is drawn every epoch.

    References:
        See `BinarizedMNIST` and `MNIST5k`.
    """

    @checked
    def __init__(
        self,
        *,
        binarization: Literal["dynamic", "static", "threshold"],
        test_size: Count,
        val_size: Size,
        split_seed: Size,
        limit: Count | None,
        batch_size: Count,
        seed: Size,
        mean: Zero = 0.0,
        std: One = 1.0,
    ):
        super().__init__(
            test_size=test_size,
            val_size=val_size,
            split_seed=split_seed,
            limit=limit,
            batch_size=batch_size,
            seed=seed,
            mean=mean,
            std=std,
        )
        self.binarization = binarization
        self.split_seed = split_seed
