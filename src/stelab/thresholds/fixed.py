"""A threshold that stays where it is put."""

from torch import Tensor

from stelab.arguments import Real, checked
from stelab.estimators.backward import scalar
from stelab.thresholds.base import Threshold


class FixedThreshold(Threshold):
    """One constant for all bits: ``theta = value``, rounded to the dtype of `x`.

    Args:
        value: The threshold, any finite number.
    """

    @checked
    def __init__(self, *, value: Real):
        super().__init__()
        self.value = value

    def forward(self, x: Tensor) -> Tensor:
        """Return a 0-dimensional theta in the dtype of `x`, on its device."""
        return scalar(self.value, x)
