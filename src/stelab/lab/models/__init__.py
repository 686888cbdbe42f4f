"""Networks with a binary bottleneck."""

from stelab.lab.models.autoencoder import Autoencoder
from stelab.lab.models.convolutional import conv, tutorial
from stelab.lab.models.mlp import mlp

__all__ = ["Autoencoder", "conv", "mlp", "tutorial"]
