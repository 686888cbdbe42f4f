"""What a run names, built again: a run's folder is data, whoever made it.

A configuration that was read from a run is never resolved, and builds only what its groups may be.
Everything that it names is judged twice: by its name, before anything is imported, and then as the
object that the name leads to, because a name can be an alias of anything.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator, Sequence
from functools import cache, partial
from importlib import import_module
from inspect import isfunction
from typing import Any

from omegaconf import DictConfig, OmegaConf
from pydantic import ValidationError

from stelab.engine.config.lists import split_commas
from stelab.engine.errors import InputError
from stelab.engine.project import Component, project
from stelab.engine.studies.record import Run
from stelab.engine.terminal import brief, one_line, visible

_Path = tuple[str, ...]

_MOST_NODES = 5000  # of a configuration; a real one has a hundred. Its aliases may make a cycle.
_SPECIAL = ("_target_", "_args_", "_partial_", "_recursive_", "_convert_")


# Of these only components are built, whoever trusts them.
_JUDGED = ("stelab", "torch", "torchvision", "pytorch_lightning", "lightning")


def packages(names: str | None) -> tuple[str, ...]:
    """Return the packages that ``trust=`` names, with commas.

    Raises:
        InputError: One of them is no name of a package, or is Python's own.
    """
    found = tuple(split_commas(names))
    for name in found:
        if not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", name):
            raise InputError(f"trust must name packages, with commas, got '{visible(name)}'")
        if name.partition(".")[0] in sys.stdlib_module_names:
            raise InputError(f"trust must name packages of your own, but {name} is Python's")
    return found


def packages_of(cfg: DictConfig) -> tuple[str, ...]:
    """Return the packages of what a configuration names that the user composed, not read."""
    tree = OmegaConf.to_container(cfg, resolve=False)
    targets = (target for _, target in _targets(tree, ()) if isinstance(target, str))
    return tuple(dict.fromkeys(target.partition(".")[0] for target in targets))


def require_trusted(run: Run, groups: Sequence[str], trust: Sequence[str] = ()) -> None:
    """Judge what a run names, by names alone; nothing is imported.

    Args:
        run: The run.
        groups: The nodes of its configuration that will be built.
        trust: Packages that are trusted besides.

    Raises:
        InputError: A group is absent, or names what it may not.
    """
    for group in groups:
        for path, target in _targets(_group(run, group), (group,)):
            if refusal := _judge_name(target, _kind(path), tuple(trust)):
                raise InputError(_refused(str(run.folder), path, target, refusal))


def rebuild(run: Run, group: str, *, trust: Sequence[str] = ()) -> Any:
    """Build a group of a run's configuration, such as ``"model"``, as the run names it.

    Args:
        run: The run.
        group: ``"model"``, ``"loss"`` or ``"data"``.
        trust: Packages that are trusted besides stelab and the modules of torch and torchvision.

    Raises:
        InputError: The group is absent, names what it may not, or refuses its arguments.
    """
    require_trusted(run, [group], trust)
    node = _group(run, group)
    for path, target in _targets(node, (group,)):
        if refusal := _judge(target, _kind(path), tuple(trust)):
            raise InputError(_refused(str(run.folder), path, target, refusal))
    try:
        made = _make(node, (group,))
    except InputError as error:
        raise InputError(f"{visible(str(run.folder))}: {error}") from error
    except RecursionError as error:
        raise InputError(f"{visible(str(run.folder))}: {group} is nested too deep") from error
    if not isinstance(made, _locate(project().products[group])):
        product = project().products[group].rpartition(".")[2]
        found = type(made).__name__
        raise InputError(f"{visible(str(run.folder))}: {group} must be of {product}, got {found}")
    return made


def _group(run: Run, group: str) -> dict[str, Any]:
    node = run.config.get(group) if isinstance(run.config, dict) else None
    if not isinstance(node, dict) or "_target_" not in node:
        where = visible(str(run.folder))
        raise InputError(f"{where}: config.yaml must say what {group} is, with a _target_")
    return node


def _targets(tree: Any, path: _Path) -> Iterator[tuple[_Path, Any]]:
    """Yield each ``_target_`` and the node it stands in.

    Raises:
        InputError: There are too many nodes.
    """
    waiting, seen = [(path, tree)], 0
    while waiting:
        path, node = waiting.pop()
        if isinstance(node, dict) and "_target_" in node:
            yield path, node["_target_"]
        if isinstance(node, dict | list):
            entries = node.items() if isinstance(node, dict) else enumerate(node)
            waiting += [((*path, str(key)), value) for key, value in entries]
            seen += len(node)
        if seen > _MOST_NODES:
            raise InputError(f"config.yaml must have at most {_MOST_NODES} entries, but has more")


def _kind(path: _Path) -> Component | None:
    """Return what a node may be that stands at `path`; None where there must be none."""
    last, table = path[-1] if path else "", path[-2] if len(path) > 1 else ""
    found = project().parts.get(last) or project().members.get(table)
    return found or project().components.get(path[0] if path else "")


def _refused(where: str, path: _Path, target: Any, why: str) -> str:
    key = visible(".".join((*path, "_target_")))[-80:]
    shown = one_line(visible(str(target)), 120)
    return (
        f"{visible(where)}: {key} is {shown}, which {why}; what a run names is "
        "built only where it is a component of stelab or torch, or of a package that "
        "trust=PACKAGE names"
    )


def _judge_name(target: Any, kind: Component | None, trust: tuple[str, ...]) -> str:
    """Say why a target is refused, from its name; nothing where it may be looked up."""
    if not isinstance(target, str) or not re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)+", target):
        return "is not a dotted name like package.module.Name"
    if any(part.startswith("__") for part in target.split(".")):
        return "is no component"
    if _is_in(target, trust):
        return ""
    roots = [home if home.partition(".")[0] == "torchvision" else _root(home) for home in _of(kind)]
    return "" if _is_in(target, roots) else "is not of a package that is trusted"


def _of(kind: Component | None) -> tuple[str, ...]:
    return kind.homes if kind else ()


def _root(home: str) -> str:
    """Return what a name begins with that leads to `home`: ``torch.nn``, ``stelab``."""
    top, _, rest = home.partition(".")
    return f"{top}.{rest.partition('.')[0]}" if top == "torch" else top


def _judge(target: Any, kind: Component | None, trust: tuple[str, ...]) -> str:
    """Say why a target is refused, from its name and from what it leads to."""
    if refusal := _judge_name(target, kind, trust):
        return refusal
    try:
        found = _locate(target)
    except Exception as error:  # whatever the import of a trusted package raises
        return f"cannot be imported ({brief(visible(_told(error)))})"
    home = getattr(found, "__module__", None)
    if not isinstance(home, str):
        return "is no class"
    if _is_in(home, trust) and not _is_in(home, _JUDGED):
        return ""
    return "" if kind and _is_of(found, home, kind) else f"is no {_word(kind)}"


def _is_of(found: Any, home: str, kind: Component) -> bool:
    """Tell whether an object that is defined in the module `home` is of a kind."""
    if not _is_in(home, kind.homes):
        return False
    if isinstance(found, type):
        return issubclass(found, _locate(kind.base))
    builders = vars(import_module(kind.builders)) if kind.builders else {}
    names = builders.get("__all__", ())
    return isfunction(found) and any(builders[name] is found for name in names)


def _word(kind: Component | None) -> str:
    return kind.base.rpartition(".")[2] if kind else "component"


def _is_in(name: str, places: Sequence[str]) -> bool:
    return any(name == place or name.startswith(f"{place}.") for place in places)


@cache
def _locate(target: str) -> Any:
    """Return an attribute of a module; nothing is reached through classes and other objects."""
    module, _, name = target.rpartition(".")
    return getattr(import_module(module), name)


def _make(node: Any, path: _Path) -> Any:
    if isinstance(node, list):
        return [_make(value, (*path, str(i))) for i, value in enumerate(node)]
    if not isinstance(node, dict):
        return node
    if "_target_" not in node:
        return {key: _make(value, (*path, str(key))) for key, value in node.items()}
    given = {key: value for key, value in node.items() if key not in _SPECIAL}
    positional = node.get("_args_", [])
    if node.get("_recursive_", True):
        given = {key: _make(value, (*path, str(key))) for key, value in given.items()}
        positional = _make(positional, (*path, "_args_"))
    target = _locate(node["_target_"])
    try:
        call = partial(target, *positional, **given)
        return call if node.get("_partial_") else call()
    except Exception as error:  # a constructor may raise anything
        key = visible(".".join(path))[-80:]
        raise InputError(f"{key} refuses its arguments: {brief(visible(_told(error)))}") from error


def _told(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        return f"{where}: {first['msg']}, got {first['input']!r}"
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
