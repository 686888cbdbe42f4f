"""One fused optimizer for stacked runs, each with its own learning rate and its own state."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Adam, AdamW, Optimizer

FUSED = (Adam, AdamW, SGD)
OWN = ("lr", "initial_lr", "weight_decay")
"""What runs of a stack may have for themselves, of the options of an optimizer."""


class StackedUpdate:
    """Moves stacked parameters as each run's own optimizer would: Adam, AdamW or SGD.

    The runs' optimizers keep their state, as views of stacked tensors: their checkpoints are those
    of runs alone, and they may take a step by themselves.

    Where all runs have one learning rate and weight decay, this is torch's fused kernel. Otherwise
    that computes each step for a learning rate of 1, from zero: all of them are linear in it.

    Args:
        optimizers: Of each run, fused and of one class.
        stacked: Their parameters, ``(runs, *shape)`` each.
    """

    def __init__(self, optimizers: Sequence[Optimizer], stacked: Sequence[Tensor]):
        self.optimizers = optimizers
        for optimizer in optimizers:  # as its schedule looks for
            optimizer._opt_called = True  # type: ignore[attr-defined]
        self.stacked = stacked
        self.is_sgd = isinstance(optimizers[0], SGD)
        self.state = {name: self._stack(name) for name in self._names()}
        self.began_level = True  # whether all runs had taken as many steps
        if not self.is_sgd:
            self.steps = self._stack_steps()
            self.began_level = bool((self.steps == self.steps[:, :1]).all())
        self.began: Sequence[int] = ()
        self.scratch: list[Tensor] = []
        self.own: list[list[float]] = []  # learning rates and weight decays, also as a tensor

    def __call__(self, gradients: Sequence[Tensor], *, at: Sequence[int]) -> None:
        """Take a step with the gradients of all runs, which may be overwritten.

        Args:
            gradients: Stacked as the parameters are.
            at: The steps that the runs are at: those that differ have corrections of their own.
        """
        self.began = self.began or at
        ahead = {now - then for now, then in zip(at, self.began, strict=True)}
        self.is_level = self.began_level and len(ahead) == 1
        # Fused kernels assume that a gradient lies in memory as its parameter does.
        pairs = zip(gradients, self.stacked, strict=True)
        gradients = [
            g if g.stride() == stack.stride() else torch.empty_like(stack).copy_(g)
            for g, stack in pairs
        ]
        groups = [optimizer.param_groups[0] for optimizer in self.optimizers]
        device = self.stacked[0].device
        if not self.is_sgd:
            self.steps.add_(1)
        rates, decays = ({float(group[key]) for group in groups} for key in ("lr", "weight_decay"))
        if len(rates) == len(decays) == 1:
            self._fused(self.stacked, gradients, lr=rates.pop(), weight_decay=decays.pop())
            return
        own = [[float(group[key]) for group in groups] for key in ("lr", "weight_decay")]
        if own != self.own:
            self.own, self.own_on_device = own, torch.tensor(own, device=device)
        lr, decay = self.own_on_device
        if isinstance(self.optimizers[0], AdamW):
            for stack in self.stacked:
                stack.mul_(_broadcast(1 - lr * decay, stack))
        elif decays != {0.0}:
            sign = -1 if groups[0]["maximize"] else 1
            for gradient, stack in zip(gradients, self.stacked, strict=True):
                gradient.addcmul_(stack, _broadcast(sign * decay, stack))
        self.scratch = self.scratch or [torch.empty_like(stack) for stack in self.stacked]
        torch._foreach_zero_(self.scratch)
        self._fused(self.scratch, gradients, lr=1.0, weight_decay=0.0)
        for stack, change in zip(self.stacked, self.scratch, strict=True):
            stack.addcmul_(change, _broadcast(lr, stack))

    def _fused(self, to: Sequence[Tensor], gradients: Sequence[Tensor], **own: float) -> None:
        """Move `to`: all runs at once where they are alike, else each parameter of each run."""
        options = [
            {key: group[key] for key in self._options()}
            for group in (optimizer.param_groups[0] for optimizer in self.optimizers)
        ]
        states = list(self.state.values())
        if self.is_level and all(other == options[0] for other in options):
            steps = [] if self.is_sgd else [steps[0] for steps in self.steps]
            return self._kernel([to, gradients, *states], steps, **options[0], **own)
        parts = [[stack.unbind() for stack in stacks] for stacks in (to, gradients, *states)]
        for chosen in {str(each): each for each in options}.values():
            runs = [i for i, each in enumerate(options) if each == chosen]
            lists = [[part[i] for part in stacks for i in runs] for stacks in parts]
            steps = [] if self.is_sgd else [steps[i] for steps in self.steps for i in runs]
            self._kernel(lists, steps, **chosen, **own)

    def _kernel(self, lists: Sequence[Sequence[Tensor]], steps: Any, **options: Any) -> None:
        """Call torch's fused kernel, with the parts of the state as it orders them."""
        kernel: Any = torch._fused_sgd_
        if self.is_sgd:
            buffers = lists[2] if len(lists) > 2 else []
            kernel(*lists[:2], buffers, is_first_step=False, **options)
            return
        beta1, beta2 = options.pop("betas")
        most = lists[4] if len(lists) > 4 else []
        is_adamw = isinstance(self.optimizers[0], AdamW)
        kernel = torch._fused_adamw_ if is_adamw else torch._fused_adam_
        kernel(*lists[:4], most, steps, beta1=beta1, beta2=beta2, **options)

    def _names(self) -> list[str]:
        """Name what the optimizer keeps of each parameter, in the order of torch's kernel."""
        group = self.optimizers[0].param_groups[0]
        if self.is_sgd:
            return ["momentum_buffer"] if group["momentum"] else []
        return ["exp_avg", "exp_avg_sq", *(["max_exp_avg_sq"] if group["amsgrad"] else [])]

    def _options(self) -> list[str]:
        """Name the options of torch's kernel that all runs of a call share."""
        own = ("momentum", "dampening", "nesterov") if self.is_sgd else ("betas", "eps", "amsgrad")
        return [*own, "maximize"]

    def _stack(self, name: str) -> list[Tensor]:
        """Stack a part of the state, zeros where a run has none, and make theirs views of it."""
        stacks = []
        for j, parameters in enumerate(self.stacked):
            stack = torch.zeros_like(parameters)
            for i, optimizer in enumerate(self.optimizers):
                state = optimizer.state[optimizer.param_groups[0]["params"][j]]
                if isinstance(before := state.get(name), Tensor):
                    stack[i].copy_(before)
                state[name] = stack[i]
            stacks.append(stack)
        return stacks

    def _stack_steps(self) -> Tensor:
        """Stack the counts of steps, ``(parameters, runs)``, likewise."""
        steps = torch.zeros(len(self.stacked), len(self.optimizers), device=self.stacked[0].device)
        for i, optimizer in enumerate(self.optimizers):
            for j, parameter in enumerate(optimizer.param_groups[0]["params"]):
                state = optimizer.state[parameter]
                if "step" in state:
                    steps[j, i] = state["step"]
                state["step"] = steps[j, i]
        return steps


def _broadcast(values: Tensor, stack: Tensor) -> Tensor:
    return values.view(-1, *(1,) * (stack.dim() - 1))
