"""Binary weights: numbers by hand, BinaryNet's rule, torch's promises, and real digits."""

from __future__ import annotations

import copy
import io
import pickle
from typing import Any

import pytest
import torch
from members import MULTI, ONE_PASS, build, fresh, generator
from torch import Tensor, nn
from torch.nn import functional as F

from stelab import Binarizer, BinaryConv2d, BinaryLinear
from stelab.binary_weights import Scale, binary_weight
from stelab.estimators import BernoulliStraightThrough, ClippedInput, Identity
from stelab.lab.data import MNIST5k
from stelab.thresholds import FixedThreshold

SIGN = ClippedInput(bound=1.0, normalize_mass=True)
WEIGHT = [[0.5, -0.25, 3.0], [0.0, -1.0, 1.0]]
DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


Layer = BinaryLinear | BinaryConv2d


def linear(*, scale: Scale = "none", bias: bool = False) -> BinaryLinear:
    layer = BinaryLinear(3, 2, bias=bias, estimator=SIGN, scale=scale)
    layer.weight.data.copy_(torch.tensor(WEIGHT))
    return layer


def convolution(**options: Any) -> BinaryConv2d:
    torch.manual_seed(0)
    arguments: dict[str, Any] = {"estimator": SIGN, "scale": "mean"} | options
    return BinaryConv2d(2, 4, 3, **arguments)


LAYERS = [linear(scale="mean", bias=True), convolution()]
INPUTS = {BinaryLinear: (5, 3), BinaryConv2d: (5, 2, 6, 6)}


@pytest.fixture(params=LAYERS, ids=lambda layer: type(layer).__name__)
def layer(request: pytest.FixtureRequest) -> Layer:
    return copy.deepcopy(request.param)


def inputs(layer: Layer) -> Tensor:
    return torch.randn(INPUTS[type(layer)], generator=generator())


@pytest.mark.parametrize("training", [True, False])
def test_linear_by_hand(training: bool) -> None:
    x = torch.tensor([[1.0, 2.0, 4.0]])
    assert linear().train(training)(x).tolist() == [[1 - 2 + 4, -1 - 2 + 4]]
    scales = [1.75 / 3, 2 / 3]
    expected = torch.tensor([[3 * scales[0], 1 * scales[1]]])
    assert torch.allclose(linear(scale="mean").train(training)(x), expected, rtol=0, atol=1e-6)


def test_a_convolution_is_torchs_with_binary_weights() -> None:
    options: dict[str, Any] = {"stride": 2, "padding": 1, "groups": 2, "padding_mode": "circular"}
    layer, plain = convolution(**options), nn.Conv2d(2, 4, 3, **options)
    w = layer.weight.detach()
    scale = w.abs().mean((1, 2, 3), keepdim=True)
    plain.load_state_dict({"weight": scale * torch.where(w > 0, 1, -1), "bias": layer.bias})
    x = torch.randn(2, 2, 7, 7)
    assert torch.allclose(layer(x), plain(x), rtol=0, atol=1e-6)


def test_binary_nets_rule() -> None:
    """The gradient at w is that at sign(w), where the latent weight is within [-1, 1]."""
    w, g = 2 * torch.randn(6, 4), torch.randn(6, 4)
    leaf = w.clone().requires_grad_()
    signs = binary_weight(leaf, estimator=SIGN, scale="none")
    signs.backward(g)
    assert torch.equal(signs, torch.where(w > 0, 1.0, -1.0))
    assert leaf.grad is not None
    assert torch.equal(leaf.grad, torch.where(w.abs() <= 1, g, 0))
    assert 0 < (w.abs() <= 1).float().mean() < 1


def test_the_scale_carries_no_gradient() -> None:
    w, g = torch.randn(6, 4, 3, 3), torch.randn(6, 4, 3, 3)
    leaf = w.clone().requires_grad_()
    binary_weight(leaf, estimator=Identity(), scale="mean").backward(g)
    alpha = w.abs().flatten(1).mean(1).reshape(6, 1, 1, 1)
    assert leaf.grad is not None
    assert torch.allclose(leaf.grad, 2 * alpha * g, rtol=0, atol=1e-6)


def test_latent_weights_are_clipped_in_place_in_training_alone() -> None:
    layer = linear().eval()
    layer(torch.ones(1, 3))
    assert layer.weight.tolist() == WEIGHT
    layer.train()(torch.ones(1, 3))
    assert layer.weight.tolist() == [[0.5, -0.25, 1.0], WEIGHT[1]]


def test_an_optimizer_never_leaves_what_comes_next_outside() -> None:
    layer = linear()
    optimizer = torch.optim.SGD(layer.parameters(), lr=10.0)
    for _ in range(3):
        optimizer.zero_grad()
        layer(torch.randn(8, 3)).square().sum().backward()
        assert layer.weight.abs().max() <= 1
        assert layer.weight.grad is not None
        assert layer.weight.grad.abs().max() > 0  # none is out of reach
        optimizer.step()
        assert layer.weight.abs().max() > 1


def test_two_passes_before_one_backward(layer: Layer) -> None:
    with torch.no_grad():
        layer.weight.mul_(100)
    x = inputs(layer)
    (layer(x).square().sum() + layer(2 * x).square().sum()).backward()
    twin = copy.deepcopy(layer)
    twin.zero_grad()
    for factor in (1, 2):
        twin(factor * x).square().sum().backward()
    assert torch.allclose(layer.weight.grad, twin.weight.grad, rtol=1e-5)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ONE_PASS)
def test_every_one_pass_estimator_binarizes_weights(name: str) -> None:
    layer = BinaryLinear(4, 3, estimator=fresh(name), scale="mean")
    x = torch.randn(8, 4)
    layer(x, generator=generator()).square().sum().backward()
    assert layer.weight.grad is not None
    assert layer.weight.grad.isfinite().all()
    alpha = layer.weight.detach().abs().mean(1, keepdim=True)
    expected = F.linear(x, alpha * torch.where(layer.weight > 0, 1, -1), layer.bias)
    assert torch.equal(layer.eval()(x), expected)


@pytest.mark.parametrize("name", MULTI)
def test_an_estimator_that_evaluates_the_loss_is_refused(name: str) -> None:
    estimator = build(name)
    message = rf"an estimator of a single pass.* got {type(estimator).__name__}, which evaluates"
    for make in (
        lambda e: BinaryLinear(3, 2, estimator=e, scale="none"),
        lambda e: convolution(estimator=e),
    ):
        with pytest.raises(ValueError, match=message):
            make(estimator)


def test_a_scale_of_no_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="scale must be 'none' or 'mean', got 'max'"):
        BinaryLinear(3, 2, estimator=SIGN, scale="max")  # type: ignore[arg-type]


def test_random_weights_come_from_the_generator() -> None:
    estimator = BernoulliStraightThrough(slope="sigmoid", temperature=1.0)
    layer = BinaryLinear(64, 64, bias=False, estimator=estimator, scale="none")
    eye = torch.eye(64)
    before = torch.get_rng_state()
    first, again = (layer(eye, generator=generator()) for _ in range(2))
    assert torch.equal(first, again)
    assert torch.equal(torch.get_rng_state(), before)
    assert not torch.equal(layer(eye), layer(eye))
    assert torch.equal(layer.eval()(eye), layer(eye))


def test_the_state_dict_is_torchs_and_the_estimators() -> None:
    plain, layer = nn.Conv2d(2, 4, 3), convolution(estimator=build("dsq"))
    assert list(layer.state_dict()) == [*plain.state_dict(), "estimator.log_steepness"]
    layer = convolution()
    layer.load_state_dict(plain.state_dict())
    assert torch.equal(layer.weight, plain.weight)
    assert list(linear().state_dict()) == ["weight"]


def test_it_shows_itself(layer: Layer) -> None:
    text = repr(layer)
    assert "bias=True" in text or "kernel_size=(3, 3)" in text
    assert "scale='mean'" in text
    assert "ClippedInput(bound=1.0, normalize_mass=True)" in text


def test_copies_pickles_and_checkpoints(layer: Layer) -> None:
    x, saved = inputs(layer), io.BytesIO()
    torch.save(layer.state_dict(), saved)
    saved.seek(0)
    loaded = copy.deepcopy(layer)
    loaded.load_state_dict(torch.load(saved, weights_only=True))
    for twin in (loaded, copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert repr(twin) == repr(layer)
        assert torch.equal(twin(x), layer(x))


def test_compiled_equals_eager(layer: Layer) -> None:
    with torch.no_grad():
        layer.weight.mul_(100)
    twin, x = copy.deepcopy(layer), inputs(layer)
    compiled = torch.compile(layer, backend="aot_eager", fullgraph=True)
    mine, theirs = compiled(x), twin(x)
    assert torch.allclose(mine, theirs, rtol=0, atol=1e-6)
    mine.square().sum().backward()
    theirs.square().sum().backward()
    assert torch.allclose(layer.weight.grad, twin.weight.grad, rtol=1e-5)  # type: ignore[arg-type]
    assert torch.equal(layer.weight, twin.weight)
    layer.eval()
    with torch.no_grad():
        assert torch.allclose(compiled(x), twin.eval()(x), rtol=0, atol=1e-6)
    torch._dynamo.reset()


def test_stacked_networks(layer: Layer) -> None:
    """Gradients of several networks at once, as `torch.func` computes them."""
    x, weights = inputs(layer), torch.randn(3, *layer.weight.shape)

    def loss(weight: Tensor) -> Tensor:
        return torch.func.functional_call(layer, {"weight": weight}, (x,)).square().sum()

    at_once = torch.func.vmap(torch.func.grad(loss))(weights.clone())
    one_by_one = torch.stack([torch.func.grad(loss)(weight) for weight in weights.clone()])
    assert torch.allclose(at_once, one_by_one, rtol=1e-4, atol=1e-4)


def test_on_the_meta_device(layer: Layer) -> None:
    meta = copy.deepcopy(layer).to("meta")
    out = meta(inputs(layer).to("meta"))
    assert out.device.type == "meta"
    assert out.shape == layer(inputs(layer)).shape
    assert BinaryLinear(3, 2, estimator=SIGN, scale="none", device="meta").weight.is_meta


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype(layer: Layer, dtype: torch.dtype) -> None:
    layer.to(dtype)
    x = inputs(layer).to(dtype)
    out = layer(x)
    out.sum().backward()
    w: Any = layer.weight
    assert out.dtype == w.grad.dtype == dtype
    assert w.grad.isfinite().all()
    binary = binary_weight(w, estimator=SIGN, scale="mean")
    alpha = w.double().flatten(1).abs().mean(1).to(dtype)
    for signs, expected in zip(binary.abs(), alpha, strict=True):
        assert torch.allclose(signs, expected, rtol=torch.finfo(dtype).eps)
    assert torch.equal(binary > 0, w > 0)


def test_a_network_of_binary_weights_and_activations_learns_real_digits() -> None:
    digits = MNIST5k(test_size=3000, val_size=0, split_seed=0, limit=None, batch_size=100, seed=0)
    order = torch.randperm(3000, generator=generator())
    images, labels = (digits.load("test")[name][order] for name in ("images", "labels"))
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Flatten(),
        BinaryLinear(784, 256, bias=False, estimator=SIGN, scale="none"),
        nn.BatchNorm1d(256),
        Binarizer(threshold=FixedThreshold(value=0.0), estimator=SIGN, signed=True),
        BinaryLinear(256, 10, bias=False, estimator=SIGN, scale="mean"),
        nn.BatchNorm1d(10),
    )
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
    for _ in range(4):
        for rows in torch.arange(2500).split(100):
            optimizer.zero_grad()
            F.cross_entropy(net(images[rows]), labels[rows]).backward()
            optimizer.step()
    with torch.no_grad():
        accuracy = (net.eval()(images[2500:]).argmax(1) == labels[2500:]).float().mean()
    assert accuracy > 0.8
