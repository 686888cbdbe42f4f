"""What the processes of a run add up and pass each other: means over an epoch, kept state."""

from typing import Any

import torch
from pytorch_lightning.strategies import Strategy
from torch import Tensor, distributed


class EpochMeans:
    """Weighted running means by name, kept on the device of what is added, exact over processes."""

    def __init__(self) -> None:
        self.totals: dict[str, Tensor] = {}  # name: (weighted sum, sum of weights)

    def add(self, weight: int, **values: Tensor) -> None:
        """Add 0-dimensional `values`, each the mean over `weight` items."""
        for name, value in values.items():
            # float32 sums over an epoch would lose digits; MPS has no float64.
            wide = torch.float32 if value.device.type == "mps" else torch.float64
            mean = value.detach().to(wide)
            self._add(name, torch.stack([mean * weight, mean.new_tensor(weight)]))

    def _add(self, name: str, term: Tensor) -> None:
        # Restored totals lie on the CPU until the device is known.
        total = self.totals.get(name)
        self.totals[name] = term if total is None else total.to(term.device) + term

    def reset(self, strategy: Strategy) -> dict[str, Tensor]:
        """Return the means over all processes and start anew; empty where nothing was added."""
        totals, self.totals = self.totals, {}
        if not totals:
            return {}
        stacked = torch.stack([total.to(strategy.root_device) for total in totals.values()])
        sums, weights = strategy.reduce(stacked, reduce_op="sum").T
        return dict(zip(totals, sums / weights, strict=True))

    def state_dict(self) -> dict[str, Any]:
        """Return the totals of every process; all must call it."""
        return {"processes": gather({name: total.cpu() for name, total in self.totals.items()})}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore this process's totals."""
        self.totals = {}
        for totals in own_share(state["processes"]):
            for name, total in totals.items():
                self._add(name, total)


def _are_several() -> bool:
    return distributed.is_available() and distributed.is_initialized()


def gather(value: Any) -> list[Any]:
    """Return what each process passed, by rank; all must call it."""
    if not _are_several():
        return [value]
    values: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(values, value)
    return values


def own_share(values: list[Any]) -> list[Any]:
    """Return this process's share of what `gather` returned, also under another world size."""
    if not _are_several():
        return values
    return values[distributed.get_rank() :: distributed.get_world_size()]
