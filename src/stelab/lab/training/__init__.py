"""Training: a Lightning module around encoder, binary layer and decoder, and what watches it."""

from stelab.lab.tasks.losses import BernoulliLikelihood, SquaredError
from stelab.lab.training.building import build_module
from stelab.lab.training.metrics_file import MetricsFile
from stelab.lab.training.module import TaskModule
from stelab.lab.training.monitors import CodeMonitor, GradientMonitor, Throughput
from stelab.lab.training.run import train
from stelab.lab.training.schedules import Warmup

__all__ = [
    "BernoulliLikelihood",
    "TaskModule",
    "CodeMonitor",
    "GradientMonitor",
    "MetricsFile",
    "SquaredError",
    "Throughput",
    "Warmup",
    "build_module",
    "train",
]
