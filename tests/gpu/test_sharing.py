"""Jobs that share a GPU, through NVIDIA's own Multi-Process Service."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from conftest import Cli


def test_jobs_share_a_gpu(cli: Cli, tmp_path: Path) -> None:
    small = (
        "debug=fast",
        "model=mlp",
        "trainer.accelerator=gpu",
        "seed=range(4)",
        f"paths.outputs={tmp_path}",
    )
    launcher = ("hydra/launcher=gpu", "hydra.launcher.per_device=2")
    done = cli("train", "-m", *small, *launcher)
    assert done.returncode == 0, done.stderr
    assert "take turns" not in done.stderr
    records = [json.loads(path.read_text()) for path in tmp_path.glob("*/*/run.json")]
    assert [record["status"] for record in records] == ["finished"] * 4


@pytest.mark.parametrize("step", ["eager", "graph"])
def test_a_stack_on_a_gpu_is_the_runs(cli: Cli, tmp_path: Path, step: str) -> None:
    small = ("debug=fast", "model=mlp", "model.bits=32", "trainer.accelerator=gpu", "optimizer=sgd")
    jobs = ("seed=0,1", "threshold.value=0.0,0.25", "trainer.max_epochs=5", f"trainer.step={step}")
    found = []
    for launcher in ("stacked", "serial"):
        outputs = tmp_path / launcher
        options = (f"hydra/launcher={launcher}", f"paths.outputs={outputs}")
        done = cli("train", "-m", *small, *jobs, *options)
        assert done.returncode == 0, done.stderr
        records = sorted(outputs.glob("*/*/run.json"))
        found.append([json.loads(path.read_text()) for path in records])
    assert [record["executor"] for record in found[0]] == ["stacked of 4"] * 4
    for ours, theirs in zip(*found, strict=True):
        assert abs(ours["metrics"]["test/mse"] / theirs["metrics"]["test/mse"] - 1) < 1e-3
