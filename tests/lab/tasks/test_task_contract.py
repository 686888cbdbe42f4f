"""What every task of conf/task/ promises; a new YAML file is tested without an edit."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

import stelab
from stelab.engine.config import CONF_DIR
from stelab.engine.errors import InputError
from stelab.lab.data.datamodule import Batch
from stelab.lab.training import TaskModule, build_module
from stelab.lab.training.check import check

NAMES = sorted(path.stem for path in Path(CONF_DIR, "task").glob("*.yaml"))


def built(name: str) -> tuple[TaskModule, Batch]:
    """Return a task with the network that goes with it, and six of its data, if real digits."""
    data = stelab.compose(f"task={name}").names.data
    small = f"{data}5k" if Path(CONF_DIR, "data", f"{data}5k.yaml").exists() else data
    cfg = stelab.compose(f"task={name}", f"data={small}", "data.batch_size=6", "model.bits=4")
    return build_module(cfg), stelab.build(cfg.data).first_batch()


@pytest.mark.parametrize("name", NAMES)
def test_it_evaluates_every_example_and_repeats(name: str) -> None:
    module, batch = built(name)
    task, model = module.eval().task, module.model
    assert task.better in ("lower", "higher")
    with torch.no_grad():
        values = module.evaluate("val", batch, 0)
        again = module.evaluate("val", batch, 0)
        output = model(batch["images"])
        logged = task.metrics(output, batch, task.losses(output, batch))
    assert {"loss", task.metric} <= values.keys()
    assert {"loss", *logged} <= values.keys()
    for measured in (values, logged):
        assert {value.shape for value in measured.values()} <= {(6,)}
    assert all(value.isfinite().all() for value in values.values())
    assert all(torch.equal(values[key], again[key]) for key in values)


@pytest.mark.parametrize("name", NAMES)
def test_its_loss_trains_encoder_and_decoder(name: str) -> None:
    module, batch = built(name)
    task, model = module.task, module.model
    x = model.encoder(batch["images"])
    f = partial(model.losses, outcome=lambda output: task.losses(output, batch), generator=None)
    loss, penalty = model.binarizer.loss(x, f), task.penalty(model, x)
    assert penalty is None or penalty.shape in [(), (6,)]
    (loss if penalty is None else loss + penalty.mean()).backward()
    parameters = [p for p in model.parameters() if p.requires_grad]
    assert all(p.grad is not None and p.grad.isfinite().all() for p in parameters)
    assert any(p.grad.abs().sum() > 0 for p in model.encoder.parameters() if p.grad is not None)


@pytest.mark.parametrize("name", NAMES)
def test_its_pictures_need_images_alone(name: str) -> None:
    module, batch = built(name)
    with torch.no_grad():
        rows = module.eval().task.pictures(module.model, {"images": batch["images"]})
    assert all(row.shape == batch["images"].shape for row in rows.values())


def test_data_that_a_task_cannot_use_is_refused_before_anything_trains(tmp_path: Path) -> None:
    elbo = ("task=elbo", "data=binarized_mnist5k", "model.bits=4")
    grey = ("task=elbo", "data=mnist5k", "model.bits=4")  # in [0, 1], as the task's file says
    scaled = (*grey, "data.mean=0.5", "data.std=0.5")
    with pytest.raises(InputError, match=r"pixels must lie in \[0, 1\], got \[-1, ") as refusal:
        check([stelab.compose(*job) for job in (elbo, grey, scaled)])
    assert "in 1 of 3 jobs, the first: " + " ".join(scaled) in str(refusal.value)

    pixels = np.zeros((20, 28, 28), dtype=np.uint8)
    np.savez(tmp_path / "images.npz", images=pixels, test_images=pixels)
    unlabelled = ("data=npz", f"data.path={tmp_path / 'images.npz'}", "data.val_size=2")
    with pytest.raises(InputError, match="data must have labels, and has images alone"):
        check([stelab.compose("task=classify", *unlabelled, "model.bits=4")])


def test_networks_of_estimators_see_the_whole_grid_of_a_tokenizer() -> None:
    tokenizer = ("task=tokenize", "debug=fast", "model.hidden=8")
    learned = [stelab.compose(*tokenizer, f"estimator={e}") for e in ("relax", "reinforce_learned")]
    assert learned[0].estimator.bits == learned[1].estimator.baseline.bits == 4 * 7 * 7
    check(learned)
    with pytest.raises(InputError, match="bits must be at most 16, got 196"):
        check([stelab.compose(*tokenizer, "estimator=exact")])
    with pytest.raises(InputError, match=r"model.grid must be that of codes, \[7, 7\].*\[8, 7\]"):
        check([stelab.compose(*tokenizer, "estimator=relax", "model.grid=[8,7]")])
