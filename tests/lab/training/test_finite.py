"""Where training goes wrong, it stops, and says at which step and in which layer."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from conftest import Cli, train
from stelab.engine.studies import read_run
from stelab.lab.training.module import NonFiniteError, require_finite


class Overflows(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * math.inf


def network(middle: nn.Module) -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 4), middle, nn.Linear(4, 2))


def message(model: nn.Module, x: Tensor) -> str:
    out = model(x)
    with pytest.raises(NonFiniteError) as error:
        require_finite(out.mean(), out, step=7, model=model, forward=lambda: model(x))
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
    out = model(torch.ones(5, 3))
    require_finite(out.mean(), out, step=7, model=model, forward=lambda: model)


def test_nan_before_the_bits_is_found_though_the_loss_is_finite(tmp_path: Path) -> None:
    # 1[NaN > t] is 0, so the decoder's loss stays a number.
    with pytest.raises(NonFiniteError, match=r"step 1: the weights of encoder\.\S+ are not finite"):
        train(tmp_path, "optimizer.lr=1e30", "trainer.max_epochs=3")
    (folder,) = (tmp_path / "debug").iterdir()
    run = read_run(folder)
    assert run.status == "failed"
    assert "since the update of step 0" in run.reason


def test_the_last_update_is_looked_at_in_validation(tmp_path: Path) -> None:
    with pytest.raises(NonFiniteError, match=r"step 1: (val|train)/(loss|mse) is (nan|inf)"):
        train(tmp_path, "optimizer=sgd", "optimizer.lr=1e38", "data.limit=64")


def test_the_command_says_it_without_a_traceback(cli: Cli, tmp_path: Path) -> None:
    result = cli("train", "debug=fast", "model=mlp", "optimizer.lr=1e30")
    assert result.returncode == 1
    assert result.stderr.startswith("stelab: step 1: the weights of encoder.")
    assert "Traceback" not in result.stderr
    (folder,) = (tmp_path / "outputs" / "debug").iterdir()
    assert "Traceback" in read_run(folder).record["error"]
