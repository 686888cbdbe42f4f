"""Compose a configuration from the YAML groups, and build objects from it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hydra
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import (
    ConfigCompositionException,
    HydraException,
    InstantiationException,
    MissingConfigException,
    OverrideParseException,
)
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from stelab.config.identity import register_resolvers
from stelab.config.validate import first_line, keys_of, require_keys, suggestion, validate
from stelab.errors import InputError


def _conf_dir() -> Path:
    """Find the YAML groups: inside the installed package, or at the top of a checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "conf"
    return installed if installed.is_dir() else package.parents[1] / "conf"


CONF_DIR = _conf_dir()
register_resolvers()


def compose(*overrides: str, command: str = "train", config_dir: str | None = None) -> DictConfig:
    """Compose and check the configuration that ``stelab COMMAND OVERRIDES...`` would use.

    Args:
        overrides: As on the command line, e.g. ``"estimator=hardtanh_clip"``, ``"seed=1"``.
        command: The command whose defaults to start from.
        config_dir: A folder with further groups, as with ``--config-dir``.

    Raises:
        InputError: Names every mistake.
    """
    with search(config_dir):
        return strip(compose_one(command, overrides), command)


@contextmanager
def search(config_dir: str | None) -> Iterator[ConfigLoader]:
    """Set up Hydra's search path; inside, `compose_one` works."""
    with hydra.initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        state = GlobalHydra.instance()
        if config_dir is not None:
            if not Path(config_dir).is_dir():
                raise InputError(f"--config-dir must be a folder, got '{config_dir}'")
            # The public API has no counterpart of --config-dir; this is what the flag itself does.
            path = create_config_search_path(str(CONF_DIR))
            user = f"file://{Path(config_dir).resolve()}"
            path.prepend("command-line", user, SearchPathQuery(provider="schema"))
            state.clear()
            Hydra.create_main_hydra2("stelab", path)
        yield state.config_loader()


def compose_one(command: str, overrides: tuple[str, ...] | list[str]) -> DictConfig:
    """Compose one job's configuration, with its `hydra` node; turn Hydra's errors into ours."""
    try:
        return hydra.compose(command, list(overrides), return_hydra_config=True)
    except MissingConfigException as error:
        wanted = str(error.missing_cfg_file)
        options = sorted(error.options or [])
        group, _, name = wanted.rpartition("/")
        raise InputError(
            f"{group or 'config'}={name} does not exist{suggestion(name, options)}"
            + (f" (available: {', '.join(options)})" if options else "")
        ) from error
    except OverrideParseException as error:
        raise InputError(f"'{error.override}' is not an override: write key=value") from error
    except ConfigCompositionException as error:
        raise InputError(_explain(error, command, overrides)) from error
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        raise InputError(str(error)) from error


def strip(cfg: DictConfig, command: str) -> DictConfig:
    """Resolve what needs the `hydra` node, drop the node, and check the rest."""
    require_keys(cfg, command)
    if "names" in cfg:
        previous = HydraConfig.instance().cfg
        try:
            HydraConfig.instance().set_config(cfg)
            names = OmegaConf.to_container(cfg.names, resolve=True)
        finally:
            HydraConfig.instance().cfg = previous
        with open_dict(cfg):
            cfg.names = names
    own = OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])
    OmegaConf.set_struct(own, True)
    validate(own, command)
    return own


def build(node: Any, *args: Any, **kwargs: Any) -> Any:
    """Build the object that a configuration node with a `_target_` describes.

    Raises:
        InputError: The target cannot be found, or refuses its arguments.
    """
    from hydra.utils import instantiate

    try:
        return instantiate(node, *args, _convert_="all", **kwargs)
    except InstantiationException as error:
        cause = error.__cause__
        what = f"{type(cause).__name__}: {cause}" if cause else str(error)
        target = OmegaConf.select(node, "_target_") if OmegaConf.is_config(node) else None
        raise InputError(f"{target or node} refuses its arguments: {what}") from error


def _explain(
    error: ConfigCompositionException, command: str, overrides: tuple[str, ...] | list[str]
) -> str:
    """Explain an override of a key that is not there."""
    text = first_line(error)
    if not text.startswith("Could not") or "'" not in text:
        return str(error)
    key = text.split("'")[1]
    is_group = GlobalHydra.instance().config_loader().get_group_options
    choices = [o for o in overrides if is_group(o.partition("=")[0])]
    tree = OmegaConf.to_container(hydra.compose(command, choices), resolve=False)
    known = list(keys_of(tree))
    parent = key.rpartition(".")[0]
    siblings = [k for k in known if k.rpartition(".")[0] == parent and not k.endswith("_target_")]
    hint = suggestion(key, known) or (f" (there are: {', '.join(siblings)})" if siblings else "")
    return f"{key} is not a key here{hint}"


__all__ = ["CONF_DIR", "build", "compose", "compose_one", "search", "strip"]
