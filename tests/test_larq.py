"""Larq's quantizers, value for value: its published formulas in numpy, and the same in stelab.

One difference is meant: larq's sign of 0 is 1 and its ternary value at the threshold is 1, while a
step of stelab is 0 at equality, so here they are -1 and 0. Gradients are the same there, too.

References:
    Geiger, Team (2020), "Larq: An Open-Source Library for Training Binarized Neural Networks",
    Journal of Open Source Software 5(45).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from stelab import Binarizer, Ternarizer
from stelab.binary_weights import binary_weight
from stelab.estimators import ApproxSign, ClippedInput, Estimator, SwishSign
from stelab.thresholds import FixedThreshold

Array = npt.NDArray[np.float64]
Quantizer = Callable[[Tensor], Tensor]

STE = ClippedInput(bound=1.0, normalize_mass=True)
EDGES = torch.tensor([-1.0, 1.0, -0.5, 0.5, -0.0, 0.0, 1e-300, -1e-300, -40.0, 40.0]).double()
BEYOND = torch.nextafter(EDGES, 2 * EDGES)


def numbers() -> Tensor:
    """Random numbers, half of them beyond 1, and those at which something changes."""
    random = 1.5 * torch.randn(500, dtype=torch.float64)
    return torch.cat([random, EDGES, BEYOND])


def sign(x: Array) -> Array:
    return np.where(x >= 0, 1.0, -1.0)


def ste_slope(x: Array, clip_value: float = 1.0) -> Array:
    return (np.abs(x) <= clip_value).astype(float)


def approx_slope(x: Array) -> Array:
    return np.where(np.abs(x) <= 1, 2 - 2 * np.abs(x), 0)


def swish_slope(x: Array, beta: float) -> Array:
    u = beta * x
    return beta * (2 - u * np.tanh(u / 2)) / (1 + np.cosh(u))


def ternary(x: Array, threshold: float) -> Array:
    return np.sign(np.sign(x + threshold) + np.sign(x - threshold))


def signed(estimator: Estimator) -> Binarizer:
    return Binarizer(threshold=FixedThreshold(value=0.0), estimator=estimator, signed=True)


def value_and_slope(quantizer: Quantizer, x: Tensor) -> tuple[Array, Array]:
    """What comes out, and what a gradient is multiplied with on its way back."""
    leaf, g = x.clone().requires_grad_(), torch.randn(x.shape, dtype=x.dtype)
    out = quantizer(leaf)
    out.backward(g)
    assert leaf.grad is not None
    return out.detach().numpy(), (leaf.grad / g).numpy()


SIGNS = {
    "ste_sign": (STE, ste_slope),
    "approx_sign": (ApproxSign(), approx_slope),
    "swish_sign": (SwishSign(beta=5.0), lambda x: swish_slope(x, 5.0)),
    "swish_sign 2": (SwishSign(beta=2.0), lambda x: swish_slope(x, 2.0)),
}


@pytest.mark.parametrize("name", SIGNS)
def test_signs(name: str) -> None:
    estimator, expected = SIGNS[name]
    x = numbers()
    value, slope = value_and_slope(signed(estimator), x)
    zero = x.numpy() == 0
    assert (value[~zero] == sign(x.numpy())[~zero]).all()
    assert (value[zero] == -1).all()
    assert (sign(x.numpy())[zero] == 1).all()
    assert np.allclose(slope, expected(x.numpy()), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("clip_value", [0.5, 2.0])
def test_another_clip_value_scales_the_gradient(clip_value: float) -> None:
    """The mass of stelab's surrogate stays the jump, 2; larq's grows with the clip value."""
    x = numbers()
    estimator = ClippedInput(bound=clip_value, normalize_mass=True)
    _, slope = value_and_slope(signed(estimator), x)
    assert np.allclose(clip_value * slope, ste_slope(x.numpy(), clip_value), rtol=1e-12)


def test_the_heaviside_step_is_the_binarizer_without_a_sign() -> None:
    x = numbers()
    estimator = ClippedInput(bound=1.0, normalize_mass=False)
    layer = Binarizer(threshold=FixedThreshold(value=0.0), estimator=estimator)
    value, slope = value_and_slope(layer, x)
    assert (value == (x.numpy() > 0)).all()  # here larq's is 0 at 0 as well
    assert np.allclose(slope, ste_slope(x.numpy()), rtol=1e-12)


@pytest.mark.parametrize("shape", [(40, 6), (3, 3, 5, 6)])
def test_magnitude_aware_sign(shape: tuple[int, ...]) -> None:
    """A kernel's channels are last in larq, first in torch."""
    kernel = torch.randn(shape, dtype=torch.float64)
    kernel[..., 0] = torch.linspace(-1, 1, kernel[..., 0].numel()).reshape(shape[:-1])
    x = kernel.numpy()
    alpha = np.abs(x).mean(tuple(range(x.ndim - 1)))

    def quantizer(kernel: Tensor) -> Tensor:
        weight = kernel.movedim(-1, 0)
        return binary_weight(weight, estimator=STE, scale="mean").movedim(0, -1)

    value, slope = value_and_slope(quantizer, kernel)
    assert (x != 0).all()
    assert np.allclose(value, alpha * sign(x), rtol=1e-12)
    assert np.allclose(slope, alpha * ste_slope(x), rtol=1e-12)


@pytest.mark.parametrize("threshold", [0.05, 0.5, 0.0])
def test_ternary_with_a_fixed_threshold(threshold: float) -> None:
    x = torch.cat([numbers(), torch.tensor([threshold, -threshold]).double()])
    value, slope = value_and_slope(Ternarizer(threshold=threshold, estimator=STE), x)
    tie = x.numpy() == threshold
    expected = ternary(x.numpy(), threshold)
    assert (value[~tie] == expected[~tie]).all()
    assert (value[tie] == (0 if threshold else -1)).all()
    assert (expected[tie] == (1 if threshold else 0)).all()
    assert np.allclose(slope, ste_slope(x.numpy()), rtol=1e-12)


def test_ternary_with_the_threshold_of_ternary_weight_networks() -> None:
    """Larq clips before it takes the mean, which leaves latent weights within [-1, 1] alone."""
    x = numbers()
    x = x[x.abs() <= 1]
    layer = Ternarizer(threshold="twn", estimator=STE)
    value, slope = value_and_slope(layer, x)
    assert (value == ternary(x.numpy(), 0.7 * np.abs(x.numpy()).mean())).all()
    assert np.allclose(slope, 1, rtol=1e-12)


def test_what_larq_clips_may_be_clipped_before_the_ternarizer() -> None:
    x = numbers()
    x = x[x.abs() != 1]  # where versions of torch differ in the slope of a clamp
    clipped, layer = np.clip(x.numpy(), -1, 1), Ternarizer(threshold="twn", estimator=STE)
    value, slope = value_and_slope(lambda x: layer(x.clamp(-1, 1)), x)
    assert (value == ternary(clipped, 0.7 * np.abs(clipped).mean())).all()
    assert np.allclose(slope, ste_slope(x.numpy()), rtol=1e-12)
