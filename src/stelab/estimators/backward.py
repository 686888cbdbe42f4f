"""What all backward passes share: precision, NaN, shapes, and no silent second derivative."""

import math
from inspect import signature
from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd import Function


def wide(x: Tensor) -> Tensor:
    """Return `x` in float32 or wider: half precision stores numbers, it is not computed with."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def scalar(value: float | Tensor, like: Tensor) -> Tensor:
    """Return a hyperparameter in 0 dimensions, in dtype and on the device of `like`.

    Where runs are stacked (`torch.vmap`), each has its own, and `value` is a tensor already.
    """
    return value.to(like.dtype) if isinstance(value, Tensor) else like.new_full((), value)


def require_shape(given: Tensor, s: Tensor, name: str = "bits") -> None:
    """Raise ValueError unless `given` has the shape of `s`; broadcast bits would train wrongly."""
    if given.shape != s.shape:
        raise ValueError(
            f"{name} must have the shape of what they stand for, {tuple(s.shape)}, got "
            f"{tuple(given.shape)}"
        )


class HardForward(Function):
    """Forward: the given bits (or one-hots), or without any the step ``1[s > 0]``.

    Subclasses define `setup_context` and `backward`.

    An autograd Function returns the bits themselves; the usual ``s + (b - s).detach()`` rounds.
    Written with `setup_context`, so that `torch.func` transforms and `vmap` work through it.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(s: Tensor, bits: Tensor | None, *rule: Any) -> Tensor:
        """Return `bits` in the dtype of `s`; `rule` is what a subclass's backward needs."""
        if not isinstance(s, Tensor):  # where no gradient flows, torch.compile puts a context first
            s, bits = cast(Tensor, bits), rule[0]
        if bits is None:
            return (s > 0).to(s.dtype)
        require_shape(bits, s)
        return bits.to(s.dtype, copy=True)


# `Function.apply` asks for it each time, and to find it out takes longer than the step.
HardForward.forward.__signature__ = signature(HardForward.forward)  # type: ignore[attr-defined]


def hand_back(gradient: Tensor, s: Tensor) -> Tensor:
    """Return the gradient for `s` as an estimator's backward must: cast last, NaN where s is."""
    zero_or_nan = s.detach().clamp(0, 0)  # five times as fast as a mask
    return (gradient + zero_or_nan).to(s.dtype)


class _NoDerivative(Function):
    """Forward: 0. Backward: an error."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        return x.new_zeros(())

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        raise RuntimeError(
            "this estimator's gradient is an estimate, computed without a history, so it has no "
            "derivative of its own (a second derivative would lack terms): take one whose rule "
            "does not depend on s, such as estimator=identity, or differentiate once"
        )


def once(gradient: Tensor, *sources: Tensor) -> Tensor:
    """Return `gradient`; differentiating it again with respect to a source is an error.

    What `torch.autograd.function.once_differentiable` is for, but also where no gradient flows
    into the backward pass, per source, and in `torch.func`.
    """
    if torch.is_grad_enabled():  # as it is in a backward pass that is itself differentiated
        for source in sources:
            gradient = gradient + _NoDerivative.apply(source).to(gradient.dtype)
    return gradient


class _Through(HardForward):
    """Backward: the gradient times the given derivative."""

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        s, _, derivative, ctx.constant = inputs
        ctx.save_for_backward(s, derivative)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        s, derivative = ctx.saved_tensors
        gradient = hand_back(wide(g) * derivative, s)
        return gradient if ctx.constant else once(gradient, s), None, None, None


def through(
    s: Tensor, bits: Tensor | None, derivative: Tensor, *, constant: bool = False
) -> Tensor:
    """Return `bits`; backward, let the gradient through to `s`, times `derivative`, elementwise.

    Args:
        s: Centred pre-activation.
        bits: What goes forward, in the shape of `s`; they come out in its dtype. None: the step.
        derivative: In the shape of `s`, best computed from ``wide(s)``: the product is cast last.
        constant: Whether `derivative` is constant in s (almost everywhere), so that second
            derivatives are complete. Otherwise they raise RuntimeError.

    Raises:
        ValueError: `bits` has another shape than `s`.
    """
    return _Through.apply(s, bits, derivative, constant)


class _Known(Function):
    """Forward: finite numbers, float32 or wider. Backward: the gradient, NaN where s is."""

    generate_vmap_rule = True

    @staticmethod
    def forward(s: Tensor) -> Tensor:
        x = wide(s)
        far = math.sqrt(torch.finfo(x.dtype).max)
        return x.nan_to_num(nan=-far).clamp(-far, far)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> Tensor:
        (s,) = ctx.saved_tensors
        return hand_back(g, s)


def known(s: Tensor) -> Tensor:
    """Return `s` as finite numbers in float32 or wider, for formulas that meet inf - inf or NaN.

    The largest stand for infinity, where every sigmoid is 0 or 1 already; NaN becomes the
    smallest, whose bit is 0. Its gradient is NaN all the same.
    """
    return _Known.apply(s)
