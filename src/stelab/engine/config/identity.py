"""The identity of a run: a readable name and a hash of all that can change its result."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import Any

from omegaconf import DictConfig, OmegaConf

from stelab.engine.config.first_weights import content_of, pinned
from stelab.engine.project import first_called, project

# Where null, as if they were not there: runs from before there were any keep their ids.
UNSET = ("better", "tags", "from_checkpoint")


def without_unset(tree: dict[Any, Any]) -> dict[Any, Any]:
    """Return a configuration without those of `UNSET` that are null."""
    return {key: value for key, value in tree.items() if value is not None or key not in UNSET}


def fingerprint(cfg: DictConfig) -> str:
    """Return 64 hexadecimal digits: SHA-256 of everything in `cfg` that can change the result.

    ``1`` and ``1.0`` are the same value. `paths` are masked wherever they are interpolated. Of a
    checkpoint to start from, the content counts, not where it lies.
    ``trainer=auto`` hashes as written, so a study may move between machines.
    """
    tree = OmegaConf.to_container(cfg, resolve=False)
    assert isinstance(tree, dict)
    tree.pop("hydra", None)
    if source := cfg.get("from_checkpoint"):
        tree["from_checkpoint"] = pinned(str(source))
    resolved = OmegaConf.to_container(OmegaConf.create(_masked(tree)), resolve=True)
    return _digest(resolved)


def fingerprint_of_resolved(config: dict[str, Any]) -> str:
    """Return the fingerprint of what config.yaml holds; quick.

    It is another one than the run's where something outside `paths` interpolates them.
    """
    return _digest(_masked(_canonical(config)))


def _masked(tree: dict[Any, Any]) -> dict[Any, Any]:
    for key in project().without_effect:
        *parents, last = key.split(".")
        node = tree
        for parent in parents:
            node = node.get(parent, {})
        node.pop(last, None)
    tree["paths"] = {key: "" for key in tree.get("paths", {})}
    if isinstance(source := tree.get("from_checkpoint"), str):
        tree["from_checkpoint"] = content_of(source)
    return without_unset(tree)


def _digest(resolved: Any) -> str:
    text = json.dumps(_canonical(resolved), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def run_id(cfg: DictConfig) -> str:
    """Return e.g. ``hardtanh_clip-fixed0.25-s1-3f2a9c1d``."""
    return f"{project().run_name(cfg)}-{fingerprint(cfg)[:8]}"


def _canonical(node: Any) -> Any:
    if isinstance(node, dict):
        named = {"_target_": first_called(node["_target_"])} if _is_named(node) else {}
        return {key: _canonical(value) for key, value in (node | named).items()}
    if isinstance(node, list):
        return [_canonical(value) for value in node]
    if isinstance(node, float) and node.is_integer():
        return int(node)
    return node


def _is_named(node: dict[Any, Any]) -> bool:
    return isinstance(node.get("_target_"), str)


def register_resolvers() -> None:
    """Let YAML say ``${stelab.run_id:}`` and what the project declares; safe to call again."""
    for name, resolve in {"run_id": run_id, **project().resolvers}.items():
        if not OmegaConf.has_resolver(f"stelab.{name}"):
            OmegaConf.register_new_resolver(f"stelab.{name}", _of_all(resolve))


def _of_all(resolve: Callable[[DictConfig], Any]) -> Callable[..., Any]:
    return lambda *, _root_: resolve(_root_)
