"""Check a composed configuration: all mistakes at once, before torch is imported."""

import difflib
import math
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any, Literal, cast

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from pydantic import ConfigDict, TypeAdapter, ValidationError
from typing_extensions import NotRequired, TypedDict

from stelab.engine.config.identity import register_resolvers
from stelab.engine.config.signature import (
    HYDRA_KEYS,
    Signature,
    import_signature,
    is_own,
    read_signature,
)
from stelab.engine.errors import InputError, first_line
from stelab.engine.project import Mistake, project
from stelab.engine.terminal import shortened

Path = tuple[str | int, ...]
_DELETED = "must be given (it cannot be deleted)"


def validate(cfg: DictConfig, command: str) -> dict[str, Any]:
    """Return `cfg` as plain containers, resolved; an InputError names all mistakes in its keys."""
    schema = _schema(command)
    try:
        tree = plain(cfg)
    except InputError:  # the schema may name the mistake better
        written: Any = OmegaConf.to_container(without_hydra(cfg), resolve=False)
        _raise([m for m in _mistakes(schema, written) if "${" not in m[1]], cfg)
        raise
    mistakes = [*_missing_or_not_finite(tree), *_mistakes(schema, tree)]
    mistakes += [*project().contradictions(tree), *_against_signatures(_with_targets(tree))]
    _raise(mistakes, cfg)
    return tree


def validate_node(cfg: DictConfig, key: str) -> None:
    """Check the node at `key`, and those in it, against the signatures of their targets."""
    tree = OmegaConf.to_container(OmegaConf.select(cfg, key), resolve=True)
    _raise([*_against_signatures(tree, tuple(key.split(".")))], cfg)


def _raise(mistakes: list[Mistake], cfg: DictConfig) -> None:
    first = {_dotted(_stated(path, cfg)): text for path, text in reversed(mistakes)}
    if first:
        raise InputError("\n".join(f"{key} {first[key]}" for key in sorted(first)))


def table(extra: Literal["allow", "forbid"], /, **keys: Any) -> Any:
    """Make the schema of a table of these keys, and of others where `extra` allows them."""
    schema = TypedDict("schema", keys)  # type: ignore[misc]
    schema.__pydantic_config__ = ConfigDict(extra=extra)  # type: ignore[attr-defined]
    return schema


def require_keys(cfg: DictConfig, command: str) -> None:
    """Raise InputError if a top-level key of `command` was deleted."""
    needed: frozenset[str] = project().schemas[command].__required_keys__
    deleted = sorted(needed - {str(key) for key in cfg})
    if deleted:
        raise InputError("\n".join(f"{key} {_DELETED}" for key in deleted))


def plain(cfg: DictConfig) -> dict[str, Any]:
    """Return `cfg` as plain containers: resolved, without `hydra`."""
    register_resolvers()  # this process may not have composed it
    try:
        with _run_folder_once(cfg):
            return cast(dict[str, Any], OmegaConf.to_container(without_hydra(cfg), resolve=True))
    except OmegaConfBaseException as error:
        cause = error.__context__
        while cause is not None:
            if isinstance(cause, InputError):  # of a resolver of ours
                raise cause from None
            cause = cause.__context__
        key = getattr(error, "full_key", None)
        subject = f"{key}: its value" if key else "the configuration"
        raise InputError(f"{subject} cannot be resolved: {first_line(error)}") from error


@contextmanager
def _run_folder_once(cfg: DictConfig) -> Iterator[None]:
    """Compute `paths.run`, a hash of all keys, once and not for each key that refers to it."""
    written: str | None = None
    with suppress(OmegaConfBaseException, AttributeError):  # who resolves it says what is wrong
        folder, text = cfg.paths.run, cfg.paths._get_node("run")._value()
        cfg.paths.run, written = folder, text
    try:
        yield
    finally:
        if written is not None:
            cfg.paths.run = written


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


def _missing_or_not_finite(tree: dict[str, Any]) -> Iterator[Mistake]:
    for path, node in _walk(tree):
        if node == "???":
            yield path, f"must be given: {_dotted(path)}=..."
        if isinstance(node, float) and not math.isfinite(node):
            yield path, f"must be a finite number, got {node}"


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


def _against_signatures(tree: Any, where: Path = ()) -> Iterator[Mistake]:
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


def _against_signature(signature: Signature, node: dict[str, Any], path: Path) -> Iterator[Mistake]:
    arguments = {key: value for key, value in node.items() if key not in HYDRA_KEYS}
    for where, text in _mistakes(_adapter(signature), arguments, path, signature):
        if text != _DELETED or not node.get("_partial_"):
            yield where, text


@cache
def _adapter(signature: Signature) -> TypeAdapter[Any]:
    """Make the schema of a node from the signature of its target."""
    try:
        return _arguments(signature, signature.annotations)
    except Exception:  # an annotation that is no type
        return _arguments(signature, dict.fromkeys(signature.annotations, Any))


def _arguments(signature: Signature, types: dict[str, Any]) -> TypeAdapter[Any]:
    required = signature.required
    keys = {n: kind if n in required else NotRequired[kind] for n, kind in types.items()}
    adapter = TypeAdapter[Any](table("allow" if signature.open else "forbid", **keys))
    adapter.rebuild(raise_errors=True)  # now, not when it is used
    return adapter


def _mistakes(
    schema: TypeAdapter[Any],
    tree: dict[str, Any],
    path: Path = (),
    signature: Signature | None = None,
) -> Iterator[Mistake]:
    """Yield what pydantic finds wrong with `tree`, which stands at `path`, in our words."""
    try:
        schema.validate_python(tree)
        return
    except ValidationError as error:
        entries = error.errors()
    keys = {part for where, _ in _walk(tree) for part in where}
    for entry in entries:
        # A location has the names of a union's members too.
        where = (*path, *(p for p in entry["loc"] if isinstance(p, int) or p in keys))
        if entry["type"] == "extra_forbidden":
            yield (*path, *entry["loc"]), _unknown(path, entry["loc"], tree, signature)
        elif entry["type"] == "missing":
            yield (*path, *entry["loc"]), _DELETED
        elif not (isinstance(entry["input"], dict) and "_target_" in entry["input"]):
            # What such a node makes may be anything.
            text = entry["msg"].replace("Input should be", "must be").replace("Value error, ", "")
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
    near = suggestion(key, names, within="".join(f"{part}." for part in (*path, *loc[:-1])))
    return "is not a key here" + (near or (f" (there are: {', '.join(names)})" if names else ""))


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
