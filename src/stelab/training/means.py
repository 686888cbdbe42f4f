"""Means over an epoch."""

from __future__ import annotations

import torch
from pytorch_lightning.strategies import Strategy
from torch import Tensor


class Means:
    """Weighted running means by name, kept on the device of what is added, exact over processes."""

    def __init__(self) -> None:
        self.totals: dict[str, Tensor] = {}  # name: (weighted sum, sum of weights)

    def add(self, weight: int, **values: Tensor) -> None:
        """Add 0-dimensional `values`, each the mean over `weight` items."""
        for name, value in values.items():
            # float32 sums over an epoch would lose digits; MPS has no float64.
            wide = torch.float32 if value.device.type == "mps" else torch.float64
            term = torch.stack(
                [value.detach().to(wide) * weight, value.new_tensor(weight).to(wide)]
            )
            self.totals[name] = self.totals[name] + term if name in self.totals else term

    def reset(self, strategy: Strategy) -> dict[str, Tensor]:
        """Return the means over all processes and start anew; empty where nothing was added."""
        totals, self.totals = self.totals, {}
        if not totals:
            return {}
        sums, weights = strategy.reduce(torch.stack([*totals.values()]), reduce_op="sum").T
        return dict(zip(totals, sums / weights, strict=True))
