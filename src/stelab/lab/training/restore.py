"""A finished run's network and data, built again and measured, and its weights for another run."""

import math
from collections.abc import Sequence
from pathlib import Path

import torch
from omegaconf import DictConfig
from torch import Tensor, nn

from stelab.arguments import Level, Scale, Sizes, checked
from stelab.engine.config import build
from stelab.engine.errors import InputError, first_line
from stelab.engine.studies.record import Run, RunFolder
from stelab.engine.terminal import visible
from stelab.engine.trust import rebuild, require_trusted
from stelab.lab.data import ImageDataModule, ImageFormat
from stelab.lab.data.datamodule import per_channel
from stelab.lab.models import Network
from stelab.lab.models.network import ESTIMATORS, Layer
from stelab.lab.tasks import Task
from stelab.lab.tasks.base import Split
from stelab.lab.training.checkpoint_file import mismatch, not_finite, read_checkpoint
from stelab.lab.training.figures import draw_run
from stelab.lab.training.module import TaskModule, with_present_keys

_LAYER = "model.binarizer."
_MOST_NUMBERS = 2**22  # of an image


def restore(
    run: Run, *, checkpoint: str, trust: Sequence[str] = (), loss: bool = False
) -> TaskModule:
    """Build the network of a finished run and load its weights, in eval mode, on the CPU.

    It is data of whoever made the run: only what `stelab.engine.trust` lets pass is built, with the
    packages in `trust`, and nothing is allocated that the checkpoint does not hold.
    """
    require_trusted(run, ["model", "task", *(["loss"] if loss else [])], trust)
    path = RunFolder(run.folder).checkpoints / f"{checkpoint}.ckpt"
    settings = run.config.get("checkpoint")
    if not path.exists() and isinstance(settings, dict) and settings.get("keep") == "none":
        raise InputError(f"{path} does not exist (checkpoint.keep=none)")
    content = read_checkpoint(path)
    try:
        # What lowers the estimator's variance is stored separately.
        learned = content.get("variance", {}).get("parameters", {})
        state = {**with_present_keys(content["state_dict"]), **learned}
        if not loss:
            state = {k: v for k, v in state.items() if not k.startswith("task.loss.")}
        with torch.random.fork_rng(devices=[]), torch.device("meta"):
            _require_fit(_build(run, trust, loss=loss), state, size=path.stat().st_size)
        module = _build(run, trust, loss=loss)
        module.on_load_checkpoint(content)
        module.load_state_dict(state)
        _require_images(module.eval(), image_format(run))
    except InputError:
        raise
    # A stranger's content, of any types: what a module raises on it has no one type either.
    except Exception as error:
        raise InputError(f"{path} is of another network: {first_line(error)}") from error
    if name := not_finite(module.state_dict()):
        raise InputError(f"{path} is of no use: {name} is not finite everywhere")
    return module


def _build(run: Run, trust: Sequence[str], *, loss: bool) -> TaskModule:
    """Build the network, the task and its loss, without optimizer, schedule and callbacks."""
    model: Network = rebuild(run, "model", trust=trust)
    criterion = rebuild(run, "loss", trust=trust) if loss else nn.Identity()
    task: Task = rebuild(run, "task", trust=trust, loss=criterion)
    if not isinstance(model, task.network):
        raise InputError(f"{run.folder}: model must be of {task.network.__name__}")
    layer = model.binarizer
    if not (isinstance(layer, Layer) and isinstance(layer.estimator, ESTIMATORS)):
        raise InputError(f"{run.folder}: model.binarizer must be a layer with an estimator")
    return TaskModule(model=model, task=task, optimizer={}, scheduler={}, seed=run.config["seed"])


def _require_fit(module: nn.Module, state: dict[str, Tensor], *, size: int) -> None:
    """Compare a module on the meta device with what was saved, in a file of `size` bytes."""
    if difference := mismatch(state, module.state_dict()):
        raise ValueError(difference)
    # A tensor may be saved with any shape, as one element that is expanded.
    numbers = sum(t.numel() for t in (*module.parameters(), *module.buffers()))
    if numbers > size:
        raise ValueError(f"it is too small to hold {numbers} numbers")


def image_format(run: Run) -> ImageFormat:
    """Return the shape and the normalization of a run's images, as run.json says them.

    Raises:
        InputError: They are not what stelab writes there.
    """
    if "images" not in run.record:  # of before it was written
        return ImageFormat(shape=(1, 28, 28), mean=0.5, std=0.5)
    try:
        form = _as_recorded(**run.record["images"])
    except (TypeError, ValueError) as error:
        reason = f"run.json: images: {first_line(error)}"
        raise InputError(f"{visible(str(run.folder))}: {visible(reason)}") from error
    if math.prod(form.shape) > _MOST_NUMBERS:
        raise InputError(f"{visible(str(run.folder))}: run.json: images of shape {form.shape}")
    return form


@checked
def _as_recorded(*, shape: Sizes, mean: Level, std: Scale) -> ImageFormat:
    channels, height, width = shape
    return ImageFormat((channels, height, width), per_channel(mean), per_channel(std))


def _require_images(module: TaskModule, form: ImageFormat) -> None:
    """Pass one image, to see that all parts fit each other."""
    model, batch = module.model, {"images": torch.zeros(1, *form.shape)}
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        code = model.encode(batch["images"])
        module.task.require_fit(model, batch, code, model.decode(code))


def evaluate(
    run: Run,
    checkpoint: str,
    split: Split,
    data: DictConfig | None = None,
    trust: Sequence[str] = (),
) -> dict[str, float]:
    """Compute ``<split>/loss`` and the task's metrics in eval mode, and draw the run's figures."""
    module = restore(run, checkpoint=checkpoint, trust=trust, loss=True)
    images_of = load_data(run, data, split=split, trust=trust)
    metrics = measure(module, images_of, split)
    for name, value in metrics.items():
        if not math.isfinite(value):  # finite weights may still overflow
            raise InputError(f"{name} is {value} with {checkpoint}.ckpt of {run.folder}")
    draw_run(RunFolder(run.folder), module, images_of, split=split)
    return metrics


@torch.no_grad()
def measure(module: TaskModule, data: ImageDataModule, split: Split) -> dict[str, float]:
    """Return the mean of all that the task measures over a split, by its full name."""
    totals: dict[str, float] = {}
    batches = data.batches(split)
    for index, batch in enumerate(batches):
        values = module.evaluate(split, batch, index)
        weight = len(batch["images"]) / len(data.images(split))
        for name, value in values.items():
            key = f"{split}/{name}"
            totals[key] = totals.get(key, 0.0) + weight * value.mean().item()
    return totals


def load_data(
    run: Run, data: DictConfig | None = None, *, split: str = "test", trust: Sequence[str] = ()
) -> ImageDataModule:
    """Build the dataset of `data`, or a run's own, which is never downloaded, and load a split."""
    if data is not None:
        module: ImageDataModule = build(data)
        module.prepare_data()
        module.images(split)
        if (given := module.format) != (own := image_format(run)):
            raise InputError(
                f"data has images of shape {given.shape}, with data.mean={given.mean} and "
                f"data.std={given.std}, but {run.folder} was trained on {own.shape}, {own.mean} "
                f"and {own.std}: set them so, or give other data"
            )
        return module
    module = rebuild(run, "data", trust=trust)
    module.may_download = False
    try:
        module.prepare_data()
        module.images(split)
    except InputError:
        raise
    except Exception as error:  # a run's arguments may be anything
        reason = f"{type(error).__name__}: {' '.join(visible(str(error)).split())[:300]}"
        raise InputError(f"{run.folder}: data cannot be loaded: {reason}") from error
    return module


def take_weights(module: TaskModule, path: Path) -> None:
    """Give `module` the weights and running statistics of a checkpoint, which is read as data.

    Those of encoder and decoder must fit. What the threshold has learned is taken where both have
    the same; estimators and schedules, which is what runs compare, start anew.
    """

    def of_network(state: dict[str, Tensor]) -> dict[str, Tensor]:
        names = (n for n in state if n.startswith("model.") and not n.startswith(_LAYER))
        return {name: state[name] for name in names}

    current = module.state_dict()
    saved: dict[str, Tensor] = read_checkpoint(path)["state_dict"]
    weights = of_network(saved)
    if difference := mismatch(weights, of_network(current)):
        raise InputError(f"from_checkpoint: {path} does not fit this network: {difference}")
    for name, value in saved.items():
        is_learned = name.startswith(f"{_LAYER}threshold.") and not name.endswith(".progress")
        if is_learned and name in current and current[name].shape == value.shape:
            weights[name] = value
    if infinite := not_finite(weights):
        raise InputError(f"from_checkpoint: {path}: {infinite} is not finite everywhere")
    if not any(value.is_meta for value in current.values()):  # else it was only compared
        module.load_state_dict(weights, strict=False)
