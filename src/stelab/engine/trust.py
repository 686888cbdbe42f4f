"""What a run names, built again: a run's folder is data, whoever made it.

A configuration that was read from a run is never resolved, and builds only what its groups may be.
Everything that it names is judged twice: by its name, before anything is imported, and then as the
object that the name leads to, because a name can be an alias of anything.
"""

import re
import sys
from collections.abc import Callable, Iterator, Sequence
from functools import cache, partial
from importlib import import_module
from inspect import isfunction
from typing import Any

from omegaconf import DictConfig, OmegaConf

from stelab.engine.config.signature import HYDRA_KEYS
from stelab.engine.errors import InputError
from stelab.engine.path_names import split_commas
from stelab.engine.project import Component, project
from stelab.engine.studies.record import Run
from stelab.engine.terminal import brief, one_line, visible

_Path = tuple[str, ...]
_Judge = Callable[[Any, Component | None, tuple[str, ...]], str]

_MOST_NODES = 5000  # of a configuration; a real one has a hundred. Its aliases may make a cycle.

# Of these only components are built, whoever trusts them.
_JUDGED = ("stelab", "torch", "torchvision", "pytorch_lightning", "lightning")


def packages(names: str | None) -> tuple[str, ...]:
    """Return the packages that ``trust=`` names, with commas; raise InputError for Python's own."""
    trust = tuple(split_commas(names))
    for name in trust:
        if not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", name):
            raise InputError(f"trust must name packages, with commas, got '{visible(name)}'")
        if name.partition(".")[0] in sys.stdlib_module_names:
            raise InputError(f"trust must name packages of your own, but {name} is Python's")
    return trust


def packages_of(cfg: DictConfig) -> tuple[str, ...]:
    """Return the packages of what a configuration names that the user composed, not read."""
    tree = OmegaConf.to_container(cfg, resolve=False)
    targets = (target for _, target in _targets(tree, ()) if isinstance(target, str))
    return tuple(dict.fromkeys(target.partition(".")[0] for target in targets))


def require_trusted(run: Run, groups: Sequence[str], trust: Sequence[str] = ()) -> None:
    """Judge what groups of a run name, by names alone, so that nothing is imported."""
    _require(_judge_name, run, groups, trust)


def rebuild(run: Run, group: str, *, trust: Sequence[str] = (), **parts: Any) -> Any:
    """Build a group of a run, such as ``"model"``, from its arguments and `parts`.

    Raises:
        InputError: It names something that may not be built.
    """
    require_trusted(run, [group], trust)
    _require(_judge_object, run, [group], trust)
    try:
        made = _make(_group(run, group), (group,), **parts)
        product = _locate(project().products[group])
        if not isinstance(made, product):
            got = type(made).__name__
            raise InputError(f"{group} must be of {product.__name__}, got {got}")
    except InputError as error:
        raise InputError(f"{visible(str(run.folder))}: {error}") from error
    except RecursionError as error:
        raise InputError(f"{visible(str(run.folder))}: {group} is nested too deep") from error
    return made


def _require(judge: _Judge, run: Run, groups: Sequence[str], trust: Sequence[str]) -> None:
    """Raise InputError for the first target in the groups that `judge` refuses with a reason."""
    targets = (entry for group in groups for entry in _targets(_group(run, group), (group,)))
    for path, target in targets:
        table = path[-2] if len(path) > 1 else ""
        inner = project().parts.get(path[-1]) or project().members.get(table)
        allowed = inner or project().components.get(path[0])  # None: nothing may be built there
        if reason := judge(target, allowed, tuple(trust)):
            key = visible(".".join((*path, "_target_")))[-80:]
            raise InputError(
                f"{visible(str(run.folder))}: {key} is {one_line(visible(str(target)), 120)}, "
                f"which {reason}; what a run names is built only where it is a component of "
                "stelab or torch, or of a package that trust=PACKAGE names"
            )


def _group(run: Run, group: str) -> dict[str, Any]:
    config = run.config if isinstance(run.config, dict) else {}
    node = config.get(group, project().later_keys.get(group))
    if not isinstance(node, dict) or "_target_" not in node:
        where = visible(str(run.folder))
        raise InputError(f"{where}: config.yaml must say what {group} is, with a _target_")
    return node


def _targets(tree: Any, path: _Path) -> Iterator[tuple[_Path, Any]]:
    """Yield the path of each node with a ``_target_``, and that; refuse too many nodes."""
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


def _judge_name(target: Any, allowed: Component | None, trust: tuple[str, ...]) -> str:
    """Return why a target may not even be looked up, judging by its name; nothing if it may."""
    if not isinstance(target, str) or not re.fullmatch(r"[^\W\d]\w*(\.[^\W\d]\w*)+", target):
        return "is not a dotted name like package.module.Name"
    if any(part.startswith("__") for part in target.split(".")):
        return "is no component"
    roots = []  # starts of names that lead to what is allowed: torch.nn, stelab
    for home in allowed.homes if allowed else ():
        top, *rest = home.split(".")
        roots.append(f"{top}.{rest[0]}" if top in ("torch", "torchvision") else top)
    return "" if _is_in(target, (*trust, *roots)) else "is not of a package that is trusted"


def _judge_object(target: str, allowed: Component | None, trust: tuple[str, ...]) -> str:
    """Return why a target may not be built, judging by what its name leads to."""
    try:
        located = _locate(target)
    except Exception as error:  # whatever the import of a trusted package raises
        return f"cannot be imported ({_described(error)})"
    home = getattr(located, "__module__", None)
    if not isinstance(home, str):
        return "is no class"
    if _is_in(home, trust) and not _is_in(home, _JUDGED):
        return ""
    if allowed is None:
        return "is no component"
    if not _is_in(home, allowed.homes):
        is_allowed = False
    elif isinstance(located, type):
        is_allowed = issubclass(located, _locate(allowed.base))
    else:
        module = import_module(allowed.builders) if allowed.builders else None
        exported = [getattr(module, name) for name in getattr(module, "__all__", ())]
        is_allowed = isfunction(located) and located in exported
    return "" if is_allowed else f"is no {allowed.base.rpartition('.')[2]}"


def _is_in(name: str, places: Sequence[str]) -> bool:
    return any(name == place or name.startswith(f"{place}.") for place in places)


@cache
def _locate(target: str) -> Any:
    """Return an attribute of a module; nothing is reached through classes and other objects."""
    module, _, name = target.rpartition(".")
    return getattr(import_module(module), name)


def _make(node: Any, path: _Path, **parts: Any) -> Any:
    """Instantiate a node as Hydra does, but resolve nothing and look up only judged names."""
    if isinstance(node, list):
        return [_make(value, (*path, str(i))) for i, value in enumerate(node)]
    if not isinstance(node, dict):
        return node
    if "_target_" not in node:
        return {key: _make(value, (*path, str(key))) for key, value in node.items()}
    named = {key: value for key, value in node.items() if key not in HYDRA_KEYS}
    positional = node.get("_args_", [])
    if node.get("_recursive_", True):
        named = {key: _make(value, (*path, str(key))) for key, value in named.items()}
        positional = _make(positional, (*path, "_args_"))
    target = _locate(node["_target_"])
    try:
        call = partial(target, *positional, **named, **parts)
        return call if node.get("_partial_") else call()
    except Exception as error:  # a constructor may raise anything
        key = visible(".".join(path))[-80:]
        raise InputError(f"{key} refuses its arguments: {_described(error)}") from error


def _described(error: Exception) -> str:
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return brief(visible(text))
