"""Check a composed configuration: all mistakes at once, before torch is imported."""

from __future__ import annotations

import dataclasses
import difflib
import math
import re
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import ConfigDict, TypeAdapter, ValidationError
from typing_extensions import NotRequired, TypedDict

from stelab.engine.config.identity import register_resolvers, without_unset
from stelab.engine.config.signature import (
    HYDRA_KEYS,
    Signature,
    import_signature,
    is_own,
    read_signature,
)
from stelab.engine.errors import InputError, first_line
from stelab.engine.project import project
from stelab.engine.terminal import shortened

Path = tuple[str | int, ...]
_DELETED = "must be given (it cannot be deleted)"


def validate(cfg: DictConfig, command: str) -> dict[str, Any]:
    """Check `cfg` against the schema of `command`; return it as plain containers, resolved.

    Raises:
        InputError: Names every unknown, missing, mistyped or out-of-range key.
    """
    try:
        tree = plain(cfg)
    except InputError:  # for a mistake that can be named better, maybe
        written: Any = OmegaConf.to_container(without_hydra(cfg), resolve=False)
        _raise([m for m in _against_schema(written, command) if "${" not in m[1]], cfg)
        raise
    _raise(list(_mistakes(tree, command)), cfg)
    return tree


def _mistakes(tree: dict[str, Any], command: str) -> Iterator[tuple[Path, str]]:
    yield from _missing_or_not_finite(tree)
    yield from _against_schema(tree, command)
    yield from project().contradictions(tree)
    yield from _against_signatures(_with_targets(tree))


def validate_node(cfg: DictConfig, key: str) -> None:
    """Check the node at `key`, and those in it, against the signatures of their targets."""
    tree = OmegaConf.to_container(OmegaConf.select(cfg, key), resolve=True)
    _raise(list(_against_signatures(tree, tuple(key.split(".")))), cfg)


def _raise(mistakes: list[tuple[Path, str]], cfg: DictConfig) -> None:
    if mistakes:
        first = {_dotted(_stated(path, cfg)): text for path, text in reversed(mistakes)}
        raise InputError("\n".join(f"{key} {first[key]}" for key in sorted(first)))


def require_keys(cfg: DictConfig, command: str) -> None:
    """Raise InputError if a top-level key of `command` was deleted."""
    fields = dataclasses.fields(project().schemas[command])
    needed = {f.name for f in fields if f.default is dataclasses.MISSING}
    deleted = sorted(needed - {str(key) for key in cfg})
    if deleted:
        raise InputError("\n".join(f"{key} {_DELETED}" for key in deleted))


def plain(cfg: DictConfig) -> dict[str, Any]:
    """Return `cfg` as plain containers: resolved, without `hydra` and unset later keys."""
    register_resolvers()  # this process may not have composed it
    try:
        tree = OmegaConf.to_container(without_hydra(cfg), resolve=True)
        return without_unset(cast(dict[str, Any], tree))
    except OmegaConfBaseException as error:
        cause = error.__context__
        while cause is not None:
            if isinstance(cause, InputError):  # of a resolver of ours
                raise cause from None
            cause = cause.__context__
        key = getattr(error, "full_key", None)
        subject = f"{key}: its value" if key else "the configuration"
        raise InputError(f"{subject} cannot be resolved: {first_line(error)}") from error


def without_hydra(cfg: DictConfig) -> DictConfig:
    """Return `cfg`, or a copy of it without its `hydra` node if it has one."""
    if "hydra" not in cfg:
        return cfg
    return OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])


def suggestion(word: str, known: Iterable[str], *, within: str = "") -> str:
    """Return ``"; did you mean 'trainer.x'?"`` (`within` is ``"trainer."``), or nothing."""
    near = difflib.get_close_matches(word, list(known), n=1, cutoff=0.6)
    return f"; did you mean '{within}{near[0]}'?" if near else ""


def keys_of(tree: Any, prefix: str = "") -> Iterator[str]:
    """Yield every dotted key of nested dictionaries."""
    if isinstance(tree, dict):
        for key, value in tree.items():
            yield f"{prefix}{key}"
            yield from keys_of(value, f"{prefix}{key}.")


def _walk(node: Any, path: Path = ()) -> Iterator[tuple[Path, Any]]:
    yield path, node
    if isinstance(node, dict | list):
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            yield from _walk(value, (*path, key))


def _missing_or_not_finite(tree: dict[str, Any]) -> Iterator[tuple[Path, str]]:
    for path, node in _walk(tree):
        if node == "???":
            yield path, f"must be given: {_dotted(path)}=..."
        if isinstance(node, float) and not math.isfinite(node):
            yield path, f"must be a finite number, got {node}"


def _against_schema(tree: dict[str, Any], command: str) -> Iterator[tuple[Path, str]]:
    try:
        _schema(command).validate_python(tree)
    except ValidationError as error:
        yield from _explain(error, tree, ())


@cache
def _schema(command: str) -> TypeAdapter[Any]:
    return TypeAdapter(project().schemas[command])


def _with_targets(tree: dict[str, Any]) -> dict[str, Any]:
    """Return `tree` with a `_target_` in each node that needs none, and nothing but its own."""
    classes, apart = project().classes, project().apart
    nodes = {key: node for key, node in tree.items() if isinstance(node, dict)}
    for key, node in nodes.items():
        target = {"_target_": classes[key]} if key in classes else {}
        nodes[key] = target | {k: value for k, value in node.items() if k not in apart.get(key, ())}
    return tree | nodes


def _against_signatures(tree: Any, where: Path = ()) -> Iterator[tuple[Path, str]]:
    for path, node in _nodes(tree, where):
        target = str(node["_target_"])
        try:
            mistakes = [*_against_signature(read_signature(target), node, path)]
            # What is declared is not decorated so that its source hides what it takes.
            if mistakes and not is_own(target) and target not in project().classes.values():
                mistakes = [*_against_signature(import_signature(target), node, path)]
            yield from mistakes
        except LookupError as error:
            yield (*path, "_target_"), f"cannot be used: {error}"


def _nodes(node: Any, path: Path) -> Iterator[tuple[Path, dict[str, Any]]]:
    """Yield the nodes that are built; a foreign target that is not recursive builds its own."""
    if isinstance(node, dict) and "_target_" in node:
        yield path, node
        if node.get("_recursive_") is False and not is_own(str(node["_target_"])):
            return
    if isinstance(node, dict | list):
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            yield from _nodes(value, (*path, key))


def _against_signature(
    signature: Signature, node: dict[str, Any], path: Path
) -> Iterator[tuple[Path, str]]:
    arguments = {key: value for key, value in node.items() if key not in HYDRA_KEYS}
    try:
        _adapter(signature).validate_python(arguments)
    except ValidationError as error:
        for where, text in _explain(error, arguments, path, signature):
            if text != _DELETED or not node.get("_partial_"):
                yield where, text


@cache
def _adapter(signature: Signature) -> TypeAdapter[Any]:
    """Make the schema of a node from the signature of its target."""
    try:
        return _arguments(signature, signature.annotations)
    except Exception:  # an annotation that is no type
        return _arguments(signature, dict.fromkeys(signature.annotations, Any))


def _arguments(signature: Signature, annotations: dict[str, Any]) -> TypeAdapter[Any]:
    fields = {
        name: annotation if name in signature.required else NotRequired[annotation]
        for name, annotation in annotations.items()
    }
    arguments = TypedDict("arguments", fields)  # type: ignore[misc]
    config = ConfigDict(extra="allow" if signature.open else "forbid")
    arguments.__pydantic_config__ = config  # type: ignore[attr-defined]
    adapter = TypeAdapter[Any](arguments)
    adapter.rebuild(raise_errors=True)  # now, not when it is used
    return adapter


def _explain(
    error: ValidationError, tree: dict[str, Any], path: Path, signature: Signature | None = None
) -> Iterator[tuple[Path, str]]:
    for entry in error.errors():
        where = (*path, *(part for part in entry["loc"] if _is_key(part, tree)))
        if entry["type"] in ("extra_forbidden", "unexpected_keyword_argument"):
            yield (*path, *entry["loc"]), _unknown(path, entry["loc"], tree, signature)
        elif entry["type"] in ("missing", "missing_argument"):
            yield (*path, *entry["loc"]), _DELETED
        elif not (isinstance(entry["input"], dict) and "_target_" in entry["input"]):
            # (What such a node makes may be anything.)
            text = entry["msg"].replace("Input should be", "must be").replace("Value error, ", "")
            text = re.sub(r"a dictionary or an instance of \w+", "a valid dictionary", text)
            yield where, f"{text[0].lower()}{text[1:]}, got {shortened(repr(entry['input']))}"


def _unknown(path: Path, loc: Path, tree: dict[str, Any], signature: Signature | None) -> str:
    key = str(loc[-1])
    if signature is None:
        siblings: Any = tree
        for part in loc[:-1]:
            siblings = siblings[part]
        names = [str(name) for name in siblings if name != loc[-1]]
    elif key in signature.positional:
        return "is taken by position only: write it in the list _args_"
    else:
        names = [*signature.annotations]
    within = "".join(f"{part}." for part in (*path, *loc[:-1]))
    near = suggestion(key, names, within=within)
    return "is not a key here" + (near or (f" (there are: {', '.join(names)})" if names else ""))


def _is_key(part: str | int, tree: dict[str, Any]) -> bool:
    """Whether it is a key, not the name of a union's member that pydantic puts in a location."""
    return isinstance(part, int) or any(part in path for path, _ in _walk(tree))


# ${key}, or ${oc.select:key,default}
_ALIAS = r"\$\{(?:oc\.select:)?([\w.]+)(?:,[^}]*)?\}"


def _stated(path: Path, cfg: DictConfig) -> Path:
    """Return where the value at `path` is stated: the other end of an interpolation, or `path`."""
    node: Any = OmegaConf.to_container(cfg, resolve=False)
    for i, part in enumerate(path):
        try:
            node = node[part]
        except (KeyError, IndexError, TypeError):
            return path
        if isinstance(node, str) and (target := re.fullmatch(_ALIAS, node)):
            return _stated((*target[1].split("."), *path[i + 1 :]), cfg)
    return path


def _dotted(path: Path) -> str:
    return ".".join(str(part) for part in path)
