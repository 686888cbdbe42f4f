"""From a configuration back to the overrides that compose it."""

from __future__ import annotations

from typing import cast

from hydra.core.config_loader import ConfigLoader
from omegaconf import DictConfig, OmegaConf

from stelab.engine.config.compose import compose_job
from stelab.engine.config.identity import fingerprint, fingerprint_of_resolved
from stelab.engine.config.overrides import (
    Tree,
    agrees,
    changes,
    without_effect_from,
    write_override,
)
from stelab.engine.config.validate import is_valid, plain
from stelab.engine.errors import InputError


class Decomposer:
    """Finds the overrides of ``stelab train`` for configurations.

    Args:
        loader: Hydra's.

    Attributes:
        defaults: What no overrides compose.
    """

    defaults: Tree

    def __init__(self, loader: ConfigLoader):
        self.loader = loader
        self._known: dict[tuple[str, ...], tuple[Tree, Tree]] = {}
        self._groups: dict[str, list[str]] = {}
        self.defaults, _ = self._choose()

    def overrides(self, config: Tree, identity: str | None) -> list[str]:
        """Return overrides, but for the seed and what cannot change a result.

        Args:
            config: A resolved configuration, as config.yaml holds it.
            identity: Its fingerprint, which the overrides reach.

        Raises:
            InputError: There are none: says why.
        """
        choices, composed, raw = self._guess(config)
        found = [*choices, *changes(composed, {**config, "seed": composed["seed"]}, raw)]
        if self._is_made(config, composed, raw, identity):
            return found
        for _ in range(3):
            cfg = self._compose_with_seed(found, config)
            if fingerprint(cfg) == identity:
                return found
            composed, raw = _trees(cfg)
            more = [*changes(composed, config, raw)] or [*changes(composed, config, {})]
            if not more:
                raise InputError("the fingerprint in run.json is not that of its configuration")
            found = [*found, *more]
        raise InputError("the installed groups do not make its configuration")

    def _compose_with_seed(self, overrides: list[str], config: Tree) -> DictConfig:
        seed = write_override("seed", config["seed"])
        return compose_job(self.loader, "train", [*overrides, seed])

    def _is_made(self, config: Tree, composed: Tree, raw: Tree, identity: str | None) -> bool:
        """Tell without composing, which takes a hundred times as long; False: perhaps."""
        known = fingerprint_of_resolved(config) == identity and agrees(raw, config, config)
        return known and is_valid(without_effect_from(composed, config), "train")

    def _guess(self, config: Tree) -> tuple[list[str], Tree, Tree]:
        """Choose the options of groups; return with them what they compose, resolved and not."""
        if missing := [key for key in self.defaults if key not in config]:
            raise InputError(f"its configuration has no {missing[0]}")
        choices = self._named(config["names"])
        for group in self.defaults:
            if group not in self.defaults["names"]:
                choices += self._option(group, config)
        return choices, *self._choose(*choices)

    def _named(self, names: Tree) -> list[str]:
        """Choose the options that the configuration names."""
        for group in self.defaults["names"]:
            if names.get(group) not in self._options(group):
                raise InputError(f"{group}={names.get(group)} is not among the installed groups")
        return [
            f"{group}={names[group]}"
            for group, default in self.defaults["names"].items()
            if group == "estimator" or names[group] != default
        ]

    def _option(self, group: str, config: Tree) -> list[str]:
        """Choose the option that needs the fewest changes; nothing where it is the default."""

        def distance(choice: list[str]) -> int:
            composed, raw = self._choose(*choice)
            return len([*changes({group: composed[group]}, {group: config[group]}, raw)])

        if distance([]) == 0:
            return []
        options = [[f"{group}={option}"] for option in self._options(group)]
        return min([[], *options], key=distance)

    def _options(self, group: str) -> list[str]:
        if group not in self._groups:
            self._groups[group] = self.loader.get_group_options(group)
        return self._groups[group]

    def _choose(self, *choices: str) -> tuple[Tree, Tree]:
        """Return the configuration with some options of groups, resolved and not; once each."""
        if choices not in self._known:
            self._known[choices] = _trees(compose_job(self.loader, "train", choices))
        return self._known[choices]


def _trees(cfg: DictConfig) -> tuple[Tree, Tree]:
    return plain(cfg), cast(Tree, OmegaConf.to_container(cfg, resolve=False))
