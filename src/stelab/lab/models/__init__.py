"""Networks with a binary bottleneck."""

from stelab.lab.models.autoencoder import Autoencoder
from stelab.lab.models.networks import conv, mlp, tutorial

__all__ = ["Autoencoder", "conv", "mlp", "tutorial"]
