"""What the processes of a run add up and pass each other: means, gradients, kept state."""

from collections.abc import Sequence
from typing import Any

import torch
from pytorch_lightning.strategies import Strategy
from torch import Tensor, distributed
from torch.optim import Optimizer


class EpochMeans:
    """Weighted running means by name, kept on the device of what is added, exact over processes."""

    def __init__(self) -> None:
        self.sums: dict[tuple[str, ...], Tensor] = {}  # of what is added together, in one tensor
        self.weights: dict[str, float] = {}
        self.restored: dict[str, float] = {}  # sums that nothing was added to yet

    def add(self, weight: int, **values: Tensor) -> None:
        """Add 0-dimensional `values`, each the mean over `weight` items."""
        names = tuple(values)
        means = torch.stack([value.detach() for value in values.values()])
        if (sums := self.sums.get(names)) is None:
            before = [self.restored.pop(name, 0.0) for name in names]
            # float32 sums over an epoch would lose digits; MPS has no float64.
            wide = torch.float32 if means.device.type == "mps" else torch.float64
            sums = self.sums[names] = means.new_tensor(before, dtype=wide)
        sums.add_(means, alpha=weight)
        for name in names:
            self.weights[name] = self.weights.get(name, 0) + weight

    def lend(self, names: tuple[str, ...], row: Tensor, weight: int) -> None:
        """Let another add means of so many items to these sums, which are in its `row` now."""
        if (sums := self.sums.get(names)) is None or sums.data_ptr() != row.data_ptr():
            row.zero_()
            self.add(0, **{name: row.new_zeros(()) for name in names})  # what was restored
            self.sums[names] = row.copy_(self.sums[names])
        for name in names:
            self.weights[name] = self.weights.get(name, 0) + weight

    def reset(self, strategy: Strategy) -> dict[str, Tensor]:
        """Return the means over all processes and start anew; empty where nothing was added."""
        totals = self._totals()
        self.__init__()  # type: ignore[misc]
        if not totals:
            return {}
        stacked = torch.stack([total.to(strategy.root_device) for total in totals.values()])
        sums, weights = strategy.reduce(stacked, reduce_op="sum").T
        return dict(zip(totals, sums / weights, strict=True))

    def state_dict(self) -> dict[str, Any]:
        """Return the totals of every process; all must call it."""
        return {"processes": gather({name: total.cpu() for name, total in self._totals().items()})}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore this process's totals."""
        self.__init__()  # type: ignore[misc]
        for totals in own_share(state["processes"]):
            for name, total in totals.items():
                sum_, weight = total.tolist()
                self.restored[name] = self.restored.get(name, 0.0) + sum_
                self.weights[name] = self.weights.get(name, 0) + weight

    def _totals(self) -> dict[str, Tensor]:
        """Return, by name, the weighted sum and the sum of weights in one tensor."""
        sums = {name: torch.tensor(s, dtype=torch.float64) for name, s in self.restored.items()}
        for names, together in self.sums.items():  # a name may be in several
            for name, sum_ in zip(names, together, strict=True):
                sums[name] = sum_ + sums[name].to(sum_) if name in sums else sum_
        weights = self.weights
        return {name: torch.stack([s, s.new_tensor(weights[name])]) for name, s in sums.items()}


class SharedMeans:
    """What `EpochMeans` of several runs add together, in one tensor with a row for each run."""

    def __init__(self) -> None:
        self.sums = torch.zeros(0)

    def add(self, means: Sequence[EpochMeans], weight: int, values: dict[str, Tensor]) -> None:
        """Add values, ``(runs,)`` each, as `EpochMeans.add` does for each run."""
        names, new = tuple(values), torch.stack([*values.values()], 1)
        if self.sums.shape != new.shape:
            self.sums = torch.zeros_like(new, dtype=torch.float64)
        for each, row in zip(means, self.sums.unbind(), strict=True):
            each.lend(names, row, weight)
        self.sums.add_(new, alpha=weight)


def step_together(optimizer: Optimizer, strategy: Strategy) -> None:
    """Take a step, the same in every process, by the mean of their gradients."""
    for parameter in (p for group in optimizer.param_groups for p in group["params"]):
        parameter.grad = strategy.reduce(parameter.grad, reduce_op="mean")
    optimizer.step()


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
