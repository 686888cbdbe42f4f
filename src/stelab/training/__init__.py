"""Training: a Lightning module around encoder, binary layer and decoder, and what watches it."""

from stelab.training.basket import GradientBasket
from stelab.training.losses import SquaredError
from stelab.training.metrics_file import MetricsFile
from stelab.training.module import AutoencoderModule
from stelab.training.monitors import CodeMonitor, GradientMonitor, Throughput
from stelab.training.run import build_module, train

__all__ = [
    "AutoencoderModule",
    "CodeMonitor",
    "GradientBasket",
    "GradientMonitor",
    "MetricsFile",
    "SquaredError",
    "Throughput",
    "build_module",
    "train",
]
