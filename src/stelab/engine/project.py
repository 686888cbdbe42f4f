"""What the study engine has to know of the project that it serves."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any

from omegaconf import DictConfig

DECLARED_IN = "stelab.project"

Mistake = tuple[tuple[str | int, ...], str]
"""The path of a key, and what it must be."""


@dataclass(frozen=True)
class Component:
    """What a node of a run's configuration may be, where others made the run.

    Attributes:
        base: The class that it is a subclass of.
        homes: Modules, and packages, in which it is defined.
        builders: A module whose functions will do as well, those that it exports.
    """

    base: str
    homes: tuple[str, ...]
    builders: str | None = None


@dataclass(frozen=True)
class Project:
    """What a project declares to the engine, once. Objects are named, not imported.

    Attributes:
        schemas: The keys of each command, a pydantic dataclass; ``"train"`` is what a run is.
        classes: Nodes without a `_target_`: the arguments of one class.
        apart: Keys of nodes that are not for their `_target_`.
        contradictions: Yields what is wrong between the keys of a configuration.
        resolvers: What YAML may say, as ``${stelab.NAME:}``, of the whole configuration.
        run_name: Names a run readably; a hash follows.
        without_effect: Keys that may differ between two runs of the same result.
        named_groups: Groups whose options name runs and rows of tables.
        groups: Groups that a run's configuration ends with.
        metric: What runs are compared by; every finished one has it.
        live: The same metric while a run trains, as curves show it, the more telling first.
        losses: What is trained and validated on, as they are told while a run trains.
        panels: Figures of metrics over epochs, one above the other, by their names.
        asides: Metrics with a column of their own in the printed table, by their titles.
        families: What the names of further curves begin with.
        results: What the names of metrics begin with that are the same, bit by bit, for twins.
        trained: What a run trains, for the report.
        versions: Packages whose versions a run records.
        components: What the nodes of groups may be in a run that others made.
        parts: The same of nodes with these names, wherever they stand.
        members: The same of the nodes in tables with these names.
        products: What building a group must give.
        moved: Where components are now that older runs name otherwise. Run ids are made with the
            older names, so they stay.
        train: A function of a configuration: trains, or returns what is finished.
        reconstructions: A function of a comparison: draws test images and what is left of them.
        read_codes: A function of a run: what the projector shows of it.
        write_codes: A function that writes that into a folder.
    """

    schemas: Mapping[str, type[Any]]
    classes: Mapping[str, str]
    apart: Mapping[str, tuple[str, ...]]
    contradictions: Callable[[dict[str, Any]], Iterator[Mistake]]
    resolvers: Mapping[str, Callable[[DictConfig], Any]]
    run_name: Callable[[DictConfig], str]
    without_effect: tuple[str, ...]
    named_groups: tuple[str, ...]
    groups: tuple[str, ...]
    metric: str
    live: tuple[str, ...]
    losses: tuple[str, ...]
    panels: Mapping[str, tuple[str, ...]]
    asides: Mapping[str, str]
    families: tuple[str, ...]
    results: tuple[str, ...]
    trained: str
    versions: tuple[str, ...]
    components: Mapping[str, Component]
    parts: Mapping[str, Component]
    members: Mapping[str, Component]
    products: Mapping[str, str]
    moved: Mapping[str, str]
    train: str
    reconstructions: str
    read_codes: str
    write_codes: str


@cache
def project() -> Project:
    """Return the declaration; it is read when it is first needed."""
    declared: Project = import_module(DECLARED_IN).PROJECT
    return declared


def load(name: str) -> Any:
    """Import what a declaration names."""
    module, _, attribute = name.rpartition(".")
    return getattr(import_module(module), attribute)


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
