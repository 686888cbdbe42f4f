"""What a configuration was composed with, which it carries with it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from omegaconf import DictConfig

from stelab.engine.config.identity import fingerprint


@dataclass(frozen=True)
class Composition:
    """How to compose a configuration again.

    Attributes:
        overrides: Those of its own keys, as they were typed, or as a sweep made them: those of
            Hydra's keys say where and how jobs run, not what they are.
        choices: The option of every group; None where none was chosen.
        swept: The keys that differ between the jobs of its sweep; empty for a single run.
        config_dir: The folder of further groups (``--config-dir``), where there was one.
        fingerprint: Of what was composed.
    """

    overrides: tuple[str, ...] = ()
    choices: Mapping[str, str | None] = field(default_factory=dict)
    swept: tuple[str, ...] = ()
    config_dir: str | None = None
    fingerprint: str = ""


def remember(
    cfg: DictConfig,
    overrides: Iterable[str],
    choices: Mapping[str, str | None],
    *,
    swept: Iterable[str] = (),
    config_dir: str | None = None,
) -> None:
    """Let a configuration carry its `Composition`: a copy and a pickle of it do, too."""
    own = {group: option for group, option in choices.items() if not group.startswith("hydra/")}
    # OmegaConf's own place for what is known of a node and is no part of its content.
    cfg._metadata.__dict__["composition"] = Composition(
        tuple(overrides), own, tuple(swept), config_dir, fingerprint(cfg)
    )


def composition_of(cfg: DictConfig) -> Composition | None:
    """Return what a configuration was composed with; None where it was made in another way."""
    found: Composition | None = cfg._metadata.__dict__.get("composition")
    return found


def recorded(cfg: DictConfig) -> dict[str, Any] | None:
    """Return a `Composition` as run.json holds it; None where it does not make `cfg`.

    So it is where a program has changed the configuration after it was composed.
    """
    found = composition_of(cfg)
    if found is None or found.fingerprint != fingerprint(cfg):
        return None
    return {key: value for key, value in asdict(found).items() if key != "fingerprint"}


def overrides_of(cfg: DictConfig) -> list[str]:
    """Return the overrides that a configuration was composed with."""
    composition = composition_of(cfg)
    return list(composition.overrides) if composition else []
