"""Image datasets as Lightning data modules: one tensor, normalized once, batches indexed."""

from stelab.lab.data.datamodule import ImageDataModule, denormalize, normalize
from stelab.lab.data.mnist import KMNIST, MNIST, FashionMNIST, MNIST5k

__all__ = [
    "KMNIST",
    "MNIST",
    "FashionMNIST",
    "ImageDataModule",
    "MNIST5k",
    "denormalize",
    "normalize",
]
