"""Lower halves of digits, predicted from their upper halves through bits."""

from halves.data import MNIST5kHalves
from halves.loss import NoisyPixels
from halves.model import HalfToHalf
from halves.task import PredictLower

__all__ = ["HalfToHalf", "MNIST5kHalves", "NoisyPixels", "PredictLower"]
