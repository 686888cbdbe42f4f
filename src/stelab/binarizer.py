"""The binary layer that people put in networks."""

from torch import Tensor, nn

from stelab.arguments import Flag, show_arguments
from stelab.estimators.base import Estimator, PerExampleLoss
from stelab.randomness import Source
from stelab.thresholds.base import Threshold


class Binarizer(nn.Module):
    """A threshold and an estimator: ``bits = 1[x > theta]`` with the estimator's backward pass.

    Args:
        threshold: Where the step sits.
        estimator: What comes back through it.
        signed: Send ``2b - 1`` in {-1, 1} forward in place of ``b`` in {0, 1}; so f of `loss` and
            `losses` sees it, too. By the chain rule a gradient g there is one of 2g at the bits:
            the jump is 2, and a surrogate's mass doubles. So
            ``ClippedInput(bound=1.0, normalize_mass=True)`` is the sign of Hubara et al., which
            passes g where ``|s| <= 1``, `ApproxSign` and `SwishSign` are as published, without
            their halving, and `Identity` passes 2g. The sign of 0 is -1.

    Example:
        >>> import torch
        >>> from stelab import Binarizer
        >>> from stelab.estimators import HardtanhClip
        >>> from stelab.thresholds import FixedThreshold
        >>> threshold, estimator = FixedThreshold(value=0.5), HardtanhClip(bound=1.0)
        >>> layer = Binarizer(threshold=threshold, estimator=estimator)
        >>> x = torch.tensor([[0.4, 0.5, 0.6]], requires_grad=True)
        >>> bits = layer(x)
        >>> bits.tolist()
        [[0.0, 0.0, 1.0]]
        >>> (bits * torch.tensor([3.0, 0.5, -3.0])).sum().backward()
        >>> x.grad.tolist()
        [[1.0, 0.5, -1.0]]
    """

    extra_repr = show_arguments

    def __init__(self, *, threshold: Threshold, estimator: Estimator, signed: Flag = False):
        super().__init__()
        self.threshold = threshold
        self.estimator = estimator
        self.signed = signed

    def centre(self, x: Tensor) -> Tensor:
        """Compute ``s = x - theta`` in the dtype of `x` (under autocast theta may be wider)."""
        return x - self.threshold(x).to(x.dtype)

    def values(self, bits: Tensor) -> Tensor:
        """Return what `bits` are to the network behind: themselves, or if `signed` ``2b - 1``."""
        return 2 * bits - 1 if self.signed else bits

    def forward(self, x: Tensor, *, generator: Source | None = None) -> Tensor:
        """Binarize `x` of shape ``(batch, *code_shape)``: `values` of the same shape and dtype."""
        return self.values(self.estimator(self.centre(x), generator=generator))

    def loss(self, x: Tensor, f: PerExampleLoss, *, generator: Source | None = None) -> Tensor:
        """Evaluate the scalar that the estimator differentiates; see `Estimator.loss`."""
        return self.estimator.loss(self.centre(x), self._behind(f), generator=generator)

    def losses(self, x: Tensor, f: PerExampleLoss, *, generator: Source | None = None) -> Tensor:
        """Evaluate one loss an example, ``(batch,)``; see `Estimator.losses`."""
        return self.estimator.losses(self.centre(x), self._behind(f), generator=generator)

    def _behind(self, f: PerExampleLoss) -> PerExampleLoss:
        return lambda bits: f(self.values(bits))
