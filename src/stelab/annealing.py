"""How far training has come: the one state that all schedules read."""

import torch
from torch import Tensor, nn


class Scheduled(nn.Module):
    """A module with a hyperparameter that moves from `start` to `end` while training.

    Its only state is the buffer `progress`, 0 before the first step, 1 after the last. It is in
    the state dict, so a restored network stands where it stood. Training moves it with `advance`.

    Args:
        start: Value before the first step.
        end: Value after the last step.
    """

    progress: Tensor

    def __init__(self, *, start: float, end: float):
        super().__init__()
        self.start = start
        self.end = end
        self.register_buffer("progress", torch.zeros(()))

    def linear(self) -> Tensor:
        """Return ``start + (end - start) * progress``."""
        return self.start + (self.end - self.start) * self._wide()

    def geometric(self) -> Tensor:
        """Return ``start * (end / start) ** progress``."""
        return self.start * (self.end / self.start) ** self._wide()

    def _wide(self) -> Tensor:
        # So that a schedule is exact in float64 networks; MPS has no float64.
        return self.progress if self.progress.device.type == "mps" else self.progress.double()


def advance(module: nn.Module, progress: float) -> None:
    """Set every schedule inside `module` to this fraction of training."""
    for part in module.modules():
        if isinstance(part, Scheduled):
            part.progress.fill_(progress)
