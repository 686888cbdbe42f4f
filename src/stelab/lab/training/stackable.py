"""Which runs can be stacked, by their configurations."""

import json
from typing import Any

from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf

from stelab.engine.project import project
from stelab.lab.data import ImageDataModule
from stelab.lab.tasks.base import binary_layers
from stelab.lab.training.module import TaskModule
from stelab.lab.training.stacked_update import FUSED
from stelab.lab.training.steps import moves_batches, sees_all_steps

_ONLY: dict[str, Any] = {
    "precision": "32-true",
    "accumulate_grad_batches": 1,
    "gradient_clip_val": None,
    "profiler": None,
    "detect_anomaly": False,
}
_UNMASKED = ("data", "trainer", "checkpoint", "callbacks", "logger")  # whose numbers are alike
_ALSO = ("seed", "names", "paths")


def kind(cfg: DictConfig) -> str:
    """Return what runs share that could be stacked: all but numbers and what has no effect.

    Whether they can is known once their networks are built: numbers may be shapes.
    """
    plain: Any = OmegaConf.to_container(cfg)  # not resolved, which takes ten times as long
    for key in (*project().without_effect, *_ALSO):
        *path, name = key.split(".")
        node = plain
        for part in path:
            node = node.get(part) or {}
        node.pop(name, None)
    plain = {key: node if key in _UNMASKED else _masked(node) for key, node in plain.items()}
    plain["data"].pop("seed", None)
    return json.dumps(plain, sort_keys=True)


def _masked(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _masked(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_masked(value) for value in node]
    return "a number" if type(node) in (int, float) else node


def why_settings_are_alone(cfg: DictConfig) -> str:
    """Return why a run of these settings cannot be stacked with any; empty where it perhaps can."""
    trainer = cfg.trainer
    if trainer.devices != 1 or trainer.strategy != "auto" or trainer.get("num_nodes", 1) != 1:
        return "stacked runs are of one device, with trainer.devices=1 and trainer.strategy=auto"
    if trainer.get("step") == "compiled":
        return "stacked runs have trainer.step=eager or graph, not compiled"
    for key, value in _ONLY.items():
        if (given := trainer.get(key, value)) not in (value, None):
            return f"stacked runs have trainer.{key}={value}, not {given}"
    optimizer = get_class(cfg.optimizer._target_)
    if optimizer not in FUSED or not cfg.optimizer.get("fused"):
        names = ", ".join(kind.__name__ for kind in FUSED)
        return f"stacked runs have a fused optimizer: {names} with optimizer.fused=true"
    if cfg.optimizer.get("dampening"):
        return "stacked runs have no optimizer.dampening"
    if any("Wandb" in node._target_ for node in cfg.logger.values()):
        return "a process has one run of Weights & Biases at a time"
    for name, node in cfg.callbacks.items():
        kind = get_class(node._target_)
        if sees_all_steps(kind):
            return f"callbacks.{name} looks at every step: it has no method watches(trainer, index)"
    return ""


def why_alone(module: TaskModule, data: ImageDataModule) -> str:
    """Return why a run cannot be stacked with any; empty where it perhaps can."""
    if module.variance_optimizers:
        return "its estimator trains what lowers its variance"
    for layer in binary_layers(module.model):
        if layer.estimator.differentiates:
            return f"{type(layer.estimator).__name__} differentiates the loss itself"
    if moves_batches(module, data):
        return "something is done to its batches on their way"
    return ""
