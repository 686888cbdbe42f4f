"""The interface of thresholds."""

from torch import Tensor, nn

from stelab.arguments import show_arguments


class Threshold(nn.Module):
    """Where the step sits: ``bit = 1[x > theta]``."""

    extra_repr = show_arguments

    def forward(self, x: Tensor) -> Tensor:
        """Return theta, broadcastable to the pre-activation `x`, ``(batch, *code_shape)``."""
        raise NotImplementedError(f"{type(self).__name__} must define forward(x)")
