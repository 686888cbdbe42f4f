"""A threshold that moves while training."""

from torch import Tensor

from stelab.annealing import Scheduled
from stelab.arguments import Real, checked
from stelab.thresholds.base import Threshold


class AnnealedThreshold(Scheduled, Threshold):
    r"""One constant for all bits that moves in a line: a code that grows sparser, or denser.

    .. math:: \theta = \mathrm{start} + (\mathrm{end} - \mathrm{start})\,r,

    rounded to the dtype of `x`. The progress r goes from 0 to 1 with `stelab.annealing`, carries no
    gradient, and is in the state dict: a restored network stands where it stood.

    Args:
        start: theta before the first step, any finite number.
        end: theta after the last step, any finite number.
    """

    @checked
    def __init__(self, *, start: Real, end: Real):
        super().__init__(start=start, end=end)

    def forward(self, x: Tensor) -> Tensor:
        """Return a 0-dimensional theta in the dtype of `x`, on the module's device."""
        return self.linear().to(x.dtype)
