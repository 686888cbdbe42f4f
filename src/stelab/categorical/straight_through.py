"""The straight-through estimator for one-hots.

References:
    [Bengio2013] Bengio, Léonard, Courville (2013), "Estimating or Propagating Gradients Through
    Stochastic Neurons for Conditional Computation", arXiv:1308.3432.
"""

from torch import Tensor

from stelab.arguments import Positive, checked
from stelab.categorical.base import Mixture, SoftmaxJacobians
from stelab.randomness import Source


class StraightThrough(SoftmaxJacobians):
    r"""Straight-through: the gradient passes as if the one-hot were the softmax.

    Forward: :math:`D \sim \mathrm{Categorical}(\pi)`.
    Backward: :math:`J(q)\,g/\tau` with :math:`q = \mathrm{softmax}(l/\tau)`.

    At :math:`\tau = 1` exact for linear losses, otherwise biased. One evaluation of the loss a
    step. [Bengio2013]

    Args:
        temperature: :math:`\tau`, above 0, of the gradient; D is drawn without it.
    """

    @checked
    def __init__(self, *, temperature: Positive):
        super().__init__()
        self.temperature = temperature
        self.exactness = "exact for linear" if temperature == 1 else "biased"

    def mixture(self, log_pi: Tensor, sample: Tensor, *, generator: Source | None) -> Mixture:
        """See the class."""
        return [(1 / self.temperature, (log_pi / self.temperature).softmax(-1))]
