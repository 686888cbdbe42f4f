"""Each task trained on real digits: logged, judged by its headline, continued, read again."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import stelab
from conftest import Start
from resuming import assert_same, stop_at
from stelab.engine.comparison import compare
from stelab.engine.errors import InputError
from stelab.engine.studies import Run, load, read_run
from stelab.lab.data.datamodule import Batch
from stelab.lab.models.classifiers import Classifier
from stelab.lab.models.vae import HierarchicalVAE
from stelab.lab.training import build_module
from stelab.lab.training.codes import decode, encode
from stelab.lab.training.module import TaskModule
from stelab.lab.training.restore import evaluate, load_data, restore
from stelab.lab.training.static_step import Taken
from stelab.philox import Philox
from waiting import wait_until

TASKS = {
    "reconstruct": "model=mlp",
    "classify": "task=classify estimator=clipped_input",
    "classify by convolutions": "task=classify model=binary_conv estimator=reinmax model.layers=2",
    "classify by nested estimates": "task=classify model.layers=2 estimator=disarm",
    "elbo": "task=elbo data=binarized_mnist5k model.bits=12 task.bounds=[3]",
    "elbo of two layers": "task=elbo data=binarized_mnist5k model.layers=2 estimator=loo",
    "elbo of one-hots": "task=elbo model=vae_categorical task.bounds=[]",
    "tokenize by bits": "task=tokenize model.hidden=8",
    "tokenize by levels": "task=tokenize model.hidden=8 quantizer=fsq estimator=hardtanh_clip",
}
# Of an image, in a file: `model.bits` is 4, or 12 where TASKS says so.
CODES = {
    "reconstruct": ("uint8", (1,), "1 bytes each"),
    "elbo": ("uint8", (2,), "2 bytes each"),
    "elbo of two layers": ("uint8", (1,), "1 bytes each"),
    "elbo of one-hots": ("uint8", (4,), "4 numbers below 8 each (uint8)"),
    "tokenize by bits": ("uint8", (7, 7), "7x7 numbers below 16 each (uint8)"),
    "tokenize by levels": ("uint16", (7, 7), "7x7 numbers below 1000 each (uint16)"),
}
LAYERS = {
    "classify": 3,
    "classify by convolutions": 2,
    "classify by nested estimates": 2,
    "elbo of two layers": 2,
}
METRICS = {
    "reconstruct": ("mse", "lower"),
    "classify": ("accuracy", "higher"),
    "elbo": ("loss", "lower"),
    "tokenize": ("mse", "lower"),
}
pytestmark = pytest.mark.filterwarnings("ignore:DisARM assumes", "ignore:every bit is constant")


def train(outputs: Path, task: str, *overrides: str) -> Run:
    bits = [] if "one-hots" in task or "bits=" in TASKS[task] else ["model.bits=4"]
    small = ("data.limit=128", "trainer.max_epochs=2", "trainer.accelerator=cpu", "threads=1")
    choice = [word for word in TASKS[task].split() if not word.startswith("data=")]
    data = ["data=mnist5k", *(w for w in TASKS[task].split() if w.startswith("data="))][-1]
    cfg = stelab.compose(
        *choice, data, *bits, *small, "study=tasks", f"paths.outputs={outputs}", *overrides
    )
    return stelab.train(cfg)


@pytest.mark.parametrize("task", TASKS)
def test_it_is_recorded_continued_and_read_again(task: str, tmp_path: Path) -> None:
    whole = train(tmp_path / "whole", task)
    metric, better = METRICS[task.split()[0]]
    assert whole.record["task"] == {"metric": metric, "better": better}
    for split in ("train", "val", "test"):
        assert {f"{split}/loss", f"{split}/{metric}"} <= whole.metrics.keys()

    again = evaluate(whole, checkpoint="last", split="test")
    assert again == pytest.approx({name: whole.metrics[name] for name in again}, rel=1e-5)
    assert_codes_round_trip(whole, tmp_path, CODES.get(task))
    assert_layers_are_shown(whole, LAYERS.get(task, 1))

    with pytest.MonkeyPatch.context() as patched, pytest.raises(SystemExit):
        stop_at(patched, 3)  # in the second epoch
        train(tmp_path / "parts", task)
    run = train(tmp_path / "parts", task)
    assert [a["from_step"] for a in run.record["timings"]["attempts"]] == [0, 3]
    assert_same(run, whole)


def assert_codes_round_trip(
    run: Run, folder: Path, expected: tuple[str, tuple[int, ...], str] | None
) -> None:
    path, pictures = folder / "codes.npy", folder / "pictures"
    options: dict[str, Any] = {"checkpoint": "last", "overwrite": False}

    def write() -> tuple[Any, Any]:
        return encode(run, split="test", images=None, data=None, output=str(path), **options)

    def read() -> int:
        return decode(run, codes=str(path), output=str(pictures), **options)

    if expected is None:
        with pytest.raises(InputError, match="Classify has no codes that stand for images"):
            write()
        return
    codes, stored = write()
    assert (codes.dtype.name, codes.shape[1:], str(stored)) == expected
    assert np.array_equal(np.load(path), codes)
    module, data = restore(run, checkpoint="last"), load_data(run)
    with torch.no_grad():
        code = module.model.encode(data.images("test"))
        assert torch.equal(stored.unpack(np.load(path)), code)
        made = data.format.denormalize(module.task.image(module.model.decode(code)))
    assert read() == len(code)
    for picture, pixels in zip(sorted(pictures.iterdir()), made.numpy(), strict=True):
        # In batches of another size, sums may round otherwise.
        assert np.abs(np.array(Image.open(picture)).astype(int) - pixels[0]).max() <= 1
    assert len(np.unique(made)) > 2
    if "numbers" in expected[2]:
        np.save(path, np.full_like(codes, stored.count))
        shutil.rmtree(pictures)
        with pytest.raises(InputError, match=f"numbers must be below {stored.count}, got"):
            read()


def assert_layers_are_shown(run: Run, layers: int) -> None:
    module, images = restore(run, checkpoint="last"), load_data(run).images("val")
    prefixes = ["code/", *(f"code/layer{number}/" for number in range(2, layers + 1))]
    described = {
        f"{p}{m}" for p in prefixes for m in ("mean", "dead_bits", "entropy", "flip_ratio")
    }
    logged = {name for name in run.metrics if name.startswith("code/")}
    assert logged - {"code/usage", "code/perplexity"} == described
    with torch.no_grad():
        if isinstance(module.model, Classifier):
            codes = module.model.chain(images)
        elif isinstance(module.model, HierarchicalVAE):
            lower = module.model.encode(images)
            codes = lower, module.model.top_binarizer(module.model.top_encoder(2 * lower - 1))
        else:
            codes = (module.model.encode(images),)
    for prefix, code in zip(prefixes, codes, strict=True):
        ones = (code > 0).double()
        assert run.metrics[f"{prefix}mean"] == pytest.approx(ones.mean().item(), abs=1e-6)
        p = ones.flatten(1).mean(0)
        entropy = (torch.special.entr(p) + torch.special.entr(1 - p)).sum().item() / math.log(2)
        assert run.metrics[f"{prefix}entropy"] == pytest.approx(entropy, rel=1e-5, abs=1e-6)


def test_the_use_of_a_codebook_is_logged_in_full_in_bfloat16(tmp_path: Path) -> None:
    run = train(tmp_path, "tokenize by bits", "trainer.precision=bf16-mixed", "model.bits=8")
    value = torch.tensor(run.metrics["code/perplexity"], dtype=torch.float64)
    assert 1 < value < 256 and value.bfloat16().double() != value
    assert run.metrics["code/usage"] * 256 == pytest.approx(round(run.metrics["code/usage"] * 256))


@pytest.mark.parametrize("task", ["classify", "elbo of one-hots", "tokenize by bits"])
def test_a_killed_run_continues(task: str, start: Start, tmp_path: Path) -> None:
    choice = (*TASKS[task].split(), "debug=fast", "trainer.max_epochs=30", "study=tasks")
    command = ("train", *choice, "checkpoint.every_n_steps=1")
    whole = start(*command, "paths.outputs=whole")
    killed = start(*command, "paths.outputs=parts")
    wait_until(lambda: bool(list(tmp_path.glob("parts/tasks/*/checkpoints/last.ckpt"))), every=0.01)
    killed.kill()
    killed.wait()
    again = start(*command, "paths.outputs=parts")
    assert (whole.wait(), again.wait()) == (0, 0)
    (run,) = (read_run(folder) for folder in (tmp_path / "parts" / "tasks").iterdir())
    assert run.record["timings"]["attempts"][-1]["from_step"] > 0
    assert_same(run, read_run(tmp_path / "whole" / "tasks" / run.name))


def test_a_study_is_compared_by_its_tasks_headline(tmp_path: Path) -> None:
    for estimator in ("clipped_input", "none"):
        train(tmp_path, "classify", f"estimator={estimator}")
    comparison = compare(load(tmp_path / "tasks"))
    assert comparison.metrics == ("test/accuracy",)
    assert comparison.better == "higher"
    means = comparison.rows("test/accuracy")["mean"].tolist()
    assert means == sorted(means, reverse=True)


def test_runs_of_two_tasks_share_no_headline(tmp_path: Path) -> None:
    for task in ("classify", "reconstruct"):
        train(tmp_path, task)
    with pytest.raises(InputError, match="runs are of several tasks"):
        compare(load(tmp_path / "tasks"))
    assert compare(load(tmp_path / "tasks"), metrics=["test/loss"]).metrics == ("test/loss",)


def test_what_evaluation_draws_is_not_what_training_drew() -> None:
    module = build_module(stelab.compose("task=elbo", "data=mnist5k", "model.bits=4"))
    seen: list[tuple[object, ...]] = []

    def note(*_: object, generator: Philox) -> dict[str, torch.Tensor]:
        seen.append((generator.seed, generator.step, generator.stream))
        return {}

    module.task.evaluate = note  # type: ignore[assignment]
    for split in ("train", "val", "test"):
        for index in range(4):
            module.evaluate(split, {"images": torch.zeros(1)}, index)
    trained = module.random_numbers("training", 0)
    seen += [(trained.seed, step, trained.stream) for step in range(4)]
    assert len(set(seen)) == 16


def test_every_batch_of_accumulated_gradients_draws_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[object, object]] = []
    take = TaskModule.take

    def note(module: TaskModule, batch: Batch, generator: Philox) -> Taken:
        seen.append((generator.step, generator.stream))
        return take(module, batch, generator)

    monkeypatch.setattr(TaskModule, "take", note)
    train(tmp_path, "reconstruct", "trainer.accumulate_grad_batches=2", "estimator=reinmax")
    steps = [step for step, _ in seen]
    assert len(steps) > 2
    assert steps == [index // 2 for index in range(len(steps))]
    assert len(set(seen)) == len(seen)
