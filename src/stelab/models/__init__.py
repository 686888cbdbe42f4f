"""Networks with a binary bottleneck."""

from stelab.models.autoencoder import Autoencoder
from stelab.models.convolutional import conv, tutorial
from stelab.models.mlp import mlp

__all__ = ["Autoencoder", "conv", "mlp", "tutorial"]
