"""What the study engine has to know of the project that it serves."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pkgutil import resolve_name
from typing import Any

from omegaconf import DictConfig

from stelab.engine.errors import InputError

Mistake = tuple[tuple[str | int, ...], str]  # The path of a key, and what it must be.


@dataclass(frozen=True)
class Component:
    """What a node of a run's configuration may be, where others made the run."""

    base: str  # The class that it is a subclass of.
    homes: tuple[str, ...]  # Modules and packages in which it is defined.
    builders: str | None = None  # A module whose exported functions will do as well.


@dataclass(frozen=True)
class Project:
    """What a project declares to the engine, once; most objects are named, not imported.

    Some keys of a run are the engine's own and in every project's schema of ``"train"``: study,
    seed, rerun, dry_run, retries, on_failure, only, monitor, better, tags, trial, names and paths.
    """

    # Configurations.
    schemas: Mapping[str, Any]  # The keys of each command, a TypedDict; "train" is what a run is.
    classes: Mapping[str, str]  # Nodes without a _target_: the arguments of one class.
    apart: Mapping[str, tuple[str, ...]]  # Keys of nodes that are not for their _target_.
    contradictions: Callable[[dict[str, Any]], Iterator[Mistake]]  # What is wrong between keys.
    resolvers: Mapping[str, Callable[[DictConfig], Any]]  # ${stelab.NAME:}, of the whole.
    extras: Mapping[str, str]  # Components that need an optional package, and its name.
    # The identity of a run.
    run_name: Callable[[DictConfig], str]  # Names a run readably; a hash follows.
    without_effect: tuple[str, ...]  # Keys that may differ between two runs of the same result.
    first_values: Mapping[str, Any]  # Those of them that ids count, always as what they were first.
    later_keys: Mapping[str, Any]  # Keys that older runs lack, and what they are without them.
    file_keys: tuple[str, ...]  # Keys of a run's folder or checkpoint, which counts by its content.
    moved: Mapping[str, str]  # Components' names in older runs, and now; ids use the older ones.
    # Studies.
    named_groups: tuple[str, ...]  # Groups whose options name runs and rows of tables.
    groups: tuple[str, ...]  # Groups that a run's configuration ends with.
    metric: str  # The headline, without its split, of runs whose record says none; lower is better.
    losses: tuple[str, ...]  # What is trained and validated on, shown while a run trains.
    panels: Mapping[str, tuple[str, ...]]  # Figures of metrics over epochs, by their names.
    asides: Mapping[str, str]  # Metrics with a column of their own in the table, and its title.
    families: tuple[str, ...]  # Prefixes of the metrics with further curves.
    results: tuple[str, ...]  # Prefixes of the metrics that identical runs share bit by bit.
    trained: str  # What a run trains, for the report.
    versions: tuple[str, ...]  # Packages whose versions a run records.
    # What a run that others made may build.
    components: Mapping[str, Component]  # By group.
    parts: Mapping[str, Component]  # By the name of a node, wherever it stands.
    members: Mapping[str, Component]  # By the name of the table that a node stands in.
    products: Mapping[str, str]  # The class that building a group must give.
    imports: tuple[str, ...]  # Modules that a run imports, once for all workers of a machine.
    # Functions, as "module:function".
    train: str  # Of a configuration, a finished run, a seat: trains, or returns what is finished.
    # Of configurations, each with a function of a seat: calls these, which train together; returns
    # what they return, and None of those that must train alone.
    train_stacked: str
    kind: str  # Of a configuration: what it shares with those that it could be stacked with.
    lonely: str  # Of a configuration: why it cannot be stacked with any; empty where it can.
    reconstructions: str  # Of a comparison: draws test images and what is left of them.
    read_codes: str  # Of a run: what the projector shows of it.
    write_codes: str  # Writes that into a folder.


@cache
def project() -> Project:
    """Return the declaration; it is read when it is first needed."""
    declared: Project = resolve_name("stelab.project:PROJECT")
    return declared


def require_package(package: str, *, extra: str, user: str) -> None:
    """Raise InputError if a package is not installed that `user`, e.g. ``sweep=optuna``, needs."""
    if find_spec(package) is None:
        raise InputError(f"{user} needs {package}: pip install 'stelab[{extra}]'")


def now_called(target: str) -> str:
    """Return the name that a component of an older run has today."""
    return _renamed(target, project().moved)


def first_called(target: str) -> str:
    """Return the name that a component had in the first runs."""
    return _renamed(target, {new: old for old, new in project().moved.items()})


def _renamed(target: str, names: Mapping[str, str]) -> str:
    for name, other in names.items():
        if target == name or target.startswith(f"{name}."):
            return other + target[len(name) :]
    return target
