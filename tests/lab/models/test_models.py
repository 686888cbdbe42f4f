"""The networks: layers, shapes, dead weights, and equality with loops of plain torch."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from typing import Any, get_type_hints

import pytest
import torch
from hydra.utils import get_object
from omegaconf import OmegaConf
from torch import Tensor, nn
from torch.nn import functional as F

import stelab
from stelab.engine.config import CONF_DIR
from stelab.engine.errors import InputError
from stelab.lab.models import Autoencoder
from stelab.lab.models.grid import Residual
from stelab.lab.training import TaskModule, build_module
from stelab.lab.training.finite import FiniteCheck

FILES: dict[str, Any] = {
    path.stem: OmegaConf.load(path) for path in sorted(Path(CONF_DIR, "model").glob("*.yaml"))
}


def makes_autoencoders(target: str) -> bool:
    made = get_object(target)
    kind: type = made if isinstance(made, type) else get_type_hints(made)["return"]
    return issubclass(kind, Autoencoder)


# A new YAML file of an autoencoder is tested without an edit.
NAMES = [n for n, file in FILES.items() if makes_autoencoders(file.get("model", file)["_target_"])]


def with_key(key: str) -> list[str]:
    """Return the models that take a key, such as ``norm``."""
    return [name for name in NAMES if key in FILES[name]]


def build(*overrides: str) -> Autoencoder:
    torch.manual_seed(0)
    return stelab.build(stelab.compose(*overrides).model)


class TutorialSTE(torch.autograd.Function):
    """The tutorial's straight-through function."""

    @staticmethod
    def forward(ctx: object, x: Tensor) -> Tensor:
        return (x > 0).float()

    @staticmethod
    def backward(ctx: object, g: Tensor) -> Tensor:
        return F.hardtanh(g)


class Plain(nn.Module):
    """The tutorial's network, written out."""

    def __init__(self) -> None:
        super().__init__()

        def down(i: int, o: int) -> nn.Conv2d:
            return nn.Conv2d(i, o, (4, 4), (2, 2), (1, 1))

        def up(i: int, o: int, k: int) -> nn.ConvTranspose2d:
            return nn.ConvTranspose2d(i, o, (k, k), (2, 2), (1, 1))

        bn, relu = nn.BatchNorm2d, nn.ReLU
        self.encoder = nn.Sequential(
            *(down(1, 64), relu()),
            *(down(64, 128), bn(128), relu()),
            *(down(128, 256), bn(256), relu()),
            *(down(256, 512), bn(512), relu()),
        )
        self.decoder = nn.Sequential(
            *(up(512, 256, 5), bn(256), relu()),
            *(up(256, 128, 5), bn(128), relu()),
            *(up(128, 64, 4), bn(64), relu()),
            *(up(64, 1, 4), nn.Tanh()),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.decoder(TutorialSTE.apply(self.encoder(x)))


@pytest.mark.parametrize("name", with_key("norm"))
@pytest.mark.parametrize("bits", [2, 4, 8, 12, 68, 512])
def test_group_norm_leaves_the_images_apart(name: str, bits: int) -> None:
    model = build(f"model={name}", f"model.bits={bits}", "model.norm=group")
    x = model.encoder(torch.randn(8, 1, 28, 28)).flatten(1)
    assert (x - x[0]).abs().max() > 0.1


@pytest.mark.parametrize(
    "overrides",
    [[f"model={name}"] for name in NAMES]
    + [
        [f"model={name}", f"model.norm={n}"] for name in with_key("norm") for n in ("group", "none")
    ],
    ids=" ".join,
)
def test_shapes_and_exact_codes(overrides: list[str]) -> None:
    model = build(*overrides, "model.bits=64")
    images = torch.rand(5, 1, 28, 28) * 2 - 1
    bits = model.encode(images)
    assert bits.shape == (5, *model.code_shape)
    assert bits.flatten(1).shape[1] == 64
    assert ((bits == 0) | (bits == 1)).all()
    out = model(images)
    assert out.shape == images.shape
    assert out.abs().max() <= 1


@pytest.mark.parametrize("name", with_key("relu_before_bits"))
def test_relu_before_the_bits_is_configuration(name: str) -> None:
    images = torch.randn(20, 1, 28, 28)
    assert build(f"model={name}", "model.relu_before_bits=true").encoder(images).min() == 0
    assert build(f"model={name}", "model.relu_before_bits=false").encoder(images).min() < 0


@pytest.mark.parametrize("name", with_key("signed"))
def test_signed_feeds_plus_and_minus_one(name: str) -> None:
    plain, signed = (build(f"model={name}", f"model.signed={v}").eval() for v in ("false", "true"))
    bits = torch.randint(0, 2, (3, *plain.code_shape)).float()
    assert torch.equal(signed.decode(bits), plain.decode(2 * bits - 1))


def test_tutorial_has_the_tutorials_tensors_in_its_order() -> None:
    ours, theirs = build("model=tutorial").state_dict(), Plain().state_dict()
    assert [t.shape for t in ours.values()] == [t.shape for t in theirs.values()]


def test_weights_saved_by_the_tutorials_code_load() -> None:
    plain, model = Plain().eval(), build("model=tutorial").eval()
    weights = plain.state_dict()
    model.load_state_dict(dict(zip(model.state_dict(), weights.values(), strict=True)))
    images = torch.rand(4, 1, 28, 28) * 2 - 1
    assert torch.equal(model(images), plain(images))


@pytest.fixture(scope="module")
def digits() -> Tensor:
    data = stelab.build(stelab.compose("data=mnist5k").data)
    images: Tensor = data.images("train")
    return images


def step_by_lightnings_rules(module: TaskModule, batches: list[Tensor]) -> list[float]:
    """Train with the module's own step and optimizer, without a trainer."""
    module.log = lambda *args, **kwargs: None  # type: ignore[method-assign]
    optimizer = module.configure_optimizers()["optimizer"]
    module.finite = FiniteCheck(module.model, [optimizer], scaled=False)
    losses = []
    for i, batch in enumerate(batches):
        optimizer.zero_grad()
        loss = module.training_step({"images": batch}, i)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("fused", [False, True])
def test_twenty_steps_equal_a_plain_loop(digits: Tensor, fused: bool) -> None:
    torch.manual_seed(0)
    plain = Plain().train()
    options = ["optimizer.fused=true"] if fused else []
    cfg = stelab.compose("experiment=tutorial", "estimator=hardtanh_clip", *options)
    module = build_module(cfg).train()
    weights = plain.state_dict().values()
    module.model.load_state_dict(dict(zip(module.model.state_dict(), weights, strict=True)))

    batches = list(digits[: 20 * 16].split(16))
    optimizer = torch.optim.Adam(plain.parameters(), lr=1e-3, betas=(0.5, 0.999), fused=fused)
    expected = []
    for batch in batches:
        loss = F.mse_loss(plain(batch), batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        expected.append(loss.item())

    losses = step_by_lightnings_rules(module, batches)
    assert losses == pytest.approx(expected, rel=0, abs=1e-6)


def plain_one_hots(rule: str, theta: Tensor, drawn: Tensor) -> Tensor:
    """ST and ReinMax of Liu et al. (2023), arXiv:2304.08612, algorithms 1 and 2, given draws."""
    soft = (theta / 1.5).softmax(-1)
    if rule == "reinmax":
        heun = ((drawn + soft) / 2).log()
        soft = 2 * ((heun - theta).detach() + theta).softmax(-1) - theta.softmax(-1) / 2
    return soft - soft.detach() + drawn


@pytest.mark.parametrize("rule", ["st", "reinmax"])
def test_the_vae_of_one_hots_takes_the_steps_of_a_plain_loop(digits: Tensor, rule: str) -> None:
    row = ("model.classes=8", "model.bits=16", "categorical.temperature=1.5", "optimizer=radam")
    torch.manual_seed(0)
    module = build_module(stelab.compose("experiment=reinmax_vae", f"categorical={rule}", *row))
    torch.manual_seed(0)
    one, two, three, four, five, six = (
        nn.Linear(*ends) for ends in pairwise([784, 512, 256, 128, 256, 512, 784])
    )
    encoder = nn.Sequential(one, nn.ReLU(), two, nn.ReLU(), three, nn.Unflatten(1, (16, 8)))
    decoder = nn.Sequential(nn.Flatten(), four, nn.ReLU(), five, nn.ReLU(), six, nn.Sigmoid())

    draws: list[Tensor] = []
    estimator = module.model.binarizer.estimator
    estimator.register_forward_hook(lambda *call: draws.append(call[-1].detach()))
    batches = list(((digits[:3000] + 1) / 2).split(100))
    losses = step_by_lightnings_rules(module.train(), batches)

    weights = [*encoder.parameters(), *decoder.parameters()]
    optimizer = torch.optim.RAdam(weights, lr=1e-3)
    expected = []
    for images, drawn in zip(batches, draws, strict=True):
        theta = encoder(pixels := images.flatten(1))
        output = decoder(plain_one_hots(rule, theta, drawn))
        missed = F.binary_cross_entropy(output, pixels, reduction="sum") / 100
        divergence = (theta.softmax(-1) * (theta.log_softmax(-1) + math.log(8))).sum() / 100
        optimizer.zero_grad()
        (loss := missed + divergence).backward()
        optimizer.step()
        expected.append(loss.item())
    assert losses == pytest.approx(expected, rel=1e-5)
    for ours, theirs in zip(module.model.parameters(), weights, strict=True):
        assert torch.allclose(ours, theirs, rtol=0, atol=1e-5)


def copy_live_weights(conv: Autoencoder, tutorial: Autoencoder) -> None:
    weights = dict(tutorial.state_dict())
    for name, target in conv.state_dict().items():
        if target.shape != weights[name].shape:
            encoder = name.startswith("encoder")
            weights[name] = (
                weights[name][:, :, 1:, 1:] if encoder else weights[name][:, :, 1:4, 1:4]
            )
    conv.load_state_dict(weights)


def test_conv_is_the_tutorials_function_without_its_dead_weights(digits: Tensor) -> None:
    tutorial, conv = (build(f"model={name}").double() for name in ("tutorial", "conv"))
    copy_live_weights(conv, tutorial)
    images = digits[:32].double()
    bits = tutorial.encode(images)
    assert 0 < bits.mean() < 1
    assert torch.equal(conv.encode(images), bits)
    assert torch.allclose(conv.decode(bits), tutorial.decode(bits), rtol=0, atol=1e-12)

    def count(model: Autoencoder) -> int:
        return sum(p.numel() for p in model.parameters())

    dead = 256 * 512 * (16 - 9) + 512 * 256 * (25 - 9)
    assert count(tutorial) - count(conv) == dead == 3_014_656


def test_the_dead_weights_of_the_tutorial_never_receive_a_gradient(digits: Tensor) -> None:
    model = build("model=tutorial")
    F.mse_loss(model(digits[:64]), digits[:64]).backward()
    last, first = model.get_parameter("encoder.8.weight"), model.get_parameter("decoder.0.weight")
    for weight, live in ((last, (slice(1, 4),) * 2), (first, (slice(1, 4),) * 2)):
        assert weight.grad is not None
        dead = torch.ones(weight.shape[2:], dtype=torch.bool)
        dead[live] = False
        assert weight.grad[:, :, dead].abs().max() == 0
        assert (weight.grad[:, :, ~dead] != 0).any(dim=0).any(dim=0).all()


def test_codes_are_no_signed_values() -> None:
    with pytest.raises(ValueError, match="codes are bits in {0, 1}, got a binarizer with signed"):
        build("model=mlp", "+model.binarizer.signed=true")


@pytest.mark.parametrize("name", ["conv", "mlp", "grid"])
@pytest.mark.parametrize(
    ("shape", "cells"), [((3, 32, 32), 9 * 9), ((1, 28, 20), 8 * 6), ((2, 9, 17), 3 * 5)]
)
def test_images_may_have_any_size_and_channels(
    name: str, shape: tuple[int, int, int], cells: int
) -> None:
    sized, bits = f"model.image_shape={[*shape]}", f"model.bits={cells}"
    model = stelab.build(stelab.compose(f"model={name}", sized, bits).model).eval()
    images = torch.rand(2, *shape) * 2 - 1
    assert model.encode(images).shape[1:] == model.code_shape
    assert model(images).shape == images.shape


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("model.bits=500", "bits must be a multiple of the grid's 8x8 cells, got 500"),
        ("model.widths=[64]", r"widths must be two or more, each at least 1, got \[64\]"),
        ("model.kernel=2", "kernel must be odd, got 2"),
        ("model.image_shape=[1,7,28]", r"8x8 pixels or more, got \(1, 7, 28\)"),
    ],
)
def test_a_grid_that_cannot_be_is_refused(override: str, told: str) -> None:
    with pytest.raises(InputError, match=told):
        stelab.build(stelab.compose("model=grid", override).model)


def test_a_bit_of_a_grid_acts_near_its_cell_and_with_a_mixer_everywhere() -> None:
    def reach(*overrides: str) -> tuple[int, int]:
        """Return the rows and columns of the image that the first cell's first bit changes."""
        model = build("model=grid", *overrides).eval()
        for parameter in model.parameters():
            nn.init.uniform_(parameter, 0.01, 0.02)  # nothing cancels, no ReLU is shut
        bits = torch.zeros(2, *model.code_shape)
        bits[1, 0, 0, 0] = 1
        without, with_bit = model.double().decode(bits.double())[:, 0]
        rows, columns = (without != with_bit).nonzero().T.max(dim=1).values.tolist()
        return rows + 1, columns + 1

    assert reach("model.kernel=3") == (9, 9)
    assert reach("model.kernel=3", "model.mixer=4") == (28, 28)


def test_residual_branches_begin_as_constants_and_learn(digits: Tensor) -> None:
    model = build("model=grid", "model.blocks=1", "model.mixer=8")
    branches = [part for part in model.modules() if isinstance(part, Residual)]
    changes: list[Tensor] = []
    for part in branches:
        part.branch.register_forward_hook(lambda _, x, y: changes.append(y.detach()))
    F.mse_loss(model(digits[:8]), digits[:8]).backward()
    assert len(changes) == 8  # three layers and a mixer on each side
    assert all(torch.equal(change, change[:1].expand_as(change)) for change in changes)
    for part in branches:
        *_, weight, _ = part.branch.parameters()
        assert weight.grad is not None
        assert weight.grad.abs().max() > 0


def test_images_that_cannot_be_halved_three_times_are_refused() -> None:
    with pytest.raises(InputError, match=r"8x8 pixels or more, got \(1, 7, 28\)"):
        stelab.build(stelab.compose("model=conv", "model.image_shape=[1,7,28]").model)


def test_a_tokenizer_has_the_channels_of_its_quantizer() -> None:
    cfg = stelab.compose("task=tokenize", "data=mnist5k", "quantizer=fsq", "model.bits=7")
    with pytest.raises(
        InputError, match=r"model.bits must be the channels of the quantizer, \d, got 7"
    ):
        build_module(cfg)
