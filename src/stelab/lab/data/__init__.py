"""Image datasets as Lightning data modules: tensors, normalized once, batches indexed."""

from stelab.lab.data.binarized import BinarizedMNIST, BinarizedMNIST5k
from stelab.lab.data.blank import Blank
from stelab.lab.data.cifar import CIFAR10
from stelab.lab.data.datamodule import (
    Batch,
    ImageDataModule,
    ImageFormat,
    denormalize,
    normalize,
)
from stelab.lab.data.image_folder import ImageFolder
from stelab.lab.data.mnist import KMNIST, MNIST, FashionMNIST, MNIST5k
from stelab.lab.data.npz import NPZ

__all__ = [
    "CIFAR10",
    "KMNIST",
    "MNIST",
    "NPZ",
    "Batch",
    "BinarizedMNIST",
    "BinarizedMNIST5k",
    "Blank",
    "FashionMNIST",
    "ImageDataModule",
    "ImageFolder",
    "ImageFormat",
    "MNIST5k",
    "denormalize",
    "normalize",
]
