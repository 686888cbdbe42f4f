"""Every kind of mistake: one message that names it, exit code 2, nothing written, no torch."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import stelab
from conftest import Cli
from stelab.errors import InputError

MISTAKES = [
    # unknown, added, deleted
    (["seeed=1"], "seeed is not a key here; did you mean 'seed'?"),
    (["+seeed=1"], "seeed is not a key here; did you mean 'seed'?"),
    (["++trainer.max_epoch=3"], "did you mean 'max_epochs'?"),
    (["trainer.max_epoch=3"], "trainer.max_epoch is not a key here; did you mean"),
    (["+estimator.slope=3"], "estimator.slope is not a key here"),
    (["estimator=hardtanh_clip", "estimator.bund=1"], "did you mean 'estimator.bound'?"),
    (["+optimizer.beta=[0.5,0.9]"], "optimizer.beta is not a key here; did you mean 'betas'?"),
    (["~seed"], "seed must be given"),
    (["~estimator"], "estimator must be given"),
    (["~threshold.value"], "threshold.value must be given"),
    (["~optimizer.lr"], "optimizer.lr must be given"),
    # groups and options
    (["estimator=identiy"], "estimator=identiy does not exist; did you mean 'identity'?"),
    (["estimtor=identity"], "estimtor is not a key here; did you mean 'estimator'?"),
    (["experiment=nope"], "experiment=nope does not exist"),
    (["estimator=identity,none"], "is a sweep: add -m"),
    # types
    (["seed=abc"], "seed must be a valid integer, got 'abc'"),
    (["seed=1.5"], "seed must be a valid integer"),
    (["seed=true"], "seed must be a valid integer"),
    (["threshold.value=high"], "threshold.value must be a valid number, got 'high'"),
    (["model.signed=1"], "model.signed must be a valid boolean"),
    (["model.norm=bacth"], "model.norm must be 'batch', 'group' or 'none', got 'bacth'"),
    (["study=../elsewhere"], "study "),
    (["estimator=3"], "Config group override must be a string"),
    # ranges
    (["threshold.value=nan"], "threshold.value must be a finite number, got nan"),
    (["threshold.value=-inf"], "threshold.value must be a finite number, got -inf"),
    (["data.batch_size=0"], "data.batch_size must be greater than or equal to 1, got 0"),
    (["optimizer.lr=-1"], "optimizer.lr must be greater than 0, got -1"),
    (["optimizer.lr=nan"], "optimizer.lr must be a finite number"),
    (["optimizer.betas=[0.5,1]"], "optimizer.betas.1 must be less than 1"),
    (["estimator=hardtanh_clip", "estimator.bound=0"], "estimator.bound must be greater than 0"),
    (["trainer.max_epochs=0"], "trainer.max_epochs must be greater than or equal to 1"),
    (["seed=4294967296"], "seed must be less than 4294967296"),
    (["monitor=val/los"], "monitor must be 'train/loss', 'train/mse', 'val/loss' or 'val/mse'"),
    (["seed=-1"], "seed must be greater than or equal to 0, got -1"),
    (["loss.reduction=median"], "loss.reduction must be 'mean' or 'sum', got 'median'"),
    # grammar, contradictions, targets
    (["seed"], "'seed' is not an override"),
    (["data.val_size=0"], "monitor is val/loss, but data.val_size=0"),
    (["estimator._target_=stelab.estimators.Nope"], "there is no 'Nope'"),
    (["estimator._target_=nowhere.Nope"], "there is no package 'nowhere'"),
]


@pytest.mark.parametrize(("overrides", "expected"), MISTAKES, ids=lambda v: str(v)[:50])
def test_a_mistake_is_named(overrides: list[str], expected: str) -> None:
    with pytest.raises(InputError) as error:
        from stelab.config.plan import plan

        plan("train", overrides, multirun=False, config_dir=None)
    assert expected in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_all_mistakes_are_said_at_once() -> None:
    with pytest.raises(InputError) as error:
        stelab.compose("data.batch_size=0", "optimizer.lr=-1", "+seeed=1")
    text = str(error.value)
    assert [line.split()[0] for line in text.splitlines()] == [
        "data.batch_size",
        "optimizer.lr",
        "seeed",
    ]


@pytest.mark.parametrize(
    "arguments",
    [
        ["train", "seeed=1"],
        ["train", "threshold.value=nan"],
        ["train", "-m", "estimator=glob(typo*)"],
        ["train", "-m", "seed=0,1", "estimator=identity,nope"],
        ["train", "-m", "seed=0,-1"],
        ["train", "--config-dir", "nowhere"],
        ["train", "optimizer.betas=[0.5,0.9,0.9]"],
        ["train", "data=mnist5k", "trainer=gpu"],
        ["train", "data=mnist5k", "trainer.precision=8"],
        ["train", "data=mnist5k", "data.val_size=4000"],
        ["train", "data=mnist5k", "optimizer=sgd", "optimizer.momentum=-1"],
        ["trian"],
        ["evaluate"],
        ["evaluate", "run=nowhere"],
        ["evaluate", "run=nowhere", "checkpoint=newest"],
        ["encode", "run=nowhere", "-m"],
        ["decode", "run=nowhere"],
    ],
    ids=" ".join,
)
def test_exit_code_2_one_message_nothing_written(
    cli: Cli, tmp_path: Path, arguments: list[str]
) -> None:
    result = cli(*arguments)
    assert result.returncode == 2
    assert result.stderr.startswith("stelab: ")
    assert "Traceback" not in result.stderr
    assert result.stdout == ""
    assert not list(tmp_path.iterdir())


def test_a_sweep_over_nothing_lists_the_options(cli: Cli) -> None:
    result = cli("train", "-m", "estimator=glob(typo*)")
    assert "matches nothing" in result.stderr
    assert "gumbel_st, hardtanh_clip, identity" in result.stderr


def test_mistakes_are_found_without_torch(cli: Cli, tmp_path: Path) -> None:
    import subprocess

    code = (
        "import sys\n"
        "from stelab.apps.main import main\n"
        "sys.argv = ['stelab', 'train', 'threshold.value=nan', 'data.batch_size=0']\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    assert stop.code == 2\n"
        "assert 'torch' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True)
