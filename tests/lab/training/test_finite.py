"""Where training goes wrong, it stops, and says at which step and in which layer."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from conftest import Cli, train
from stelab.engine.studies import read_run
from stelab.lab.training.finite import FiniteCheck, NonFiniteError


class Overflows(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * math.inf


def network(middle: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 4), middle, nn.Linear(4, 2))


def message(model: nn.Module, x: Tensor) -> str:
    out = model(x)
    check = FiniteCheck(model, [SGD(model.parameters(), fused=True)], scaled=False)
    check.add(out.mean(), out, step=7, batch={"images": x})
    with pytest.raises(NonFiniteError) as error:
        check.look()
    return str(error.value)


def test_the_layer_whose_output_is_not_finite() -> None:
    text = message(network(Overflows()), torch.ones(5, 3))
    assert text == "step 7: the output of 1 is not finite, all weights are"


def test_the_layer_whose_weights_are_not_finite() -> None:
    model = network(nn.ReLU())
    with torch.no_grad():
        model.get_parameter("2.bias")[0] = math.nan
    text = message(model, torch.ones(5, 3))
    assert text == "step 7: the weights of 2 are not finite since the update of step 6"


def test_finite_is_fine() -> None:
    model = network(nn.ReLU())
    check = FiniteCheck(model, [SGD(model.parameters(), fused=True)], scaled=False)
    out = model(torch.ones(5, 3))
    check.add(out.mean(), out, step=7, batch={})
    check.look()


@pytest.mark.parametrize("optimizer", [SGD, Adam, AdamW])
@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_no_weight_moves_after_the_first_failure(
    optimizer: type[Optimizer], fused: bool, wrong: float
) -> None:
    torch.manual_seed(0)
    model = network(nn.ReLU())
    trained = optimizer(model.parameters(), fused=fused)  # type: ignore[call-arg]
    check = FiniteCheck(model, [trained], scaled=False)
    inputs = [torch.randn(5, 3) for _ in range(6)]
    inputs[3][0, 0] = wrong
    weights: list[list[Tensor]] = []  # before each step
    with pytest.raises(NonFiniteError, match="step 3: the output of 0 is not finite"):
        for step, x in enumerate(inputs):
            weights.append([p.detach().clone() for p in model.parameters()])
            out = model(x)
            check.add(out.mean(), out, step=step, batch={"images": x})
            trained.zero_grad()
            out.mean().backward()
            trained.step()
        check.look()
    assert len(weights) == (6 if fused else 4)  # any other optimizer is stopped at once
    for parameter, before, at in zip(model.parameters(), weights[2], weights[3], strict=True):
        assert torch.equal(parameter, at)
        assert not torch.equal(before, at)


def test_nan_before_the_bits_is_found_though_the_loss_is_finite(tmp_path: Path) -> None:
    # 1[NaN > t] is 0, so the decoder's loss stays a number.
    with pytest.raises(NonFiniteError, match=r"step 1: the output of encoder\.\S+ is not finite"):
        train(tmp_path, "optimizer.lr=1e30", "trainer.max_epochs=3")
    (folder,) = (tmp_path / "debug").iterdir()
    run = read_run(folder)
    assert run.status == "failed"
    assert "all weights are" in run.reason


def test_the_last_update_is_looked_at_in_validation(tmp_path: Path) -> None:
    with pytest.raises(NonFiniteError, match=r"step 1: (val|train)/(loss|mse) is (nan|inf)"):
        train(tmp_path, "optimizer=sgd", "optimizer.lr=1e38", "data.limit=64")


def test_the_command_says_it_without_a_traceback(cli: Cli, tmp_path: Path) -> None:
    result = cli("train", "debug=fast", "model=mlp", "optimizer.lr=1e30")
    assert result.returncode == 1
    assert result.stderr.startswith("stelab: step 1: the output of encoder.")
    assert "Traceback" not in result.stderr
    (folder,) = (tmp_path / "outputs" / "debug").iterdir()
    assert "Traceback" in read_run(folder).record["error"]
