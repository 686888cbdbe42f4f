"""What every quantizer promises, whatever estimator and threshold round for it."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Generator, Tensor

from stelab import Binarizer
from stelab.estimators import (
    BernoulliStraightThrough,
    DisARM,
    Estimator,
    Exact,
    GumbelStraightThrough,
    HardtanhClip,
    Identity,
    SigmoidSlope,
)
from stelab.estimators.enumeration import all_codes, log_probability
from stelab.quantizers import (
    BinarySphericalQuantizer,
    FiniteScalarQuantizer,
    LookupFreeQuantizer,
    Quantizer,
)
from stelab.thresholds import (
    BatchQuantileThreshold,
    FixedThreshold,
    LearnedThreshold,
    RunningQuantileThreshold,
    Threshold,
)

PENALTY = {"entropy_weight": 0.1, "diversity": 1.0, "commitment_weight": 0.25}
FAMILIES: dict[str, Callable[[Binarizer], Quantizer]] = {
    "lfq": lambda binarizer: LookupFreeQuantizer(
        binarizer=binarizer, channels=3, scale=0.7, temperature=0.01, group_size=2, **PENALTY
    ),
    "bsq": lambda binarizer: BinarySphericalQuantizer(
        binarizer=binarizer, channels=3, temperature=0.01, group_size=3, **PENALTY
    ),
    "fsq": lambda binarizer: FiniteScalarQuantizer(binarizer=binarizer, levels=(5, 3, 8)),
}


@pytest.fixture(params=list(FAMILIES))
def family(request: pytest.FixtureRequest) -> Callable[[Binarizer], Quantizer]:
    return FAMILIES[request.param]


def rounding(estimator: Estimator | None = None, threshold: Threshold | None = None) -> Binarizer:
    return Binarizer(
        threshold=threshold or FixedThreshold(value=0.0), estimator=estimator or Identity()
    )


@pytest.fixture
def quantizer(family: Callable[[Binarizer], Quantizer]) -> Quantizer:
    return family(rounding())


def seeded() -> Generator:
    return torch.Generator().manual_seed(5)


def gradient(loss: Tensor, leaf: Tensor) -> Tensor:
    (found,) = torch.autograd.grad(loss, leaf)
    return found


def codebook(quantizer: Quantizer) -> Tensor:
    return quantizer.codes(torch.arange(quantizer.codebook_size))


def cubes(codes: Tensor) -> Tensor:
    """Evaluate a loss that is no polynomial of degree two in any coordinate."""
    return (codes.flatten(1) + 0.3).pow(3).sum(1).square()


ROUNDINGS = [
    (BernoulliStraightThrough(slope="sigmoid", temperature=1.0), FixedThreshold(value=0.0)),
    (DisARM(), FixedThreshold(value=0.3)),
    (Identity(), FixedThreshold(value=5.0)),
    (Identity(), FixedThreshold(value=-5.0)),
    (GumbelStraightThrough(temperature=0.5), LearnedThreshold(channels=3, init=-0.2)),
    (HardtanhClip(bound=0.1), BatchQuantileThreshold(quantile=0.5)),
    (Identity(), RunningQuantileThreshold(channels=3, quantile=0.5, momentum=0.1)),
]


@pytest.mark.parametrize(("estimator", "threshold"), ROUNDINGS, ids=lambda p: type(p).__name__)
def test_every_code_is_a_codeword(
    family: Callable[[Binarizer], Quantizer], estimator: Estimator, threshold: Threshold
) -> None:
    quantizer = family(rounding(copy.deepcopy(estimator), copy.deepcopy(threshold)))
    z = 3 * torch.randn(200, 3, 2)
    codes = quantizer(z, generator=seeded())
    book = {tuple(word) for word in codebook(quantizer).tolist()}
    assert {tuple(word) for word in codes.movedim(1, 2).flatten(0, 1).tolist()} <= book
    assert torch.equal(quantizer.codes(quantizer.indices(codes)), codes)


def test_indices_are_numbers_of_codewords_both_ways(quantizer: Quantizer) -> None:
    everything = torch.arange(quantizer.codebook_size)
    book = codebook(quantizer)
    assert len(book.unique(dim=0)) == quantizer.codebook_size
    assert torch.equal(quantizer.indices(book), everything)
    images = everything[:8].reshape(2, 2, 2)
    assert quantizer.codes(images).shape == (2, 3, 2, 2)
    assert torch.equal(quantizer.indices(quantizer.codes(images).half()), images)
    for wrong in (-1, quantizer.codebook_size):
        with pytest.raises(ValueError, match=f"indices must be .* got 0 to {wrong}|got {wrong} to"):
            quantizer.codes(torch.tensor([0, wrong]))


def test_without_a_threshold_the_code_is_the_nearest_codeword(quantizer: Quantizer) -> None:
    """A codeword's distance, in its channel and in units of its spacing, is 1/2 at most."""
    z = torch.randn(500, 3, dtype=torch.float64)
    x = quantizer.position(z)
    away = (x + 0.5 - quantizer.digits(quantizer(z))).abs()
    inside = (x > -0.5) & (x < torch.tensor(quantizer.levels) - 1.5)
    assert inside.any()
    assert (away[inside] <= 0.5).all()
    assert (quantizer.centre(z)[inside].abs() <= 0.5).all()


@pytest.mark.parametrize("shape", [(6, 3), (2, 3, 2)], ids=str)
def test_the_exact_gradient_is_that_of_the_mean_over_both_neighbours(
    family: Callable[[Binarizer], Quantizer], shape: tuple[int, ...]
) -> None:
    bits = shape[1] * (shape[2] if len(shape) > 2 else 1)
    quantizer = family(rounding(Exact(bits=bits)))
    z = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    loss = quantizer.loss(z, cubes, generator=seeded())
    s = quantizer.centre(z)
    border = (quantizer.position(z) - s).detach()
    mean = torch.zeros(())
    for code in all_codes(bits, like=s):
        pattern = code.reshape(shape[1:]).expand(shape)
        q = log_probability(code, s.flatten(1)).exp()
        mean = mean + (q * cubes(quantizer.codewords(border + pattern))).mean()
    expected = gradient(mean, z)
    assert expected.abs().max() > 0.01
    assert torch.allclose(gradient(loss, z), expected, rtol=0, atol=1e-10)


def test_losses_are_one_an_example_and_loss_their_mean(
    family: Callable[[Binarizer], Quantizer],
) -> None:
    w = torch.randn(4)
    for estimator in (
        Identity(),
        BernoulliStraightThrough(slope="sigmoid", temperature=1.0),
        DisARM(),
    ):
        quantizer = family(rounding(estimator))
        z = torch.randn(4, 3, 2, requires_grad=True)
        losses = quantizer.losses(z, cubes, generator=seeded())
        loss = quantizer.loss(z, cubes, generator=seeded())
        codes = quantizer(z, generator=seeded())
        assert losses.shape == (4,)
        assert torch.allclose(losses.mean(), loss)
        if not isinstance(estimator, DisARM):
            assert torch.equal(losses, cubes(codes))
            by_codes = gradient((cubes(codes) * w).sum(), z)
            weighted = gradient((losses * w).sum(), z)
            assert torch.allclose(weighted, by_codes, rtol=1e-5, atol=1e-6)
        else:
            each = gradient((losses * w).sum(), z)
            mean = gradient(loss, z)
            assert torch.allclose(each, 4 * w[:, None, None] * mean, rtol=1e-4, atol=1e-6)


def test_the_generator_decides_random_codes(family: Callable[[Binarizer], Quantizer]) -> None:
    quantizer = family(rounding(BernoulliStraightThrough(slope="sigmoid", temperature=1.0)))
    z, generator = torch.randn(50, 3), seeded()
    assert torch.equal(quantizer(z, generator=seeded()), quantizer(z, generator=seeded()))
    assert not torch.equal(quantizer(z, generator=generator), quantizer(z, generator=generator))
    assert torch.equal(quantizer.eval()(z), quantizer.eval()(z))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
def test_half_precision_is_computed_in_float32_and_cast_last(
    quantizer: Quantizer, dtype: torch.dtype
) -> None:
    z = torch.randn(20, 3, 2).to(dtype).requires_grad_()
    reference = z.detach().to(torch.promote_types(dtype, torch.float32)).requires_grad_()
    g = torch.randn(20, 3, 2).to(dtype)
    codes, expected = quantizer(z), quantizer(reference)
    assert codes.dtype == dtype
    assert torch.equal(codes, expected.to(dtype))
    mine = gradient((codes * g).sum(), z)
    theirs = gradient((expected * g.to(expected.dtype)).sum(), reference)
    assert torch.equal(mine, theirs.to(dtype))
    for value in (quantizer.penalty(z), quantizer.loss(z, cubes)):
        assert value.dtype == reference.dtype
        assert value.dim() == 0

    def f(codes: Tensor) -> Tensor:
        assert codes.dtype == dtype
        return cubes(codes)

    assert torch.equal(quantizer.loss(z, f), quantizer.loss(z, cubes))


def test_module_half_keeps_the_grid(quantizer: Quantizer) -> None:
    z = torch.randn(20, 3)
    expected = quantizer(z)
    assert torch.equal(copy.deepcopy(quantizer).half()(z), expected)


def test_autocast_changes_nothing(quantizer: Quantizer) -> None:
    z = torch.randn(20, 3, 2)
    expected = quantizer(z), quantizer.penalty(z)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        for mine, theirs in zip((quantizer(z), quantizer.penalty(z)), expected, strict=True):
            assert mine.dtype == torch.float32
            assert torch.equal(mine, theirs)


def test_an_empty_batch_stays_empty(quantizer: Quantizer) -> None:
    z = torch.randn(0, 3, 2, requires_grad=True)
    codes = quantizer(z)
    assert codes.shape == (0, 3, 2)
    assert quantizer.indices(codes).shape == (0, 2)
    assert quantizer.codes(quantizer.indices(codes)).shape == (0, 3, 2)
    assert quantizer.losses(z, cubes).shape == (0,)
    loss = quantizer.loss(z, cubes) + quantizer.penalty(z)
    assert loss.isnan()
    assert gradient(loss, z).shape == z.shape


def test_nan_is_the_lowest_digit_and_its_gradient_nan(quantizer: Quantizer) -> None:
    z = torch.randn(4, 3)
    z[1, 2] = torch.nan
    leaf = z.requires_grad_()
    codes = quantizer(leaf)
    assert quantizer.digits(codes)[1, 2] == 0
    found = gradient((codes * torch.randn(4, 3)).sum(), leaf)
    assert found.isnan().nonzero().tolist() == [[1, 2]]


@pytest.mark.parametrize("far", [torch.inf, -torch.inf, 1e30, -1e30])
def test_far_values_are_the_outermost_codewords_with_finite_gradients(
    quantizer: Quantizer, far: float
) -> None:
    leaf = torch.tensor([[far, 0.4, -0.3], [0.1, 0.2, 0.3]], requires_grad=True)
    codes = quantizer(leaf)
    highest = quantizer.levels[0] - 1
    assert quantizer.digits(codes)[0, 0] == (highest if far > 0 else 0)
    assert codes.isfinite().all()
    assert gradient(codes.sum(), leaf).isfinite().all()


def test_on_the_meta_device_there_are_shapes(quantizer: Quantizer) -> None:
    there = copy.deepcopy(quantizer).to("meta")
    z = torch.randn(2, 3, 4, 4, device="meta", requires_grad=True)
    codes = there(z)
    assert codes.shape == z.shape
    assert there.indices(codes).shape == (2, 4, 4)
    loss = there.loss(z, cubes) + there.penalty(z)
    assert gradient(loss, z).shape == z.shape


def test_compiled_equals_eager(quantizer: Quantizer) -> None:
    z, g = torch.randn(6, 3, 2, requires_grad=True), torch.randn(6, 3, 2)
    compiled = torch.compile(quantizer, backend="aot_eager", fullgraph=True)
    mine, theirs = compiled(z), quantizer(z)
    assert torch.equal(mine, theirs)
    assert torch.allclose(gradient((mine * g).sum(), z), gradient((theirs * g).sum(), z), atol=1e-6)
    torch._dynamo.reset()


def test_second_derivatives_of_a_rule_that_has_none_are_refused(
    family: Callable[[Binarizer], Quantizer],
) -> None:
    quantizer = family(rounding(SigmoidSlope(slope=1.0)))
    z = torch.randn(4, 3, requires_grad=True)
    (first,) = torch.autograd.grad(cubes(quantizer(z)).sum(), z, create_graph=True)
    with pytest.raises(RuntimeError, match="no derivative of its own|estimate"):
        first.sum().backward()


def test_a_learned_threshold_moves_the_borders_and_learns(
    family: Callable[[Binarizer], Quantizer],
) -> None:
    threshold = LearnedThreshold(channels=3, init=0.0)
    quantizer = family(rounding(threshold=threshold))
    z = torch.randn(30, 3, 2, requires_grad=True)
    g = torch.randn(30, 3, 2)
    (quantizer(z) * g).sum().backward()
    spacing = quantizer.codewords(torch.ones(1, 3)) - quantizer.codewords(torch.zeros(1, 3))
    assert threshold.theta.grad is not None
    expected = -(g.sum((0, 2)) * spacing[0])
    assert torch.allclose(threshold.theta.grad, expected, rtol=1e-4, atol=1e-5)


def test_copies_and_state(quantizer: Quantizer) -> None:
    z = torch.randn(4, 3)
    assert quantizer.state_dict() == {}
    for twin in (copy.deepcopy(quantizer), pickle.loads(pickle.dumps(quantizer))):
        assert repr(twin) == repr(quantizer)
        assert torch.equal(twin(z), quantizer(z))


def test_a_signed_binarizer_is_refused(family: Callable[[Binarizer], Quantizer]) -> None:
    signed = Binarizer(threshold=FixedThreshold(value=0.0), estimator=Identity(), signed=True)
    with pytest.raises(ValueError, match="a binarizer that is signed: build it with signed=False"):
        family(signed)


@pytest.mark.parametrize("shape", [(3,), (4, 2), (3, 4, 4), ()], ids=str)
def test_other_channels_are_refused(quantizer: Quantizer, shape: tuple[int, ...]) -> None:
    wrong = torch.zeros(shape)
    for method in (quantizer, quantizer.centre, quantizer.indices):
        with pytest.raises(ValueError, match=r"expected \(batch, 3, \*positions\)"):
            method(wrong)
