"""Compose a configuration from the YAML groups, and build objects from it."""

import copy
import pickle
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, TypeVar, cast

from hydra import version
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import CachingConfigRepository, ConfigRepository
from hydra._internal.hydra import Hydra
from hydra._internal.sources_registry import SourcesRegistry
from hydra._internal.utils import create_config_search_path
from hydra.core.config_loader import ConfigLoader
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import (
    ConfigCompositionException,
    InstantiationException,
    MissingConfigException,
    OverrideParseException,
)
from hydra.types import RunMode
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf, base, open_dict

from stelab.engine.config.composition import remember
from stelab.engine.config.files import CheckedFiles, self_inclusion
from stelab.engine.config.identity import fingerprinted, register_resolvers
from stelab.engine.config.input_errors import mistake
from stelab.engine.config.signature import import_signature, why_not_found
from stelab.engine.config.validate import keys_of, require_keys, suggestion, validate, without_hydra
from stelab.engine.errors import InputError
from stelab.engine.project import project, require_package
from stelab.engine.terminal import one_line, shortened

# The YAML groups: inside the installed package, or at the top of a checkout.
_PACKAGE = Path(__file__).resolve().parents[2]
CONF_DIR = _PACKAGE / "conf" if (_PACKAGE / "conf").is_dir() else _PACKAGE.parents[1] / "conf"

Composed = TypeVar("Composed")
_GIVEN = "command-line"  # Hydra's name for where --config-dir comes from


def compose(*overrides: str, command: str = "train", config_dir: str | None = None) -> DictConfig:
    """Compose and check the configuration that ``stelab COMMAND OVERRIDES...`` would use.

    Args:
        overrides: As on the command line, e.g. ``"estimator=hardtanh_clip"``, ``"seed=1"``.
        command: The command whose defaults to start from.
        config_dir: A folder with further groups, as with ``--config-dir``.

    Raises:
        InputError: Names every mistake.
    """
    with search(config_dir) as loader:
        return compose_job(loader, command, overrides, fix_folder=False)


class _Folders(ConfigRepository):
    """Where Hydra finds groups. For every look it takes a copy, to which it may add folders."""

    def __deepcopy__(self, memo: Any) -> ConfigRepository:
        return copy.copy(self)  # not of all that is in them: half the time of ``--help``


@contextmanager
def search(config_dir: str | None) -> Iterator[ConfigLoader]:
    """Yield the loader of an `application`, which composes configurations."""
    with application(config_dir) as hydra:
        yield hydra.config_loader


@contextmanager
def application(config_dir: str | None) -> Iterator[Hydra]:
    """Make a Hydra application; a running one, such as a command's, is put aside meanwhile."""
    if config_dir is not None and not Path(config_dir).is_dir():
        raise InputError(f"--config-dir must be a folder, got '{config_dir}'")
    register_resolvers()
    version.setbase("1.3")
    # The public API has no counterpart of --config-dir; this is what the flag itself does.
    path = create_config_search_path(str(CONF_DIR))
    SourcesRegistry.instance().types["file"] = CheckedFiles
    if config_dir is not None:
        user = f"file://{Path(config_dir).resolve()}"
        path.prepend(_GIVEN, user, SearchPathQuery(provider="schema"))
    state = GlobalHydra.instance()
    running, state.hydra = state.hydra, None
    try:
        with _parsing_once():
            hydra = Hydra.create_main_hydra2("stelab", path)
            cast(ConfigLoaderImpl, hydra.config_loader).repository = _Folders(path)
            yield hydra
    finally:
        state.hydra = running
        for cache in (
            _composed,
            parse,
            _files,
            _is_group,
        ):  # of this loader, which nobody has any more
            cache.cache_clear()


@contextmanager
def _parsing_once() -> Iterator[None]:
    """Parse an interpolation once, and not for each job that has it: a quarter of a job's time."""
    omegaconf: Any = base
    parse = omegaconf.parse
    omegaconf.parse = lru_cache(maxsize=1024)(parse)
    try:
        yield
    finally:
        omegaconf.parse = parse


def compose_whole(loader: ConfigLoader, command: str, overrides: Sequence[str]) -> DictConfig:
    """Compose a configuration with its `hydra` node; raise an InputError for any mistake."""
    return _compose_explained(loader, command, overrides, partial(_load, loader, command))


def is_sweep(loader: ConfigLoader, command: str, overrides: Sequence[str]) -> bool:
    """Whether a configuration has ``hydra.mode=MULTIRUN``; raise an InputError for any mistake."""

    def mode(overrides: Sequence[str]) -> Any:
        choices, _ = _split(loader, command, overrides)
        return _composed(loader, command, choices)[1].hydra.mode

    return _compose_explained(loader, command, overrides, mode) == RunMode.MULTIRUN


def compose_job(
    loader: ConfigLoader,
    command: str,
    overrides: Sequence[str],
    *,
    swept: Sequence[str] = (),
    fix_folder: bool = True,
) -> DictConfig:
    """Compose and check one of many jobs, whose `swept` keys differ; resolve its `paths.run`.

    It is what Hydra composes, in a tenth of the time: jobs that choose the same groups share one
    composition of them, and each sets its values in a copy, with Hydra's own function. (So
    ``${hydra:overrides}`` and what is made of it are of the groups alone.)
    """
    compose = partial(_compose_job, loader, command, fix_folder)
    cfg, choices, identity = _compose_explained(loader, command, overrides, compose)
    kept = [line for line in overrides if not parse(loader, line).is_hydra_override()]
    entries = loader.get_search_path().get_path()
    given = next((str(entry.path) for entry in entries if entry.provider == _GIVEN), None)
    config_dir = given and given.removeprefix("file://")
    remember(cfg, kept, choices, swept=swept, config_dir=config_dir, identity=identity)
    return cfg


def _compose_job(
    loader: ConfigLoader, command: str, fix_folder: bool, overrides: Sequence[str]
) -> tuple[DictConfig, Any, str | None]:
    """Return a job's configuration, the option that was chosen of each group, the fingerprint."""
    choices, values = _split(loader, command, overrides)
    shared, hydra_node = _composed(loader, command, choices)
    cfg = pickle.loads(shared)  # in half the time of a copy
    ConfigLoaderImpl._apply_overrides_to_config(values, cfg)
    require_keys(cfg, command)
    if any(value.key_or_group.startswith("names") for value in values):
        _resolve_names(cfg, hydra_node)
    identity = None
    with suppress(Exception):  # `validate` says what is wrong
        with fingerprinted(cfg) as known:
            identity = known
            if fix_folder and (folder := cfg.get("paths", {}).get("run")):
                cfg.paths.run = folder  # computed once, not for each that refers to it
    validate(cfg, command)
    return cfg, hydra_node.hydra.runtime.choices, identity


def _resolve_names(cfg: DictConfig, hydra_node: Any) -> None:
    """Make names of what refers to Hydra's choices."""
    if OmegaConf.is_dict(cfg.get("names")):  # `validate` says that it must be
        with _hydra_node(hydra_node):
            names = OmegaConf.to_container(cfg.names, resolve=True)
        with open_dict(cfg):
            cfg.names = names


def build(node: Any, *args: Any, **kwargs: Any) -> Any:
    """Build the object that a configuration node with a `_target_` describes.

    Raises:
        InputError: The target cannot be found, or refuses its arguments.
    """
    register_resolvers()  # a node that was not composed may refer to them too
    target = node.get("_target_") if isinstance(node, dict | DictConfig) else None
    if package := project().extras.get(str(target)):
        require_package(package, extra=package, user=str(target))
    try:
        return instantiate(node, *args, _convert_="all", **kwargs)
    except Exception as error:
        cause = (error.__cause__ if isinstance(error, InstantiationException) else None) or error
        name = _refusing_target(node, error)
        if str(error).startswith("Error locating target"):
            reason = why_not_found(name, cause.__cause__ or cause)
            raise InputError(f"{name} cannot be used: {reason}") from error
        reason = str(cause)
        if cause is not error and not isinstance(cause, InputError):
            reason = f"{type(cause).__name__}: {reason}"
            if refused := re.search(r"unexpected keyword argument '(\w+)'$", reason):
                with suppress(LookupError):
                    reason += suggestion(refused[1], import_signature(name).annotations)
        raise InputError(f"{name} refuses its arguments: {one_line(reason)}") from error


def _refusing_target(node: Any, error: Exception) -> str:
    """Name the target that refused: the node's as it is written, or that of a node inside it."""
    if not isinstance(node, dict | DictConfig):
        return shortened(str(node))
    key = node._get_full_key(None) if isinstance(node, DictConfig) else ""
    inner = re.match(r"Error .* target '(.+?)'.*\nfull_key: (\S+)$", str(error), re.DOTALL)
    if inner and inner[2] != key:
        return shortened(inner[1])
    return shortened(str(node.get("_target_") or node))


def _load(loader: ConfigLoader, command: str, overrides: Sequence[str]) -> DictConfig:
    return loader.load_configuration(command, [*overrides], RunMode.RUN, from_shell=False)


@lru_cache(maxsize=1024)
def _composed(loader: ConfigLoader, command: str, choices: tuple[str, ...]) -> tuple[bytes, Any]:
    """Compose groups: the part that is not Hydra's, pickled, and what ``${hydra:...}`` means."""
    cfg = _load(loader, command, choices)
    rest = without_hydra(cfg)
    OmegaConf.set_struct(rest, True)
    with _hydra_node(None):
        HydraConfig.instance().set_config(cfg)
        hydra_node = HydraConfig.instance().cfg
    _resolve_names(rest, hydra_node)
    return pickle.dumps(rest), hydra_node


@lru_cache(maxsize=8192)
def parse(loader: ConfigLoader, line: str) -> Override:
    """Parse an override; raise InputError if it is none."""
    message = f"'{one_line(line)}' is not an override: "
    try:
        (override,) = OverridesParser.create(config_loader=loader).parse_overrides([line])
    except Exception as error:
        bad_syntax = isinstance(error, OverrideParseException)
        reason = "write key=value" if bad_syntax else mistake(error)
        raise InputError(message + reason) from error
    if not override.key_or_group:
        raise InputError(f"{message}write key=value")
    return override


def _split(
    loader: ConfigLoader, command: str, overrides: Sequence[str]
) -> tuple[tuple[str, ...], list[Override]]:
    """Separate what decides which files are read, or what Hydra itself does, from values."""
    search_path = tuple(line for line in overrides if line.lstrip("+").startswith("hydra.search"))
    files = _files(loader, command, search_path)
    choices, values = list[str](), list[Override]()
    for override in [parse(loader, line) for line in overrides]:
        key = override.key_or_group
        is_value = isinstance(override.value(), dict) or not _is_group(files, key)
        if is_value and not override.is_hydra_override() and not override.is_sweep_override():
            values.append(override)
        else:
            choices.append(str(override.input_line))
    return tuple(choices), values


@lru_cache(maxsize=64)
def _files(
    loader: ConfigLoader, command: str, search_path: tuple[str, ...]
) -> CachingConfigRepository:
    impl = cast(ConfigLoaderImpl, loader)
    return impl._parse_overrides_and_create_caching_repo(command, list(search_path))[1]


@lru_cache(maxsize=1024)
def _is_group(files: CachingConfigRepository, key: str) -> bool:
    exists: bool = files.group_exists(key)
    return exists


@contextmanager
def _hydra_node(node: Any) -> Iterator[None]:
    """Make ``${hydra:...}`` refer to `node` meanwhile."""
    state = HydraConfig.instance()
    previous, state.cfg = state.cfg, node
    try:
        yield
    finally:
        state.cfg = previous


def _compose_explained(
    loader: ConfigLoader,
    command: str,
    overrides: Sequence[str],
    compose: Callable[[Sequence[str]], Composed],
) -> Composed:
    """Return what `compose` makes; raise an InputError that names the override it fails for."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("error", message="provider=")  # is not available
            return compose(overrides)
    except InputError:
        raise
    except MissingConfigException as error:
        options = sorted(error.options or [])
        group, _, name = str(error.missing_cfg_file).rpartition("/")
        message = f"{group or 'config'}={name} does not exist{suggestion(name, options)}"
        available = f" (available: {', '.join(options)})" if options else ""
        raise InputError(message + available) from error
    except OverrideParseException as error:
        raise InputError(f"'{error.override}' is not an override: write key=value") from error
    except RecursionError as error:
        loop = self_inclusion(error, loader.get_sources())
        raise InputError(loop or _failing_override(error, loader, overrides, compose)) from error
    except Exception as error:
        key = _unknown_key(error, loader, command, overrides)
        raise InputError(key or _failing_override(error, loader, overrides, compose)) from error


def _failing_override(
    error: Exception,
    loader: ConfigLoader,
    overrides: Sequence[str],
    compose: Callable[[Sequence[str]], object],
) -> str:
    """Describe an error with the first override for which composing fails, if it needs one."""
    message = mistake(error)
    for count in range(len(overrides) + 1):
        try:
            compose(overrides[:count])
        except InputError:
            continue
        except Exception:
            break
    else:
        count = 0
    if count == 0:  # no override is to blame
        return one_line(message)
    line = overrides[count - 1]
    override = parse(loader, line)
    options = loader.get_group_options(override.key_or_group)
    if options and not isinstance(override.value(), str):
        message = f"{override.key_or_group} takes one of {', '.join(options)}"
    return one_line(message if line in message else f"'{line}' cannot be applied: {message}")


def _unknown_key(
    error: Exception, loader: ConfigLoader, command: str, overrides: Sequence[str]
) -> str | None:
    """Return which keys there are, if an override was of one that is not there."""
    text = str(error)
    if not isinstance(error, ConfigCompositionException) or "already" in text:
        return None
    if not (quoted := re.match(r"Could not[^']*'([^']*)", text)):
        return None
    key = getattr(error.__cause__, "full_key", None) or quoted[1]
    tree: Any = {}  # what the groups alone compose, as far as they do
    choices = [o for o in overrides if loader.get_group_options(o.partition("=")[0])]
    for lines in ([], choices):
        with suppress(Exception):
            tree = OmegaConf.to_container(_load(loader, command, lines), resolve=False)
    known = [k for k in keys_of(tree) if not f"{key}.".startswith(f"{k}.") and k != "hydra"]
    parent = key.rpartition(".")[0]
    siblings = [k for k in known if k.rpartition(".")[0] == parent and not k.endswith("_target_")]
    hint = suggestion(key, known) or (f" (there are: {', '.join(siblings)})" if siblings else "")
    return f"{key} is not a key here{hint}"
