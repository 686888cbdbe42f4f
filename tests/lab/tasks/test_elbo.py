"""Bounds of discrete VAEs against the enumeration of all their codes."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Generator, Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from stelab import Binarizer, Categorizer, Philox
from stelab.categorical import ReinMax as CategoricalReinMax
from stelab.estimators import (
    BernoulliStraightThrough,
    DecoupledStraightThrough,
    Estimator,
    Exact,
    Identity,
)
from stelab.lab.models.vae import BernoulliVAE, CategoricalVAE, HierarchicalVAE
from stelab.lab.tasks import Elbo, elbo
from stelab.lab.training import BernoulliLikelihood
from stelab.thresholds import FixedThreshold

PIXELS, BITS, DRAWS = (1, 2, 3), 3, 40_000


def binary(estimator: Estimator | None = None) -> Binarizer:
    drawn = BernoulliStraightThrough(slope="sigmoid", temperature=1.0)
    return Binarizer(threshold=FixedThreshold(value=0.2), estimator=estimator or drawn)


def linear(inputs: int, outputs: int, *shape: int) -> nn.Module:
    layers = [nn.Flatten(), nn.Linear(inputs, outputs).double()]
    return nn.Sequential(*layers, *([nn.Unflatten(1, shape)] if shape else []))


@pytest.fixture(autouse=True)
def seeded() -> None:
    torch.manual_seed(3)


def bernoulli() -> BernoulliVAE:
    # Its law is sigmoid(s / 2), which the divergence must follow.
    drawn = DecoupledStraightThrough(forward_temperature=2.0, backward_temperature=1.0)
    vae = BernoulliVAE(
        encoder=linear(6, BITS),
        binarizer=binary(drawn),
        decoder=linear(BITS, 6, *PIXELS),
        bits=BITS,
    )
    nn.init.normal_(vae.prior_logits)
    return vae.double()


def hierarchical() -> HierarchicalVAE:
    vae = HierarchicalVAE(
        encoder=linear(6, BITS),
        binarizer=binary(),
        top_encoder=linear(BITS, 2),
        top_binarizer=binary(),
        top_decoder=linear(2, BITS),
        decoder=linear(BITS, 6, *PIXELS),
        bits=2,
    )
    nn.init.normal_(vae.prior_logits)
    return vae.double()


def one_hots() -> CategoricalVAE:
    return CategoricalVAE(
        encoder=linear(6, 6, 2, 3),
        binarizer=Categorizer(estimator=CategoricalReinMax(temperature=1.0)),
        decoder=linear(6, 6, *PIXELS),
        code_shape=(2, 3),
    ).double()


def codes(bits: int) -> Tensor:
    return torch.tensor(list(itertools.product([0.0, 1.0], repeat=bits)), dtype=torch.float64)


def log_bernoulli(logits: Tensor, code: Tensor) -> Tensor:
    return torch.where(code > 0, logits, -logits).sigmoid().log().sum(-1)


def log_likelihood(vae: BernoulliVAE, code: Tensor, image: Tensor) -> Tensor:
    logits = vae.decoder(2 * code - 1)
    return log_bernoulli(logits.flatten(1), image.flatten().expand(len(code), -1))


def of_bernoulli(vae: BernoulliVAE, image: Tensor) -> tuple[float, float]:
    """-ELBO and -log p(x), by enumeration."""
    b = codes(BITS)
    log_q = log_bernoulli((vae.encoder(image) - 0.2) / 2, b)
    log_joint = log_likelihood(vae, b, image) + log_bernoulli(vae.prior_logits, b)
    return (log_q.exp() * (log_q - log_joint)).sum().item(), -log_joint.logsumexp(0).item()


def of_hierarchical(vae: HierarchicalVAE, image: Tensor) -> tuple[float, float]:
    elbo, joint = 0.0, []
    lower = codes(BITS)
    log_q1 = log_bernoulli(vae.encoder(image) - 0.2, lower)
    for code, q1 in zip(lower, log_q1, strict=True):
        top = codes(2)
        log_q2 = log_bernoulli(vae.top_encoder(2 * code[None] - 1) - 0.2, top)
        log_p = log_bernoulli(vae.prior_logits, top)
        log_p = log_p + log_bernoulli(vae.top_decoder(2 * top - 1), code.expand(4, -1))
        log_p = log_p + log_likelihood(vae, code[None], image)
        elbo += ((q1 + log_q2).exp() * (q1 + log_q2 - log_p)).sum().item()
        joint.append(log_p)
    return elbo, -torch.cat(joint).logsumexp(0).item()


def of_one_hots(vae: CategoricalVAE, image: Tensor) -> tuple[float, float]:
    eye = torch.eye(3, dtype=torch.float64)
    code = torch.stack([torch.stack([eye[i], eye[j]]) for i in range(3) for j in range(3)])
    log_q = (vae.encoder(image).log_softmax(-1) * code).sum((1, 2))
    logits = vae.decoder(code).flatten(1)
    log_joint = log_bernoulli(logits, image.flatten().expand(9, -1)) - 2 * math.log(3)
    return (log_q.exp() * (log_q - log_joint)).sum().item(), -log_joint.logsumexp(0).item()


CASES: dict[str, tuple[Callable[[], Any], Callable[[Any, Tensor], tuple[float, float]]]] = {
    "one layer": (bernoulli, of_bernoulli),
    "two layers": (hierarchical, of_hierarchical),
    "one-hots": (one_hots, of_one_hots),
}


class Unseen(TorchDispatchMode):
    """Refuses to let the host look at a number, for which it would wait."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        assert func is not torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", CASES)
def test_nothing_waits_for_a_number(name: str) -> None:
    vae, images = CASES[name][0](), torch.rand(5, *PIXELS, dtype=torch.float64)
    with Unseen():
        x = vae.encoder(images)
        draw = vae.draw(x, generator=Philox(0, 0))
        (vae.rate(x) - draw.log_ratio + draw.decoded.cost).sum().backward()


@pytest.mark.parametrize("name", CASES)
def test_losses_and_bounds_are_those_of_all_codes(name: str) -> None:
    make, enumerate_codes = CASES[name]
    vae, task = make(), Elbo(BernoulliLikelihood(), bounds=[64])
    image = torch.bernoulli(torch.full((1, *PIXELS), 0.5, dtype=torch.float64))
    with torch.no_grad():
        negative_elbo, negative_evidence = enumerate_codes(vae, image)
        batch = {"images": image.expand(DRAWS // 20, -1, -1, -1)}
        generator = torch.Generator().manual_seed(0)
        values = task.evaluate(vae, batch, "test", generator=generator)
        # As training does, with the divergence known.
        x = vae.encoder(batch["images"])
        code = vae.sample(x, generator=generator)
        trained = task.losses(vae.train().decode(code), batch) + task.penalty(vae, x)
    for losses in (values["loss"], trained):
        z = (losses.mean() - negative_elbo) / (losses.std() / len(losses) ** 0.5)
        assert z.abs() < 4
    assert (values["nll"] <= values["loss"]).all() or name == "two layers"
    # With 64 draws of at most 32 codes, nearly the evidence itself, from above in the mean.
    bound = values["bound_64"]
    assert bound.mean().item() == pytest.approx(negative_evidence, abs=0.02)
    assert negative_evidence < negative_elbo


@pytest.mark.parametrize("name", CASES)
def test_bounds_rise_with_the_draws_to_the_evidence(name: str) -> None:
    make, enumerate_codes = CASES[name]
    vae, task = make(), Elbo(BernoulliLikelihood(), bounds=[1, 4, 16, 5000])
    image = torch.bernoulli(torch.full((1, *PIXELS), 0.5, dtype=torch.float64))
    batch = {"images": image.expand(400, -1, -1, -1)}
    rows: list[int] = []
    with torch.no_grad():
        negative_elbo, negative_evidence = enumerate_codes(vae, image)
        vae.decoder.register_forward_hook(lambda layer, code, out: rows.append(len(out)))
        values = task.evaluate(vae, batch, "test", generator=Generator().manual_seed(0))
    means = [values[f"bound_{count}"].mean().item() for count in task.bounds]
    errors = [(values[f"bound_{k}"].std() / 400**0.5).item() for k in task.bounds]
    assert abs(means[0] - negative_elbo) < 4 * errors[0]
    gaps = [mean - negative_evidence for mean in means]
    assert gaps[0] > gaps[1] > gaps[2] > abs(gaps[3])
    assert abs(gaps[3]) < 4 * errors[3] + 1e-3
    # A few at a time: rows of 2 x 3 pixels. All of them, and not more.
    assert sum(rows) == 400 * (1 + sum(task.bounds))
    assert max(rows) * 6 <= elbo._MOST_PIXELS < 400 * 5000 * 6


def test_the_gradient_of_one_layer_is_that_of_the_bound() -> None:
    """With the estimate of all bits, and the divergence differentiated as it is."""
    vae, task = bernoulli(), Elbo(BernoulliLikelihood(), bounds=[])
    vae.binarizer = binary(Exact(bits=BITS))
    image = torch.bernoulli(torch.full((1, *PIXELS), 0.5, dtype=torch.float64))
    batch, x = {"images": image}, vae.encoder(image).detach().requires_grad_()
    f = lambda code: task.losses(vae.decode(code), batch)  # noqa: E731
    loss = vae.binarizer.loss(x, f) + task.penalty(vae, x).mean()
    (ours,) = torch.autograd.grad(loss, x)

    y = x.detach().clone().requires_grad_()
    b = codes(BITS)
    log_q = log_bernoulli(y - 0.2, b)
    log_joint = log_likelihood(vae, b, image) + log_bernoulli(vae.prior_logits, b)
    (exact,) = torch.autograd.grad((log_q.exp() * (log_q - log_joint)).sum(), y)
    assert torch.allclose(ours, exact, rtol=1e-8, atol=1e-10)


def test_draws_are_the_generators() -> None:
    vae, images = bernoulli(), torch.rand(50, *PIXELS, dtype=torch.float64)

    def draw(seed: int) -> Tensor:
        return vae.draw(vae.encoder(images), generator=Generator().manual_seed(seed)).log_ratio

    assert torch.equal(draw(1), draw(1))
    assert not torch.equal(draw(1), draw(2))


def test_what_cannot_be_is_refused() -> None:
    vae, task = bernoulli(), Elbo(BernoulliLikelihood(), bounds=[])
    image = torch.rand(2, *PIXELS, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"pixels must lie in \[0, 1\], got \[-1, 1\]"):
        task.require_batch({"images": torch.tensor([[[[-1.0, 1.0]]]])})
    vae.binarizer = binary(Identity())
    code = vae.encode(image)
    with pytest.raises(ValueError, match="codes that are drawn, but estimator Identity thresholds"):
        task.require_fit(vae, {"images": image}, code, vae.decode(code))
    with pytest.raises(ValueError, match="bounds must be numbers of draws"):
        Elbo(BernoulliLikelihood(), bounds=[0])
