"""Image datasets as Lightning data modules: one tensor, normalized once, batches indexed."""

from stelab.lab.data.datamodule import ImageDataModule, denormalize, normalize
from stelab.lab.data.digits5k import MNIST5k
from stelab.lab.data.idx import KMNIST, MNIST, FashionMNIST

__all__ = [
    "KMNIST",
    "MNIST",
    "FashionMNIST",
    "ImageDataModule",
    "MNIST5k",
    "denormalize",
    "normalize",
]
