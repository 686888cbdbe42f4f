"""Thresholds that follow the pre-activations: exact quantiles, balanced bits, a frozen state."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from torch import Tensor

import stelab
from conftest import train
from stelab.binarizer import Binarizer
from stelab.engine.errors import InputError
from stelab.engine.studies import Run
from stelab.estimators import Identity
from stelab.lab.training.codes import encode
from stelab.lab.training.restore import load_data, restore
from stelab.thresholds import BatchQuantileThreshold, RunningQuantileThreshold, Threshold
from stelab.thresholds.quantile import channel_quantile

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64]
QUANTILES = [0.0, 0.1, 0.25, 0.5, 0.9, 0.999]


def running(
    *, channels: int = 3, quantile: float = 0.5, momentum: float = 0.1
) -> RunningQuantileThreshold:
    return RunningQuantileThreshold(channels=channels, quantile=quantile, momentum=momentum)


def state(threshold: Threshold) -> list[Tensor]:
    return [value.clone() for value in threshold.state_dict().values()]


def unchanged(threshold: Threshold, before: list[Tensor]) -> bool:
    return all(map(torch.equal, state(threshold), before))


@pytest.mark.parametrize("quantile", QUANTILES)
@pytest.mark.parametrize("shape", [(1, 3), (2, 3), (101, 3), (64, 3, 5, 2)])
def test_the_quantile_is_torchs_and_numpys(quantile: float, shape: tuple[int, ...]) -> None:
    x = torch.randn(shape, dtype=torch.float64)
    rows = x.transpose(0, 1).flatten(1)
    mine = channel_quantile(x, quantile)
    assert torch.allclose(mine, torch.quantile(rows, quantile, dim=1), rtol=0, atol=1e-14)
    assert np.allclose(mine, np.quantile(rows.numpy(), quantile, axis=1), rtol=0, atol=1e-14)
    assert torch.equal(BatchQuantileThreshold(quantile=quantile)(x).flatten(), mine)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_dtype_is_read_exactly_and_widened(dtype: torch.dtype) -> None:
    x = (1000 * torch.randn(64, 3)).to(dtype)
    mine = channel_quantile(x, 0.25)
    assert mine.dtype == torch.promote_types(dtype, torch.float32)
    assert torch.allclose(mine, torch.quantile(x.to(mine.dtype), 0.25, dim=0), rtol=1e-6)
    for threshold in (BatchQuantileThreshold(quantile=0.25), running(quantile=0.25)):
        theta = threshold(x)
        assert theta.dtype == dtype
        assert torch.allclose(theta, mine.to(dtype), rtol=1e-6)  # the buffer is float32


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_constant_and_huge_channels_give_no_nan(dtype: torch.dtype) -> None:
    big = torch.finfo(dtype).max / 4
    x = torch.tensor([[0.3, -big], [0.3, big], [0.3, big], [0.3, -big]], dtype=dtype)
    layer = Binarizer(threshold=BatchQuantileThreshold(quantile=0.3), estimator=Identity())
    assert layer.threshold(x)[0] == x[0, 0]  # the constant itself: 0 at the tie, in every dtype
    assert layer(x)[:, 0].tolist() == [0, 0, 0, 0]
    assert layer(x)[:, 1].tolist() == [0, 1, 1, 0]


def test_more_values_than_torch_quantile_takes() -> None:
    x = torch.arange(2**24 + 2, dtype=torch.float32).flip(0)[:, None]
    assert channel_quantile(x, 0.5).item() == 2**23  # 2**23 + 0.5, in float32


@pytest.mark.parametrize("threshold", [BatchQuantileThreshold(quantile=0.5), running()])
@pytest.mark.parametrize("shape", [(64, 3), (8, 3, 4, 2)])
def test_half_of_each_channels_bits_are_ones(threshold: Threshold, shape: tuple[int, ...]) -> None:
    x = torch.randn(shape) * torch.tensor([0.01, 1, 9]).reshape(-1, *(1,) * (len(shape) - 2)) + 5
    layer = Binarizer(threshold=copy.deepcopy(threshold), estimator=Identity())
    assert layer(x).transpose(0, 1).flatten(1).mean(1).tolist() == [0.5] * 3


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_the_wanted_share_of_bits_is_zero(dtype: torch.dtype) -> None:
    layer = Binarizer(threshold=BatchQuantileThreshold(quantile=0.8), estimator=Identity())
    share = 1 - layer(torch.randn(1000, 3).to(dtype)).float().mean(0)
    assert torch.allclose(share, torch.full((3,), 0.8), rtol=0, atol=0.01)  # bfloat16 has ties


def test_batch_has_no_state_and_follows_the_batch_in_evaluation() -> None:
    threshold = BatchQuantileThreshold(quantile=0.5).eval()
    assert not threshold.state_dict()
    assert threshold(torch.tensor([[1.0], [2.0], [6.0]])).tolist() == [2.0]
    assert threshold(torch.tensor([[7.0]])).tolist() == [7.0]


def test_running_starts_with_the_first_batch_and_averages_from_there() -> None:
    threshold = running(channels=2, momentum=0.25)
    assert threshold(torch.tensor([[4.0, -1.0], [8.0, -3.0]])).tolist() == [6.0, -2.0]
    assert threshold(torch.tensor([[10.0, 2.0]])).tolist() == [7.0, -1.0]
    assert threshold(torch.tensor([[3.0, -5.0]])).tolist() == [6.0, -2.0]


def test_running_starts_exactly_even_where_the_first_quantile_is_zero() -> None:
    threshold = running(channels=1, momentum=0.5)
    assert threshold(torch.tensor([[0.0]])).tolist() == [0.0]
    assert threshold(torch.tensor([[4.0]])).tolist() == [2.0]


def test_running_is_frozen_in_evaluation() -> None:
    threshold = running().eval()
    x = torch.randn(9, 3)
    assert threshold(x).tolist() == [0.0] * 3
    first = threshold.train()(x)
    before = state(threshold)
    threshold.eval()
    assert torch.equal(threshold(100 + torch.randn(4, 3)), first)
    assert torch.equal(torch.cat([threshold(x[i : i + 1])[None] for i in range(9)])[0], first)
    assert unchanged(threshold, before)


def test_running_returns_a_theta_that_the_next_batch_leaves_alone() -> None:
    threshold = running(channels=1)
    theta = threshold(torch.tensor([[2.0]]))
    threshold(torch.tensor([[12.0]]))
    assert theta.tolist() == [2.0]


@pytest.mark.parametrize("threshold", [BatchQuantileThreshold(quantile=0.5), running()])
def test_theta_carries_no_gradient(threshold: Threshold) -> None:
    x = torch.randn(8, 3, requires_grad=True)
    assert not threshold(x).requires_grad
    g = torch.randn(8, 3)
    Binarizer(threshold=threshold, estimator=Identity())(x).backward(g)
    assert x.grad is not None
    assert torch.equal(x.grad, g)


def test_running_travels_in_the_state_dict() -> None:
    threshold, other = running(), running()
    threshold(torch.randn(8, 3))
    assert list(threshold.state_dict()) == ["theta", "seen"]
    other.load_state_dict(threshold.state_dict())
    x = torch.randn(8, 3)
    assert torch.equal(other.eval()(x), threshold.eval()(x))
    assert torch.equal(other.train()(x), threshold.train()(x))  # goes on, does not start anew


@pytest.mark.parametrize("threshold", [BatchQuantileThreshold(quantile=0.3), running()])
def test_copies_and_pickles(threshold: Threshold) -> None:
    threshold(torch.randn(8, 3))
    x = torch.randn(8, 3)
    for twin in (copy.deepcopy(threshold), pickle.loads(pickle.dumps(threshold))):
        assert repr(twin) == repr(threshold)
        before = state(threshold)
        twin(x)
        assert unchanged(threshold, before)
        assert torch.equal(twin.eval()(x), copy.deepcopy(threshold).train()(x))


def test_vmap_over_networks() -> None:
    x = torch.randn(4, 9, 3)
    for threshold in (BatchQuantileThreshold(quantile=0.5), running().eval()):
        at_once = torch.func.vmap(threshold)(x)
        assert torch.equal(at_once, torch.stack([threshold(part) for part in x]))


def test_compiled_equals_eager() -> None:
    x = torch.randn(3, 8, 3)
    for threshold in (BatchQuantileThreshold(quantile=0.3), running()):
        twin = copy.deepcopy(threshold)
        compiled = torch.compile(threshold, backend="aot_eager", fullgraph=True)
        for part in x:
            assert torch.equal(compiled(part), twin(part))
        assert unchanged(threshold, state(twin))
    torch._dynamo.reset()


@pytest.mark.parametrize("quantile", [1.5, 1.0, -0.1, float("nan"), "0.5"])
def test_a_quantile_out_of_its_range_is_refused(quantile: object) -> None:
    with pytest.raises(ValueError, match="quantile"):
        BatchQuantileThreshold(quantile=quantile)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="quantile"):
        running(quantile=quantile)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "mistake", [{"momentum": -0.1}, {"momentum": 1.5}, {"channels": 0}, {"channels": 1.5}], ids=str
)
def test_running_refuses_what_is_out_of_range(mistake: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=next(iter(mistake))):
        running(**mistake)


@pytest.mark.parametrize("training", [True, False])
def test_running_names_the_shape_it_wants(training: bool) -> None:
    with pytest.raises(ValueError, match=r"3 channels.*\(2, 4\).*size 3 in dim 1"):
        running().train(training)(torch.randn(2, 4))


@pytest.fixture(scope="module", params=["batch_median", "running_median"])
def trained_with(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(tmp_path_factory.mktemp("outputs"), f"threshold={request.param}")


def test_it_trains_and_the_bits_are_balanced(trained_with: Run) -> None:
    assert trained_with.status == "finished"
    assert trained_with.metrics["code/mean"] == pytest.approx(0.5, abs=0.05)
    if trained_with.config["names"]["threshold"] == "batch_median":
        assert trained_with.metrics["code/mean"] == 0.5
        assert trained_with.metrics["code/dead_bits"] == 0


def test_a_restored_checkpoint_encodes_with_the_frozen_threshold(tmp_path: Path) -> None:
    run = train(tmp_path, "threshold=running_median")
    module = restore(run, checkpoint="last")
    threshold = cast(RunningQuantileThreshold, module.model.binarizer.threshold)
    before = state(threshold)
    assert threshold.seen
    assert threshold.theta.abs().max() > 0
    images = load_data(run).images("test")
    with torch.no_grad():
        x = module.model.encoder(images)
        alone = torch.cat([module.model.encode(image[None]) for image in images[:5]])
    codes, stored = encode(
        run,
        checkpoint="last",
        split="test",
        images=None,
        data=None,
        output=str(tmp_path / "codes.npy"),
        overwrite=False,
    )
    bits = stored.unpack(codes)
    assert torch.equal(bits, (x > threshold.theta).float())
    assert torch.equal(bits[:5], alone)  # whatever batch they come in
    assert unchanged(threshold, before)


def test_a_quantile_out_of_range_is_found_before_torch_is_imported() -> None:
    with pytest.raises(InputError, match=r"threshold.quantile must be less than 1"):
        stelab.compose("threshold=batch_median", "threshold.quantile=1.5")
