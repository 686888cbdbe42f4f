"""The identity of a run: a readable name and a hash of all that can change its result."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from omegaconf import DictConfig, OmegaConf

# What may differ between two runs of the same result: names, places and displays.
WITHOUT_EFFECT = (
    "study",
    "rerun",
    "dry_run",
    "retries",
    "on_failure",
    "only",
    "checkpoint",
    "trial",
    "names",
    "logger",
    "data.root",
    "trainer.enable_progress_bar",
    "trainer.log_every_n_steps",
    "trainer.profiler",
)


def fingerprint(cfg: DictConfig) -> str:
    """Return 64 hexadecimal digits: SHA-256 of everything in `cfg` that can change the result.

    ``1`` and ``1.0`` are the same value. `paths` are masked wherever they are interpolated.
    ``trainer=auto`` hashes as written, so a study may move between machines.
    """
    tree = OmegaConf.to_container(cfg, resolve=False)
    assert isinstance(tree, dict)
    tree.pop("hydra", None)
    resolved = OmegaConf.to_container(OmegaConf.create(_masked(tree)), resolve=True)
    return _digest(resolved)


def fingerprint_of_resolved(config: dict[str, Any]) -> str:
    """Return the fingerprint of what config.yaml holds; quick.

    It is another one than the run's where something outside `paths` interpolates them.
    """
    return _digest(_masked(_canonical(config)))


def _masked(tree: dict[Any, Any]) -> dict[Any, Any]:
    for key in WITHOUT_EFFECT:
        *parents, last = key.split(".")
        node = tree
        for parent in parents:
            node = node.get(parent, {})
        node.pop(last, None)
    tree["paths"] = {key: "" for key in tree.get("paths", {})}
    return tree


def _digest(resolved: Any) -> str:
    text = json.dumps(_canonical(resolved), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def run_id(cfg: DictConfig) -> str:
    """Return e.g. ``hardtanh_clip-fixed0.25-s1-3f2a9c1d``."""
    value = cfg.threshold.get("value")
    position = f"{value:g}" if isinstance(value, int | float) else ""
    estimator, threshold = cfg.names.estimator, cfg.names.threshold
    return f"{estimator}-{threshold}{position}-s{cfg.seed}-{fingerprint(cfg)[:8]}"


def _canonical(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _canonical(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_canonical(value) for value in node]
    if isinstance(node, float) and node.is_integer():
        return int(node)
    return node


def register_resolvers() -> None:
    """Let YAML say ``${run_id:}`` and ``${bits:}``; safe to call again."""
    OmegaConf.register_new_resolver("run_id", lambda *, _root_: run_id(_root_), replace=True)
    OmegaConf.register_new_resolver("bits", lambda *, _root_: _bits(_root_), replace=True)


def _bits(cfg: DictConfig) -> int:
    """Return the bits of a code: a trained model's, or those of a problem that is measured."""
    return cfg.model.bits if "model" in cfg else cfg.bits
