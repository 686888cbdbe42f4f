"""What `checkpoint.keep` leaves of a finished run, and what can still be done with it."""

from __future__ import annotations

from pathlib import Path
from shutil import copytree
from typing import Any

import pytest

from conftest import train
from stelab.engine.errors import InputError
from stelab.engine.studies import Run, read_run
from stelab.lab.training.checkpoint_file import read_checkpoint, write_sealed
from stelab.lab.training.codes import encode
from stelab.lab.training.restore import evaluate
from stelab.lab.training.run import retain

# RELAX has parameters, and an optimizer, of its own; the last epoch is not the best.
OVERRIDES = ("estimator=relax", "model.bits=16", "model.norm=none", "trainer.max_epochs=2")


def files(run: Run) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in (run.folder / "checkpoints").glob("*")}


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(tmp_path_factory.mktemp("all"), *OVERRIDES)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(tmp_path_factory.mktemp("weights"), *OVERRIDES, "checkpoint.keep=weights")


def test_weights_do_what_the_whole_does(kept: Run, weights: Run) -> None:
    assert weights.name == kept.name
    assert set(files(weights)) == set(files(kept)) == {"last.ckpt", "best.ckpt"}
    for name, size in files(weights).items():
        path = weights.folder / "checkpoints" / name
        assert size < 0.5 * files(kept)[name]  # Adam holds two numbers a weight
        assert set(read_checkpoint(path)) == {"state_dict", "means", "variance"}
    for checkpoint in ("last", "best"):
        assert evaluate(weights, checkpoint=checkpoint, split="test") == evaluate(
            kept, checkpoint=checkpoint, split="test"
        )
    assert sorted(path.name for path in (weights.folder / "figures").iterdir()) == sorted(
        path.name for path in (kept.folder / "figures").iterdir()
    )


def test_codes_of_weights(kept: Run, weights: Run, tmp_path: Path) -> None:
    where: dict[str, Any] = {"split": "test", "images": None, "data": None, "overwrite": False}
    codes = [
        encode(run, checkpoint="best", output=str(tmp_path / f"{n}.npy"), **where)[0]
        for n, run in enumerate((kept, weights))
    ]
    assert (codes[0] == codes[1]).all()


def test_nothing_is_one_clear_refusal(tmp_path: Path) -> None:
    run = train(tmp_path, *OVERRIDES, "checkpoint.keep=none")
    assert not (run.folder / "checkpoints").exists()
    with pytest.raises(InputError, match=r"last.ckpt does not exist \(checkpoint.keep=none\)$"):
        evaluate(run, checkpoint="last", split="test")
    again = train(tmp_path, *OVERRIDES, "checkpoint.keep=none")
    assert again.record == run.record  # returned, not trained
    once_more = train(tmp_path, *OVERRIDES, "checkpoint.keep=weights", "rerun=true")
    assert once_more.metrics["test/loss"] == run.metrics["test/loss"]
    assert evaluate(once_more, checkpoint="last", split="test")


def test_a_kill_before_they_are_removed_leaves_a_finished_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException): ...

    def killed(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr("stelab.lab.training.run.retain", killed)
        train(tmp_path, *OVERRIDES, "checkpoint.keep=none")
    (folder,) = tmp_path.glob("*/*/checkpoints")
    left = read_run(folder.parent)
    assert left.status == "finished"
    assert train(tmp_path, *OVERRIDES, "checkpoint.keep=none").record == left.record
    assert evaluate(left, checkpoint="last", split="test")


def test_weights_are_nothing_to_continue_from(tmp_path: Path, weights: Run, kept: Run) -> None:
    copytree(weights.folder.parents[1], tmp_path, dirs_exist_ok=True)
    for record in tmp_path.glob("*/*/run.json"):
        record.unlink()
    again = train(tmp_path, *OVERRIDES, "checkpoint.keep=all")
    assert again.record["timings"]["attempts"][0]["from_step"] == 0
    assert again.metrics["test/loss"] == kept.metrics["test/loss"]


def test_one_file_under_two_names_stays_one(tmp_path: Path, kept: Run) -> None:
    write_sealed(read_checkpoint(kept.folder / "checkpoints" / "last.ckpt"), tmp_path / "last.ckpt")
    (tmp_path / "best.ckpt").hardlink_to(tmp_path / "last.ckpt")
    retain("weights", tmp_path)
    assert (tmp_path / "best.ckpt").samefile(tmp_path / "last.ckpt")
    assert read_checkpoint(tmp_path / "best.ckpt")
