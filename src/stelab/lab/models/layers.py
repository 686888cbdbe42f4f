"""Choices that the networks share: the norm after a layer, a ReLU or none."""

from __future__ import annotations

import math
from typing import Literal

from torch import nn

Norm = Literal["batch", "group", "none"]


def norm_layers(
    norm: Norm, size: int, batch_norm: type[nn.Module] = nn.BatchNorm2d
) -> list[nn.Module]:
    """Return the norm that follows a layer to `size` channels or features, or nothing.

    Batch norm makes an example's loss depend on the bits of its whole batch; group norm (8 groups,
    or fewer so that each has at least 8 channels) does not.
    """
    if norm == "batch":
        return [batch_norm(size)]
    if norm == "group":
        # A group of one value would normalize it away.
        return [nn.GroupNorm(math.gcd(8, size, max(1, size // 8)), size)]
    return []


def relu(present: bool) -> list[nn.Module]:
    """Return a ReLU, or nothing."""
    return [nn.ReLU()] if present else []
