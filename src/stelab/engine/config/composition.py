"""What a configuration was composed with, which it carries with it."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from omegaconf import DictConfig

from stelab.engine.config.identity import fingerprint


@dataclass(frozen=True)
class Composition:
    """How to compose a configuration again."""

    overrides: tuple[str, ...] = ()  # As typed, or as a sweep made them; none of Hydra's keys.
    choices: Mapping[str, str | None] = field(default_factory=dict)  # The option of each group.
    swept: tuple[str, ...] = ()  # The keys that differ between the jobs of its sweep.
    config_dir: str | None = None  # The folder of further groups (--config-dir).
    fingerprint: str = ""  # Of what was composed.


def remember(
    cfg: DictConfig,
    overrides: Iterable[str],
    choices: Mapping[str, str | None],
    *,
    swept: Iterable[str] = (),
    config_dir: str | None = None,
    identity: str | None = None,
) -> None:
    """Attach a `Composition` to a configuration, which its copies and pickles keep.

    Its fingerprint is `identity`, where somebody has computed it already.
    """
    groups = {group: option for group, option in choices.items() if not group.startswith("hydra/")}
    # OmegaConf's own place for what is known of a node and is no part of its content.
    cfg._metadata.__dict__["composition"] = Composition(
        tuple(overrides), groups, tuple(swept), config_dir, identity or fingerprint(cfg)
    )


def composition_of(cfg: DictConfig) -> Composition | None:
    """Return what a configuration was composed with; None if it was made in another way."""
    composition: Composition | None = cfg._metadata.__dict__.get("composition")
    return composition


def recorded(cfg: DictConfig) -> dict[str, Any] | None:
    """Return a `Composition` as run.json holds it; None if `cfg` was changed after composing."""
    composition = composition_of(cfg)
    if composition is None or composition.fingerprint != fingerprint(cfg):
        return None
    return {key: value for key, value in asdict(composition).items() if key != "fingerprint"}


def overrides_of(cfg: DictConfig) -> list[str]:
    """Return the overrides that a configuration was composed with."""
    composition = composition_of(cfg)
    return list(composition.overrides) if composition else []
