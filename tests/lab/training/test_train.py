"""A run: what it writes, what it repeats, what it records, on real digits."""

from __future__ import annotations

import gc
import importlib
import io
import json
import logging
import math
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from pytorch_lightning import Trainer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

import stelab
from conftest import train
from stelab.engine.comparison import compare
from stelab.engine.errors import InputError
from stelab.engine.studies import Run, read_run
from stelab.engine.studies.curves import read_curves
from stelab.engine.studies.lock import locked
from stelab.engine.studies.tables import load
from stelab.lab.models import Autoencoder
from stelab.lab.tasks.losses import SquaredError
from stelab.lab.training.finite import NonFiniteError
from stelab.lab.training.monitors import CodeMonitor
from stelab.lab.training.progress import ProgressFile
from stelab.lab.training.run import OtherProcessFailed
from waiting import wait_until

METRICS = {
    *("train/loss", "train/mse", "val/loss", "val/mse", "test/loss", "test/mse"),
    *("code/mean", "code/dead_bits", "code/entropy", "code/flip_ratio"),
    *("estimator/grad_norm", "estimator/clip_fraction", "estimator/saturation"),
    *("estimator/zero_grad_fraction", "time/images_per_s"),
}


def table(run: Run) -> bytes:
    return (run.folder / "metrics.csv").read_bytes()


@pytest.fixture(scope="module")
def two_epochs(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(tmp_path_factory.mktemp("outputs"), "trainer.max_epochs=2")


STOP = (
    "+callbacks.stop._target_=pytorch_lightning.callbacks.EarlyStopping",
    "+callbacks.stop.monitor=val/loss",
    "+callbacks.stop.patience=1",
    "+callbacks.stop.min_delta=1000",  # nothing is an improvement
)


def test_a_run_that_stopped_early_says_so_and_is_compared(tmp_path: Path) -> None:
    stopped = train(tmp_path, "trainer.max_epochs=9", *STOP)
    assert (stopped.record["epochs"], len(table(stopped).splitlines())) == (2, 1 + 2)
    other = train(tmp_path, "trainer.max_epochs=3", "seed=1")
    assert other.record["epochs"] == 3
    study = load(tmp_path / "debug")
    assert study.left_out.empty
    assert sorted(study.finished["epochs"]) == [2, 3]
    lines = table(stopped).splitlines(keepends=True)
    (stopped.folder / "metrics.csv").write_bytes(b"".join(lines[:-1]))
    (reason,) = load(tmp_path / "debug").left_out["reason"]
    assert reason == "metrics.csv: it has 1 epochs, but 2 were trained"
    record = json.loads((stopped.folder / "run.json").read_text())
    del record["epochs"]  # as of before: it had to take all of them
    (stopped.folder / "run.json").write_text(json.dumps(record))
    (reason,) = load(tmp_path / "debug").left_out["reason"]
    assert reason == "metrics.csv: it has 1 epochs, but 9 were trained"


def test_what_computed_a_run_is_recorded_as_it_was(tmp_path: Path) -> None:
    machine = train(tmp_path).record["machine"]
    assert machine["device"] == "cpu"
    assert machine["float32_matmul_precision"] == "highest"
    assert (machine["matmul_allow_tf32"], machine["cudnn_allow_tf32"]) == (False, False)
    machine = train(tmp_path, "seed=1", "trainer.tf32=true").record["machine"]
    assert machine["float32_matmul_precision"] == "high"
    assert (machine["matmul_allow_tf32"], machine["cudnn_allow_tf32"]) == (True, True)
    (note,) = (n for n in compare(load(tmp_path / "debug")).notes if "TF32" in n)
    assert "cudnn_allow_tf32=true (1 runs)" in note


class Terminal(io.StringIO):
    """A screen."""

    def isatty(self) -> bool:
        """It is one."""
        return True


def test_an_error_is_left_a_line_below_the_bar(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = Terminal()
    monkeypatch.setattr("sys.stdout", screen)
    with pytest.raises(NonFiniteError):
        train(tmp_path, "optimizer=sgd", "optimizer.lr=1e38", "data.batch_size=16")
    assert "step/s" in screen.getvalue() or "/8 [" in screen.getvalue()
    assert screen.getvalue().endswith("\n")


def test_the_bar_and_progress_tell_losses_and_the_time_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found: list[dict[str, Any]] = []

    class Spy(ProgressFile):
        def watches(self, trainer: Trainer, index: int) -> bool:
            return True

        def on_train_batch_end(self, *arguments: Any) -> None:
            self.written = float("-inf")  # do not wait for a second to be over
            self.next_step = 0
            super().on_train_batch_end(*arguments)
            found.append(json.loads(self.folder.progress.read_text()))

    screen = Terminal()
    monkeypatch.setattr("sys.stdout", screen)
    monkeypatch.setattr("stelab.lab.training.run.ProgressFile", Spy)
    run = train(tmp_path, "trainer.max_epochs=2")
    steps = found[0]["steps"]
    assert [each["step"] for each in found] == [*range(1, steps + 1)]
    assert found[-1]["left"] == 0 < found[0]["left"]
    assert set(found[0]["losses"]) == {"train/loss"}
    assert set(found[-1]["losses"]) == {"train/loss", "val/loss"}
    last = screen.getvalue().split("\r")[-1]
    assert "epoch 2 of 2: 100%" in last and f"{steps}/{steps} [" in last
    assert "train/loss=" in last and f"val/loss={run.metrics['val/loss']:.4g}" in last


def test_the_folder_holds_what_it_should(two_epochs: Run) -> None:
    folder = two_epochs.folder
    assert two_epochs.status == "finished"
    assert {path.name for path in folder.iterdir()} == {
        *("config.yaml", "run.json", "metrics.csv", "tb", "checkpoints", "figures")
    }
    assert {p.name for p in (folder / "checkpoints").iterdir()} == {"last.ckpt", "best.ckpt"}
    for name in ("reconstructions.png", "loss.png"):
        content = (folder / "figures" / name).read_bytes()
        assert content.startswith(b"\x89PNG")
        assert len(content) > 5_000


def test_metric_names_are_the_same_everywhere(two_epochs: Run) -> None:
    assert set(two_epochs.metrics) == METRICS
    assert set(read_curves(two_epochs.folder / "metrics.csv", epochs=2)) == {
        "epoch",
        "step",
        *(name for name in METRICS if not name.startswith("time/")),
    }
    tags: set[str] = set()
    for file in (two_epochs.folder / "tb").glob("events*"):
        tags |= set(EventAccumulator(str(file)).Reload().Tags()["scalars"])
    assert tags - {"epoch", "train/loss_step", "hp_metric"} == METRICS


def test_csv_has_one_row_an_epoch(two_epochs: Run) -> None:
    curves = read_curves(two_epochs.folder / "metrics.csv", epochs=2)
    assert list(curves["step"]) == [2, 4]  # 128 images in batches of 64
    assert not any(map(math.isnan, curves["train/loss"]))
    assert [math.isnan(value) for value in curves["code/flip_ratio"]] == [True, False]
    assert [math.isnan(value) for value in curves["test/mse"]] == [True, False]
    assert curves["test/mse"][1] == two_epochs.metrics["test/mse"]
    assert curves["train/mse"] == curves["train/loss"]


def test_run_json_says_what_ran_where(two_epochs: Run) -> None:
    record = json.loads((two_epochs.folder / "run.json").read_text())
    assert record["fingerprint"].startswith(two_epochs.name.rpartition("-")[2])
    assert record["versions"]["torch"] == torch.__version__.partition("+")[0]
    assert record["machine"]["threads"] == 1  # the tests', whatever this machine has
    assert record["timings"]["seconds"] > 0
    assert record["error"] is None
    assert set(record["git"] or {"commit": "", "dirty": ""}) == {"commit", "dirty"}


def test_metrics_are_those_of_the_last_checkpoint_in_eval_mode(two_epochs: Run) -> None:
    from stelab.lab.training.restore import evaluate

    metrics = evaluate(two_epochs, checkpoint="last", split="test")
    assert metrics["test/mse"] == pytest.approx(two_epochs.metrics["test/mse"], abs=1e-7)


def test_checkpoints_hold_plain_values_only(two_epochs: Run) -> None:
    for name in ("last", "best"):
        path = two_epochs.folder / "checkpoints" / f"{name}.ckpt"
        assert torch.load(path, weights_only=True)["global_step"] == 4


def test_code_statistics_are_what_they_say(two_epochs: Run) -> None:
    from stelab.lab.training.restore import load_data, restore

    module = restore(two_epochs, checkpoint="last")
    with torch.no_grad():
        bits = module.model.encode(load_data(two_epochs).images("val"))
    p = bits.double().mean(0)
    entropy = torch.special.entr(p) + torch.special.entr(1 - p)
    metrics = two_epochs.metrics
    assert metrics["code/mean"] == pytest.approx(p.mean().item(), abs=1e-6)
    assert metrics["code/dead_bits"] == ((p == 0) | (p == 1)).double().mean()
    expected = entropy.sum().item() / torch.log(torch.tensor(2.0)).item()
    assert metrics["code/entropy"] == pytest.approx(expected, rel=1e-5)
    assert 0 < metrics["code/flip_ratio"] < 1


def test_an_older_runs_monitor_has_watched_the_first_layer_alone() -> None:
    bits = torch.tensor([[True, False]])
    for previous, expected in ((bits, {"code/": bits}), (None, {})):
        monitor = CodeMonitor()
        monitor.load_state_dict({"previous": previous, "warned": True})
        assert monitor.state_dict() == {"previous": expected, "warned": True}


def test_same_seed_same_numbers_and_zero_is_a_seed(tmp_path: Path) -> None:
    torch.manual_seed(7)
    first = train(tmp_path / "a", "seed=0")
    torch.manual_seed(8)
    second = train(tmp_path / "b", "seed=0")
    other = train(tmp_path / "c", "seed=1")
    assert table(first) == table(second)
    assert table(first) != table(other)
    assert first.name == second.name != other.name


def test_numbers_do_not_depend_on_the_jobs_before(tmp_path: Path) -> None:
    jobs = ["estimator=identity", "estimator=none", "loss.reduction=sum"]
    forth = [table(train(tmp_path / "forth", job)) for job in jobs]
    back = [table(train(tmp_path / "back", job)) for job in reversed(jobs)]
    assert forth == back[::-1]


def test_hardtanh_clip_is_identity_until_the_loss_is_summed(tmp_path: Path) -> None:
    mean = {e: train(tmp_path, f"estimator={e}") for e in ("identity", "hardtanh_clip")}
    assert table(mean["identity"]) == table(mean["hardtanh_clip"])
    assert mean["hardtanh_clip"].metrics["estimator/clip_fraction"] == 0

    summed = {
        e: train(tmp_path, f"estimator={e}", "loss.reduction=sum")
        for e in ("identity", "hardtanh_clip")
    }
    assert summed["hardtanh_clip"].metrics["estimator/clip_fraction"] > 0.1
    assert summed["identity"].metrics["estimator/clip_fraction"] == 0
    assert summed["identity"].metrics["test/mse"] != summed["hardtanh_clip"].metrics["test/mse"]
    # train/loss is torch's sum over the batch, train/mse stays comparable.
    metrics = summed["identity"].metrics
    assert metrics["train/loss"] == pytest.approx(64 * 784 * metrics["train/mse"], rel=1e-4)


def test_none_trains_the_decoder_alone(tmp_path: Path) -> None:
    from stelab.lab.training.building import build_module
    from stelab.lab.training.isolation import isolated
    from stelab.lab.training.restore import restore

    run = train(tmp_path, "estimator=none", "trainer.max_epochs=2")
    assert run.metrics["estimator/zero_grad_fraction"] == 1
    cfg = OmegaConf.create(run.config)
    with isolated(cfg.seed, threads=1):
        fresh = build_module(cfg).model
    trained = restore(run, checkpoint="last").model
    assert isinstance(fresh, Autoencoder) and isinstance(trained, Autoencoder)
    for name, before in fresh.encoder.named_parameters():
        assert torch.equal(before, trained.encoder.get_parameter(name)), name
    moved = [
        not torch.equal(before, trained.decoder.get_parameter(name))
        for name, before in fresh.decoder.named_parameters()
    ]
    assert all(moved)


def test_a_learned_threshold_moves(tmp_path: Path) -> None:
    from stelab.lab.training.restore import restore

    def theta(norm: str) -> torch.Tensor:
        run = train(tmp_path, "threshold=learned", "threshold.init=0.1", f"model.norm={norm}")
        moved = restore(run, checkpoint="last").model.get_parameter("binarizer.threshold.theta")
        assert moved.shape == (512,)
        return (moved - 0.1).abs()

    assert theta("group").min() > 1e-5
    # Batch norm behind the bits takes their shift out: the gradients of a batch sum to 0.
    assert theta("batch").max() < 1e-4


def test_a_finished_run_is_not_run_again(tmp_path: Path) -> None:
    first = train(tmp_path)
    stamp = (first.folder / "run.json").stat().st_mtime_ns
    again = train(tmp_path)
    assert again == first
    assert (first.folder / "run.json").stat().st_mtime_ns == stamp
    train(tmp_path, "rerun=true")
    assert (first.folder / "run.json").stat().st_mtime_ns > stamp


OVERTAKEN = """
import stelab
from stelab.lab.data import MNIST5k

meanwhile = []

class Overtaken(MNIST5k):
    def prepare_data(self):
        if meanwhile:
            meanwhile.pop()()
"""


def test_a_run_that_another_process_finished_meanwhile_is_not_continued(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "overtaken.py").write_text(OVERTAKEN)
    monkeypatch.syspath_prepend(tmp_path)
    overtaken = importlib.import_module("overtaken")

    # Another one trains the run while this one loads its data, before it asks for the lock.
    overtaken.meanwhile.append(lambda: train(tmp_path, "data._target_=overtaken.Overtaken"))
    run = train(tmp_path, "data._target_=overtaken.Overtaken")
    assert len(run.record["timings"]["attempts"]) == 1


@pytest.mark.parametrize("status", ["finished", "failed"])
def test_what_another_process_makes_of_a_run_is_waited_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, status: str
) -> None:
    made = train(tmp_path)
    (made.folder / "run.json").write_text(json.dumps({**made.record, "status": "running"}))
    held = threading.Event()

    def make() -> None:
        with locked(made.folder, on_loss=lambda: None):
            held.set()
            wait_until(lambda: "is being trained by" in caplog.text)
            record = {**made.record, "status": status, "error": "it broke"}
            (made.folder / "run.json").write_text(json.dumps(record))

    other = threading.Thread(target=make, daemon=True)
    other.start()
    held.wait()
    with caplog.at_level(logging.INFO):
        if status == "failed":
            with pytest.raises(OtherProcessFailed, match="failed in another process: it broke$"):
                train(tmp_path)
        else:
            assert train(tmp_path).metrics == made.metrics
    other.join()
    assert len(json.loads((made.folder / "run.json").read_text())["timings"]["attempts"]) == 1


def test_what_a_run_left_without_a_checkpoint_is_replaced(tmp_path: Path) -> None:
    first = train(tmp_path)
    record = {**first.record, "status": "running", "metrics": {}}
    (first.folder / "run.json").write_text(json.dumps(record))
    for path in (first.folder / "checkpoints").iterdir():
        path.unlink()
    (first.folder / "tb" / "leftover").touch()
    (first.folder / "notes.txt").touch()
    again = train(tmp_path)
    assert again.status == "finished"
    assert not (again.folder / "tb" / "leftover").exists()
    assert (again.folder / "notes.txt").exists()  # somebody's, not the run's
    assert len(again.record["timings"]["attempts"]) == 1
    assert len(list((first.folder / "tb").glob("events*"))) == 2  # fit's and test's


BROKEN_LOSS = """
from stelab.lab.training import SquaredError

class Broken(SquaredError):
    calls = 0
    def forward(self, reconstruction, images):
        self.calls += 1
        if self.calls == 2:
            raise RuntimeError("the loss broke")
        return super().forward(reconstruction, images)
"""


def test_a_failure_is_recorded_with_its_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_loss.py").write_text(BROKEN_LOSS)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(RuntimeError, match="the loss broke"):
        train(tmp_path, "loss._target_=broken_loss.Broken")
    (folder,) = (tmp_path / "debug").iterdir()
    run = read_run(folder)
    assert run.status == "failed"
    assert run.reason == "RuntimeError: the loss broke"
    assert "Traceback" in run.record["error"]


def test_a_constant_code_is_said(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match=r"every bit is 1: the pre-activations lie in \[0, "):
        run = train(tmp_path, "model.relu_before_bits=true", "threshold.value=-0.5")
    assert run.metrics["code/dead_bits"] == 1
    with pytest.warns(UserWarning, match=r"every bit is 0: .*threshold.value"):
        train(tmp_path, "threshold.value=1000")


@pytest.mark.parametrize("precision", ["bf16-mixed", "bf16-true", "64-true"])
def test_precision(tmp_path: Path, precision: str) -> None:
    exact = train(tmp_path, "trainer.max_epochs=3")
    run = train(tmp_path, f"trainer.precision={precision}", "trainer.max_epochs=3")
    assert run.metrics["test/mse"] == pytest.approx(exact.metrics["test/mse"], rel=0.2)


def test_scheduler_steps_once_an_epoch(tmp_path: Path) -> None:
    run = train(tmp_path, "scheduler=cosine", "trainer.max_epochs=2")
    state = torch.load(run.folder / "checkpoints" / "last.ckpt", weights_only=True)
    assert state["lr_schedulers"][0]["last_epoch"] == 2
    assert state["optimizer_states"][0]["param_groups"][0]["lr"] == pytest.approx(0, abs=1e-9)


LEAVES = """
from pathlib import Path

from pytorch_lightning import Callback
from torch import distributed


class Leaves(Callback):
    def __init__(self, *, folder: str):
        self.folder = Path(folder)

    def teardown(self, trainer, pl_module, stage):
        state = "in" if distributed.is_initialized() else "out"
        (self.folder / f"{stage.value}-{trainer.global_rank}-{state}").touch()
"""


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A run of two processes, which note in a folder beside it whether they have left."""
    folder = tmp_path_factory.mktemp("two")
    (folder / "leaves.py").write_text(LEAVES)
    (folder / "seen").mkdir()
    with pytest.MonkeyPatch.context() as patched:
        patched.syspath_prepend(folder)
        return train(
            *(folder, "model.norm=none", "data.batch_size=32"),
            *("trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu"),
            "+callbacks.leaves._target_=leaves.Leaves",
            f"+callbacks.leaves.folder={folder}/seen",
        )


def test_two_processes_take_the_steps_of_one(tmp_path: Path, two_processes: Run) -> None:
    alone, shared = train(tmp_path, "model.norm=none", "data.batch_size=32"), two_processes
    for name in ("train/loss", "val/mse", "test/mse", "code/mean", "estimator/saturation"):
        assert shared.metrics[name] == pytest.approx(alone.metrics[name], abs=1e-4), name


def test_processes_leave_their_group_before_they_end(two_processes: Run) -> None:
    # Else a thread of gloo may free its last tensor when Python is gone: the process aborts.
    folder = two_processes.folder.parents[1] / "seen"
    seen = {path.name for path in folder.iterdir()}
    assert seen == {f"{stage}-{rank}-out" for stage in ("fit", "test") for rank in (0, 1)}


def test_train_refuses_a_changed_configuration(tmp_path: Path) -> None:
    cfg = stelab.compose("debug=fast", f"paths.outputs={tmp_path / 'outputs'}")
    cfg.optimizer.lr = -1.0
    with pytest.raises(InputError, match="optimizer.lr must be greater than 0"):
        stelab.train(cfg)
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize("choice", ["threshold=running_median", "estimator=gumbel_st"])
def test_watching_the_code_changes_nothing(tmp_path: Path, choice: str) -> None:
    watched = train(tmp_path / "watched", choice)
    alone = train(tmp_path / "alone", choice, "~callbacks.code", "~callbacks.gradient")
    for name in ("train/loss", "val/loss", "test/loss"):
        assert watched.metrics[name] == alone.metrics[name]


def test_a_schedule_ends_at_its_end(tmp_path: Path) -> None:
    run = train(tmp_path, "estimator=ede", "threshold=annealed", "trainer.max_epochs=2")
    checkpoint = torch.load(run.folder / "checkpoints" / "last.ckpt", weights_only=True)
    progress = [v for k, v in checkpoint["state_dict"].items() if k.endswith("progress")]
    assert [p.item() for p in progress] == [1, 1]


def test_what_lowers_the_variance_stays_out_of_the_network(tmp_path: Path) -> None:
    from stelab.lab.training.restore import restore

    run = train(tmp_path, "estimator=relax", "model.bits=8", "model.norm=none")
    checkpoint = torch.load(run.folder / "checkpoints" / "last.ckpt", weights_only=True)
    prefix = "model.binarizer.estimator."
    assert not [name for name in checkpoint["state_dict"] if name.startswith(prefix)]
    learned = checkpoint["variance"]["parameters"]
    assert f"{prefix}log_temperature" in learned
    in_optimizer = sum(len(g["params"]) for g in checkpoint["optimizer_states"][0]["param_groups"])
    module = restore(run, checkpoint="last")
    assert in_optimizer == sum(p.requires_grad for p in module.parameters())
    assert not any(p.requires_grad for p in module.model.binarizer.parameters())
    for name, value in learned.items():
        assert torch.equal(module.get_parameter(name), value)
    before = math.log(run.config["estimator"]["temperature"])
    assert learned[f"{prefix}log_temperature"].item() != pytest.approx(before, abs=1e-6)
    assert checkpoint["variance"]["optimizers"][0]["state"]  # it stepped


def test_an_enumerating_estimator_keeps_one_reconstruction(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alive: list[int] = []
    forward = SquaredError.forward

    def watched(self: SquaredError, reconstruction: Tensor, images: Tensor) -> Tensor:
        alive.append(
            len({o.data_ptr() for o in gc.get_objects() if is_image(o, like=reconstruction)})
        )
        return forward(self, reconstruction, images)

    monkeypatch.setattr(SquaredError, "forward", watched)
    train(tmp_path, "estimator=exact", "model.bits=4", "model.norm=none", "data.limit=64")
    assert len(alive) > 17
    assert max(alive) < 8  # images, the step's first reconstruction, the present one


def is_image(found: object, *, like: Tensor) -> bool:
    return type(found) is Tensor and found.shape == like.shape and found.dtype == like.dtype


def test_batch_norm_behind_a_multi_evaluation_estimator_is_told(tmp_path: Path) -> None:
    with pytest.warns(UserWarning, match="own bits only, but there is batch norm behind them"):
        train(tmp_path, "estimator=disarm", "model.norm=batch")


def test_the_bits_of_a_step_depend_on_the_seed_and_the_step(tmp_path: Path) -> None:
    losses = [
        train(tmp_path / str(i), "estimator=reinmax", f"seed={seed}").metrics["train/loss"]
        for i, seed in enumerate((0, 0, 1))
    ]
    assert losses[0] == losses[1] != losses[2]
