"""Every kind of mistake: one message that names it, exit code 2, nothing written, no torch."""

from __future__ import annotations

import logging
import sys
from pathlib import Path

import numpy as np
import pytest
from hydra.core.global_hydra import GlobalHydra

import stelab
from conftest import Cli
from stelab.apps.main import main
from stelab.engine.config.input_errors import described
from stelab.engine.errors import InputError

MISTAKES = [
    # unknown, added, deleted
    (["seeed=1"], "seeed is not a key here; did you mean 'seed'?"),
    (["+seeed=1"], "seeed is not a key here; did you mean 'seed'?"),
    (["++trainer.max_epoch=3"], "did you mean 'trainer.max_epochs'?"),
    (["trainer.max_epoch=3"], "trainer.max_epoch is not a key here; did you mean"),
    (["trainer.max_step=3"], "did you mean 'trainer.max_steps'?"),
    (["trainer.max_steps=1.5"], "trainer.max_steps must be a valid integer, got 1.5"),
    (["trainer.limit_train_batches=0"], "trainer.limit_train_batches must be a number of batches"),
    (["trainer.logger=false"], "trainer.logger is not a key here: the group logger has them"),
    (["trainer.max_epochs=null"], "trainer.max_epochs is null, and there is no trainer.max_steps"),
    (
        ["trainer.max_epochs=-1", "trainer.max_steps=9", "scheduler=cosine"],
        "trainer.max_epochs is -1, so scheduler.T_max is unknown",
    ),
    (["trainer.limit_val_batches=0"], "trainer.limit_val_batches=0 leaves no validation"),
    (["monitor=code/entropy"], "monitor is code/entropy, so better must be set"),
    (["monitor=test/mse"], "monitor must be a metric that every epoch of training logs"),
    (["better=up"], "better must be 'lower' or 'higher', got 'up'"),
    (["scheduler.interval=batch"], "scheduler.interval must be 'epoch' or 'step', got 'batch'"),
    (["scheduler.factr=1"], "did you mean 'scheduler.factor'?"),
    (["+estimator.slope=3"], "estimator.slope is not a key here"),
    (["estimator=hardtanh_clip", "estimator.bund=1"], "did you mean 'estimator.bound'?"),
    (
        ["+optimizer.beta=[0.5,0.9]"],
        "optimizer.beta is not a key here; did you mean 'optimizer.betas'",
    ),
    (["~seed"], "seed must be given"),
    (["~estimator"], "estimator must be given"),
    (["~threshold.value"], "threshold.value must be given"),
    (["~optimizer._target_"], "optimizer must have a _target_"),
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
    (["estimator=3"], "'estimator=3' cannot be applied: estimator takes one of approx_sign, "),
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
    (["monitor=val/los"], "so better must be set, to lower or higher; did you mean 'val/loss'?"),
    (["seed=-1"], "seed must be greater than or equal to 0, got -1"),
    (["loss.reduction=median"], "loss.reduction must be 'mean' or 'sum', got 'median'"),
    # grammar, contradictions, targets
    (["seed"], "'seed' is not an override"),
    (["data.val_size=0"], "monitor is val/loss, but data.val_size=0"),
    (["estimator._target_=stelab.estimators.Nope"], "there is no 'Nope'"),
    (["estimator._target_=nowhere.Nope"], "there is no package 'nowhere'"),
    (["=x"], "'=x' is not an override"),
    (["seed=\0"], "is not an override"),
    (["\ud800=1"], "is not an override"),
    (["seed=[[[[[["], "'seed=[[[[[[' is not an override"),
    (["model.bits=" + "[" * 5000], "is not an override"),
    # tables and values in each other's place
    (["model={a:1}"], "model.a is not a key here"),
    (["names=x"], "names must be a valid dictionary, got 'x'"),
    (["trainer=[1,2]"], "'trainer=[1,2]' cannot be applied: trainer takes one of auto, cpu"),
    (["paths.run=[1]"], "paths.run must be a valid string, got [1]"),
    (["trainer.profiler={a:1}"], "trainer.profiler must have a _target_"),
    (["hydra=3"], "'hydra=3' cannot be applied: "),
    (["hydra.run=5"], "hydra.run=5: Invalid type assigned"),
    (["seed=${x}"], "seed: its value cannot be resolved: Interpolation key 'x' not found"),
    (["seed=${seed}"], "cannot be resolved: Recursive interpolation detected"),
    (["problem=mlp"], "problem is not a key here"),
    (["hydra.searchpath=[file:///nowhere]"], "/nowhere is not available"),
    # numbers that no machine takes
    (["threads=10000000000000"], "threads must be auto, or a number of threads from 1 to 1024"),
    (["threads=0"], "threads must be auto, or a number of threads from 1 to 1024, got 0"),
    (["threads=abc"], "threads must be auto, or a number of threads from 1 to 1024, got 'abc'"),
    (["seed=" + "9" * 5000], "is not an override"),
]


@pytest.mark.parametrize(("overrides", "expected"), MISTAKES, ids=lambda v: str(v)[:50])
def test_a_mistake_is_named(overrides: list[str], expected: str) -> None:
    with pytest.raises(InputError) as error:
        from stelab.engine.sweepers.plan import plan

        plan("train", overrides, multirun=False, config_dir=None)
    assert expected in str(error.value)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["seed=range(0,1000000000)"], "'seed=range(0,1000000000)' has more than 10000 values"),
        (["seed=range(1e400)"], "has more than 10000 values"),
        (["seed=range(0,1,0)"], "has more than 10000 values"),
        (["seed=range(200)", "model.bits=range(1,201)"], "may have 10000 jobs, this one has 40000"),
        (["hydra.sweeper=-1"], "hydra.sweeper must have a _target_"),
        (["hydra.launcher=3"], "hydra.launcher must have a _target_"),
    ],
    ids=lambda v: str(v)[:50],
)
def test_a_mistake_in_a_sweep_is_named(arguments: list[str], expected: str) -> None:
    from stelab.engine.sweepers.plan import plan

    with pytest.raises(InputError) as error:
        plan("train", arguments, multirun=True, config_dir=None)
    assert expected in str(error.value)


def run(*arguments: str) -> object:
    """Run a command line in this process, of which nothing stays behind; return its exit code."""

    def state() -> list[object]:
        return [sys.argv, GlobalHydra.instance().hydra, [*logging.getLogger().handlers]]

    before = state()
    try:
        main(arguments)
    except SystemExit as stop:
        return stop.code
    finally:
        assert state() == before
    return 0


def test_a_group_that_a_command_does_not_have(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("compare", "estimator=identity") == 2
    assert capsys.readouterr().err.startswith("stelab: estimator is not a key here (there are: ")


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--hlep"], "--hlep is not a flag; did you mean '--help'?"),
        (["--resolve"], "--resolve changes what --cfg shows"),
        (["--package", "seed"], "--package changes what --cfg shows"),
        (["--cfg", "job", "-m"], "not allowed with argument"),
        (["--cfg", "jb"], "invalid choice: 'jb'"),
        (["--cfg", "job", "--package", "optimiser"], "did you mean 'optimizer'?"),
        (["--config-name", "status"], "--config-name is not a flag"),
        (["--experimental-rerun", "x"], "--experimental-rerun is not a flag"),
        (["--info", "nothing"], "invalid choice: 'nothing'"),
        (["--config-dir"], "expected one argument"),
        (["--help", "seeed=1"], "seeed is not a key here; did you mean 'seed'?"),
        (["-sc", "install=nosh"], "No completion plugin for 'nosh' found"),
    ],
    ids=lambda v: str(v)[:50],
)
def test_flags_that_are_wrong_or_change_nothing_start_nothing(
    arguments: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("train", *arguments) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.startswith("stelab: ") and expected in output.err
    assert len(output.err.splitlines()) == 1


def test_flags_stand_anywhere(capsys: pytest.CaptureFixture[str]) -> None:
    assert run("train", "seed=3", "--cfg", "job", "study=s", "--package", "seed") == 0
    assert capsys.readouterr().out == "3\n"


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["trainer.accelerator=tpu"], "trainer refuses its arguments: "),
        (["trainer.devices=2"], "use trainer=ddp"),
        (["trainer.gradient_clip_val=1", "trainer.precision=bf16-mixed"], "optimizer.fused=false"),
        (["logger.csv.path="], "logger.csv.path "),
        (["logger.csv.path=."], "must be a file to write, but is a folder"),
        (["paths.outputs=/dev/null"], "/dev/null must be a folder to write to"),
        (["study=" + "x" * 300], "study must have at most 100 bytes"),
        (["paths.outputs=" + "x" * 300], "File name too long"),
        (["~logger.csv._target_"], "logger.csv must have a _target_"),
        (["loss._target_=math.sqrt", "~loss.reduction"], "math.sqrt refuses its arguments: "),
    ],
    ids=lambda v: str(v)[:50],
)
def test_what_would_fail_later_is_refused_before_the_start(
    overrides: list[str],
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run("train", "debug=fast", "model=mlp", *overrides) == 2
    error = capsys.readouterr().err
    assert error.startswith("stelab: ") and expected in error
    assert not list(tmp_path.iterdir())


def test_an_exception_that_nobody_foresaw_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(cfg: object) -> None:
        raise KeyError("no such", "\x1b")

    monkeypatch.setattr("stelab.apps.status.start", fail)
    assert run("status") == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("stelab: KeyError: ")
    assert line.endswith("(HYDRA_FULL_ERROR=1 shows the traceback)")
    monkeypatch.setenv("HYDRA_FULL_ERROR", "1")
    assert run("status") == 1
    assert "Traceback" in capsys.readouterr().err


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


def test_too_little_memory_is_told_in_a_line() -> None:
    with pytest.raises(MemoryError) as error:
        np.zeros(2**60, np.uint8)
    assert described(error.value).startswith(
        "there is not enough memory: Unable to allocate 1.00 E"
    )
