"""Binary digits, cut in two."""

from functools import partial

import torch

from stelab.lab.data import BinarizedMNIST5k
from stelab.lab.data.datamodule import Batch, Draw


class MNIST5kHalves(BinarizedMNIST5k):
    """The digits of `BinarizedMNIST5k`: ``images`` are upper halves, ``lower`` the other ones.

    Both are of shape ``(n, 1, 14, 28)``. Arguments: see `BinarizedMNIST5k`.
    """

    def load(self, split: str) -> Batch:
        """Return the halves of a split."""
        return cut(super().load(split))

    @property
    def draw(self) -> Draw | None:
        """Return what draws the pixels of a whole batch anew, if they are."""
        whole = super().draw
        return None if whole is None else partial(_drawn, whole)


def cut(digits: Batch) -> Batch:
    """Cut images in an upper and a lower half."""
    upper, lower = digits["images"].chunk(2, dim=2)
    return {**digits, "images": upper, "lower": lower}


def _drawn(whole: Draw, halves: Batch, epoch: int, index: int) -> Batch:
    grey = torch.cat([halves["images"], halves["lower"]], dim=2)
    return cut(whole({**halves, "images": grey}, epoch, index))
