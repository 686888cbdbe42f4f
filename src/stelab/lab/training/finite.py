"""Where training goes wrong, it stops, and says at which step and in which layer."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from stelab.engine.errors import RunError
from stelab.lab.data.datamodule import Batch

_STEPS = 16  # between two looks


class NonFiniteError(RunError):
    """A loss or a pre-activation is NaN or infinite; the message names the step and the layer."""


class FiniteCheck:
    """Watches losses and pre-activations without waiting for the device at every step.

    The pre-activations are checked as well as the loss: the step turns NaN into a 0 or a 1, so a
    loss can be finite while the encoder is not. The first step that is not finite raises a flag on
    the device, which stays. Fused optimizers read it (it is what scaled losses have them skip a
    step for) and move no weight any more: what `look` finds some steps later is as if training had
    stopped at once. With any other optimizer every step is looked at.

    Args:
        model: Whose layers are named.
        optimizers: All that move its weights, and what lowers its estimators' variance.
        scaled: Whether the losses are scaled, which has other uses for those optimizers' flag.
    """

    def __init__(self, model: nn.Module, optimizers: Sequence[Optimizer], *, scaled: bool):
        self.model = model
        device = next(model.parameters()).device
        self.failed = torch.zeros((), device=device)  # 1 from the first failure on
        self.zero = torch.zeros((), device=device)
        # Steps since the last look, their batches, and what of each is 0, or NaN.
        self.recent: list[tuple[int, Batch, Tensor]] = []
        self.every = _STEPS
        if scaled or not all(map(_skips_steps, optimizers)):
            self.every = 1
            return
        for optimizer in optimizers:
            optimizer.found_inf = self.failed  # type: ignore[attr-defined]

    def add(self, loss: Tensor, x: Tensor, *, step: int, batch: Batch) -> None:
        """Take note of a step; raise NonFiniteError if it is time to look, and one was not."""
        low, high = x.detach().aminmax()
        flaw = self.zero
        for value in (loss.detach(), low, high):
            flaw = torch.addcmul(flaw, value, self.zero)  # all values are finite, or it is NaN
        self.failed.logical_or_(flaw)  # NaN is true
        self.recent.append((step, batch, flaw))
        if len(self.recent) >= self.every:
            self.look()

    def look(self) -> None:
        """Wait for the device; raise NonFiniteError if any step since the last look failed."""
        recent, self.recent = self.recent, []
        if self.failed:
            step, batch = next((step, batch) for step, batch, flaw in recent if flaw.isnan())
            where = locate(self.model, lambda: self.model(batch["images"]), step=step)
            raise NonFiniteError(f"step {step}: {where}")


def _skips_steps(optimizer: Optimizer) -> bool:
    """Whether an optimizer takes no step where its ``found_inf`` is 1."""
    fused = all(group.get("fused") for group in optimizer.param_groups)
    return fused and getattr(optimizer, "_step_supports_amp_scaling", False)


def locate(model: nn.Module, forward: Callable[[], object], *, step: int) -> str:
    """Say which weights, or else which layer's output in `forward`, are not finite."""
    for name, value in model.named_parameters():
        if not value.isfinite().all():
            layer = name.rpartition(".")[0]
            return f"the weights of {layer} are not finite since the update of step {step - 1}"
    layers: list[str] = []

    def note(name: str, layer: nn.Module, inputs: object, output: object) -> None:
        if isinstance(output, Tensor) and not output.isfinite().all():
            layers.append(name)

    hooks = [
        layer.register_forward_hook(partial(note, name))
        for name, layer in model.named_modules()
        if not next(layer.children(), None)
    ]
    try:
        with torch.no_grad():
            forward()
    finally:
        for hook in hooks:
            hook.remove()
    where = f"the output of {layers[0]}" if layers else "the loss"
    return f"{where} is not finite, all weights are"
