"""Learning-rate schedules: built around an optimizer, stepped by the epoch or by the step."""

import inspect
import math
from collections.abc import Callable
from typing import Any

from hydra.utils import get_object
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler, ReduceLROnPlateau

from stelab.arguments import Fraction, NonNegative
from stelab.engine.config import build
from stelab.engine.errors import InputError
from stelab.engine.project import project


class Warmup(LRScheduler):
    r"""Raise the learning rate linearly, then let it fall along half a cosine.

    With N steps in all, of which w warm up, and the optimizer's learning rate :math:`\eta`: step t
    is taken with :math:`\eta (t + 1) / w` where t < w, else with
    :math:`\eta_{min} + (\eta - \eta_{min}) (1 + \cos(\pi (t - w) / (N - w))) / 2`.
    [Goyal2017, Loshchilov2017]

    Args:
        optimizer: Whose learning rate moves.
        total_steps: N.
        warmup: The share of them that warm up; 0 is a cosine by steps.
        eta_min: The last learning rate.
    """

    def __init__(
        self, optimizer: Optimizer, total_steps: int, *, warmup: Fraction, eta_min: NonNegative
    ):
        self.total_steps = total_steps
        self.warmup_steps = round(warmup * total_steps)
        self.eta_min = eta_min
        super().__init__(optimizer)

    def get_lr(self) -> list[Any]:
        """Return the learning rate of each of the optimizer's groups."""
        step, warmup = self.last_epoch, self.warmup_steps
        if step < warmup:
            return [lr * (step + 1) / warmup for lr in self.base_lrs]
        done = min((step - warmup) / max(self.total_steps - warmup, 1), 1.0)
        share = (1 + math.cos(math.pi * done)) / 2
        return [self.eta_min + (lr - self.eta_min) * share for lr in self.base_lrs]


def build_schedule(
    config: dict[str, Any], *, optimizer: Optimizer, count: Callable[[str], int]
) -> dict[str, Any]:
    """Build a schedule, with those inside it, as Lightning's ``lr_scheduler_config``.

    Each that takes an ``optimizer`` gets it, and each that takes ``total_steps`` or ``T_max``, and
    is not told how many, gets those of the run: `count` returns its epochs or steps, by interval.
    In `config`, `interval`, `frequency` and `monitor` are Lightning's.
    """
    apart = project().apart["scheduler"]
    when = {"interval": "epoch"} | {key: config[key] for key in apart if key in config}
    node = {key: value for key, value in config.items() if key not in apart}
    schedule = _build(node, optimizer, lambda: count(when["interval"]))
    if isinstance(schedule, ReduceLROnPlateau) and not when.get("monitor"):
        raise InputError("scheduler.monitor must name the metric of the plateau, such as val/loss")
    return {"scheduler": schedule, **when}


def _build(node: Any, optimizer: Optimizer, length: Callable[[], int]) -> Any:
    if isinstance(node, list):
        return [_build(entry, optimizer, length) for entry in node]
    if not isinstance(node, dict):
        return node
    parts = {key: _build(value, optimizer, length) for key, value in node.items()}
    if "_target_" not in node:
        return parts
    try:
        names = set(inspect.signature(get_object(node["_target_"])).parameters)
    except Exception:  # `build` says what is wrong with it
        names = set()
    if "optimizer" in names:
        parts["optimizer"] = optimizer
    for name in ("total_steps", "T_max"):
        if name in names and parts.get(name) is None:
            parts[name] = length()
    head = {key: parts.pop(key) for key in node if key.startswith("_")}
    return build(head, **parts)
