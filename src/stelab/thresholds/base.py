"""The interface of thresholds."""

from torch import Tensor, nn


class Threshold(nn.Module):
    """Where the step sits: ``bit = 1[x > theta]``."""

    def forward(self, x: Tensor) -> Tensor:
        """Return theta, broadcastable to the pre-activation `x`, ``(batch, *code_shape)``."""
        raise NotImplementedError(f"{type(self).__name__} must define forward(x)")
