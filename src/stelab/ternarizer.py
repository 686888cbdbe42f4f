r"""The ternary layer: values -1, 0 and 1, through any deterministic estimator of a single pass.

References:
    [Li2016] Li, Zhang, Liu (2016), "Ternary Weight Networks", arXiv:1605.04711.
"""

from typing import Literal

from torch import Tensor, nn

from stelab.arguments import NonNegative, checked, show_arguments
from stelab.estimators.backward import scalar, wide
from stelab.estimators.base import Estimator
from stelab.estimators.multi_evaluation import MultiEvaluation


class Ternarizer(nn.Module):
    r"""Two steps, at -t and t, behind one estimator.

    Forward: :math:`1[x > t] + 1[x > -t] - 1`, so 0 at t and -1 at -t. Backward: the estimator's
    rule for both bits, each at x itself: where the rule ignores the bit, the gradient of the sign
    (``Binarizer(signed=True)`` with a threshold of 0), whatever t is. So
    ``ClippedInput(bound=1.0, normalize_mass=True)`` passes the gradient where :math:`|x| \le 1`.

    With a surrogate around each step, or with drawn bits, a ternary value is the sum of two
    `stelab.Binarizer`, with thresholds -t and t, minus 1.

    Args:
        threshold: t, at least 0, rounded to the dtype of `x`; or ``"twn"`` for
            :math:`0.7\,\mathrm{mean}|x|` over all of `x`, without a gradient: weights that are
            normally distributed then lose least [Li2016].
        estimator: What comes back through both steps.

    Raises:
        ValueError: `threshold` is out of its range, or the estimator draws bits or evaluates the
            loss several times.
    """

    extra_repr = show_arguments

    @checked
    def __init__(self, *, threshold: NonNegative | Literal["twn"], estimator: Estimator):
        super().__init__()
        if estimator.randomness != "none" or isinstance(estimator, MultiEvaluation):
            raise ValueError(
                "the two steps of a ternarizer need a rule for given bits, got "
                f"{type(estimator).__name__}, which draws its own: take a deterministic estimator "
                "such as ClippedInput, or the sum of two Binarizers"
            )
        self.threshold = threshold
        self.estimator = estimator

    def forward(self, x: Tensor) -> Tensor:
        """Ternarize `x` of any shape: -1, 0 or 1 in the same shape and dtype."""
        t = self._position(x)
        return self.estimator(x, bits=x > t) + self.estimator(x, bits=x > -t) - 1

    def _position(self, x: Tensor) -> Tensor:
        if isinstance(self.threshold, str):
            return (0.7 * wide(x.detach()).abs().mean()).to(x.dtype)
        return scalar(self.threshold, x)
