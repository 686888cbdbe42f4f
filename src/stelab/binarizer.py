"""The binary layer that people put in networks."""

from torch import Generator, Tensor, nn

from stelab.estimators.base import Estimator, PerExampleLoss
from stelab.thresholds.base import Threshold


class Binarizer(nn.Module):
    """A threshold and an estimator: ``bits = 1[x > theta]`` with the estimator's backward pass.

    Args:
        threshold: Where the step sits.
        estimator: What comes back through it.

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

    def __init__(self, *, threshold: Threshold, estimator: Estimator):
        super().__init__()
        self.threshold = threshold
        self.estimator = estimator

    def centre(self, x: Tensor) -> Tensor:
        """Compute ``s = x - theta`` in the dtype of `x` (under autocast theta may be wider)."""
        return x - self.threshold(x).to(x.dtype)

    def forward(self, x: Tensor, *, generator: Generator | None = None) -> Tensor:
        """Binarize `x` of shape ``(batch, *code_shape)``: bits of the same shape and dtype."""
        return self.estimator(self.centre(x), generator=generator)

    def loss(self, x: Tensor, f: PerExampleLoss, *, generator: Generator | None = None) -> Tensor:
        """Evaluate the scalar that the estimator differentiates; see `Estimator.loss`."""
        return self.estimator.loss(self.centre(x), f, generator=generator)

    def losses(self, x: Tensor, f: PerExampleLoss, *, generator: Generator | None = None) -> Tensor:
        """Evaluate one loss an example, ``(batch,)``; see `Estimator.losses`."""
        return self.estimator.losses(self.centre(x), f, generator=generator)
