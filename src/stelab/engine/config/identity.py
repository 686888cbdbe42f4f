"""The identity of a run: a readable name and a hash of all that can change its result.

Run ids outlive the code. So keys that came later count only where they say something new,
components are hashed under their first names, and a file that a run starts from counts by its
content.
"""

import hashlib
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from stelab.engine.errors import InputError
from stelab.engine.files import open_regular
from stelab.engine.project import first_called, project

_MARK = "#sha256="


def run_id(cfg: DictConfig) -> str:
    """Return the readable name of a run and the first digits of its fingerprint."""
    return f"{project().run_name(cfg)}-{fingerprint(cfg)[:8]}"


def fingerprint(cfg: DictConfig) -> str:
    """Return the SHA-256, in hexadecimal, of everything in `cfg` that can change the result.

    ``1`` and ``1.0`` are the same value. `paths` are masked wherever they are interpolated.
    ``trainer=auto`` hashes as written, so a study may move between machines.
    """
    if (known := _known.get(id(cfg))) is not None:
        return known
    tree = OmegaConf.to_container(cfg, resolve=False)
    assert isinstance(tree, dict)
    tree.pop("hydra", None)
    for key in project().file_keys:
        if source := cfg.get(key):
            tree[key] = pinned(key, str(source))
    return _digest(_canonical(_resolved(cfg, _masked(tree))))


@contextmanager
def fingerprinted(cfg: DictConfig) -> Iterator[str]:
    """Compute the fingerprint of `cfg` once for all who ask meanwhile; what counts must stay."""
    digest = _known[id(cfg)] = fingerprint(cfg)
    try:
        yield digest
    finally:
        del _known[id(cfg)]


_known: dict[int, str] = {}  # of configurations that are being composed


def fingerprint_of_resolved(config: dict[str, Any]) -> str:
    """Return the fingerprint of a config.yaml: the run's, unless a key interpolates `paths`."""
    return _digest(_masked(_canonical(config)))


def without_later(tree: dict[Any, Any]) -> dict[Any, Any]:
    """Return a configuration without the keys that older runs lack, where it is as without them."""
    for key, implied in project().later_keys.items():
        tree = _without(tree, key.split("."), _canonical(implied))
    return tree


def _without(tree: dict[Any, Any], path: list[str], implied: Any) -> dict[Any, Any]:
    """Return `tree` without the value at `path`, if it is the one that is implied."""
    name, *rest = path
    value = tree.get(name)
    if rest:
        return tree | {name: _without(value, rest, implied)} if isinstance(value, dict) else tree
    if _canonical(value) != implied:
        return tree
    return {key: value for key, value in tree.items() if key != name}


def checkpoint_file(source: str) -> Path:
    """Return the file that `source` names: a checkpoint, or the last one of a run's folder."""
    path = Path(source.partition(_MARK)[0])
    return path / "checkpoints" / "last.ckpt" if path.is_dir() else path


def is_pinned(source: str) -> bool:
    """Return whether the value of a key that names a file has the file's checksum."""
    return _MARK in source


def pinned(key: str, source: str) -> str:
    """Return `source`, the value of `key`, with its file's checksum; refuse a wrong file."""
    name, _, known = source.partition(_MARK)
    path = checkpoint_file(source)
    try:
        status = path.stat()
        digest = _file_digest(path, status.st_mtime_ns, status.st_size)
    except (OSError, ValueError) as error:
        if known:  # a finished run needs it no more
            return source
        reason = getattr(error, "strerror", None) or error
        message = f"{key} must be a run's folder or a checkpoint, but {reason}: {path}"
        raise InputError(message) from error
    if known not in ("", digest):
        raise InputError(f"{key}: {path} holds something else than when it was recorded")
    return f"{name}{_MARK}{digest}"


@lru_cache(maxsize=64)
def _file_digest(path: Path, changed: int, size: int) -> str:
    digest = hashlib.sha256()
    with open_regular(path) as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def _masked(tree: dict[Any, Any]) -> dict[Any, Any]:
    """Remove in place what cannot change the result; return what is left."""
    for key in project().without_effect:
        *parents, last = key.split(".")
        node = tree
        for parent in parents:
            node = node.get(parent, {})
        node.pop(last, None)
    tree |= project().first_values
    tree["paths"] = {key: "" for key in tree.get("paths", {})}
    for key in project().file_keys:
        if isinstance(source := tree.get(key), str):
            tree[key] = source.partition(_MARK)[2] or source
    return tree


def _resolved(cfg: DictConfig, tree: dict[Any, Any]) -> Any:
    """Resolve `tree`, which is `cfg` masked: there, unless something refers to what is masked.

    Making a configuration of the tree, which suits every case, takes as long as all the rest.
    """
    own = {"paths", *project().first_values, *project().file_keys}
    masked = [*own, *project().without_effect]
    if not all(_is_of_others(text, masked) for text in _interpolations(tree)):
        return OmegaConf.to_container(OmegaConf.create(tree), resolve=True)
    rest = _resolved_in(cfg, {key: value for key, value in tree.items() if key not in own})
    return rest | {key: tree[key] for key in tree.keys() & own}


def _resolved_in(node: Any, tree: Any) -> Any:
    """Resolve the texts of a tree, of which `node` has all, and perhaps more."""
    if isinstance(tree, dict):
        return {key: _resolved_at(node, key, value) for key, value in tree.items()}
    return [_resolved_at(node, index, value) for index, value in enumerate(tree)]


def _resolved_at(node: Any, key: Any, value: Any) -> Any:
    if isinstance(value, dict | list):
        return _resolved_in(node[key], value)
    if not isinstance(value, str) or "${" not in value:
        return value
    found = node[key]
    return OmegaConf.to_container(found, resolve=True) if OmegaConf.is_config(found) else found


def _interpolations(node: Any) -> Iterator[str]:
    if isinstance(node, str):
        if "${" in node:
            yield node
    elif isinstance(node, dict | list):
        for value in node.values() if isinstance(node, dict) else node:
            yield from _interpolations(value)


# A key by its whole name, or such a one if it is there.
_REFERENCE = re.compile(r"\$\{(?:oc\.select:)?(\w+(?:\.\w+)*)(?:,\w*)?\}")


def _is_of_others(text: str, masked: list[str]) -> bool:
    """Whether all that a text refers to are keys, and none of them masked, nor in or around it."""
    keys = [f"{key}." for key in _REFERENCE.findall(text)]
    return len(keys) == text.count("${") and not any(
        key.startswith(f"{other}.") or f"{other}.".startswith(key)
        for key in keys
        for other in masked
    )


def _canonical(node: Any) -> Any:
    if isinstance(node, dict):
        if isinstance(target := node.get("_target_"), str):
            node = node | {"_target_": first_called(target)}
        return {key: _canonical(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_canonical(value) for value in node]
    if isinstance(node, float) and node.is_integer():
        return int(node)
    return node


def _digest(canonical: Any) -> str:
    text = json.dumps(without_later(canonical), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def register_resolvers() -> None:
    """Register ``${stelab.run_id:}`` and what the project declares; safe to call again."""
    for name, resolve in {"run_id": run_id, **project().resolvers}.items():
        OmegaConf.register_new_resolver(
            f"stelab.{name}", lambda *, _root_, resolve=resolve: resolve(_root_), replace=True
        )
