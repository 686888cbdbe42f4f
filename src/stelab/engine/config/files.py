"""YAML files of configuration groups, read within bounds; errors name the file and the line."""

import os
import traceback
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from hydra._internal.core_plugins.file_config_source import FileConfigSource
from hydra.plugins.config_source import ConfigResult, ConfigSource
from omegaconf import DictConfig, OmegaConf
from omegaconf._utils import get_yaml_loader

from stelab.engine.config.input_errors import described
from stelab.engine.errors import InputError
from stelab.engine.files import read_bounded
from stelab.engine.terminal import one_line

BYTES = 2**18  # that a file may hold
NODES = 10_000  # entries that a file may have, with all that its aliases repeat
_OF_COMMANDS = ("hydra/launcher", "hydra/sweeper", "hydra/job_logging", "hydra/hydra_logging")
DEPTH = 50  # tables and lists that may be inside one another


class CheckedFiles(FileConfigSource):
    """A folder in which Hydra finds groups."""

    def is_config(self, config_path: str) -> bool:
        """Whether there is such a name, whatever it is: `load_config` tells what is wrong."""
        return os.path.lexists(Path(self.path, self._normalize_file_name(config_path)))

    def load_config(self, config_path: str) -> ConfigResult:
        """Read a file; raise InputError if it cannot be read, is no YAML, or holds no table."""
        path = Path(os.path.realpath(Path(self.path, self._normalize_file_name(config_path))))
        try:
            text = read_bounded(path, limit=BYTES).decode("utf-8-sig")
        except UnicodeDecodeError as error:
            line = error.object.count(b"\n", 0, error.start) + 1
            raise InputError(f"{path}:{line}: this is no UTF-8 text") from error
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            raise InputError(f"{path} cannot be read: {reason}") from error
        config = _table(path, text)
        # A group has more keys than its file: `validate` knows them, by the target's signature.
        if "/" in config_path:
            _require_effect(path, config)
            OmegaConf.set_struct(config, False)
        return ConfigResult(
            config=config,
            path=f"{self.scheme()}://{self.path}",
            provider=self.provider,
            header=self._get_header_dict(text[:512]),
        )


def self_inclusion(error: RecursionError, sources: Iterable[ConfigSource]) -> str | None:
    """Name the file whose defaults lead back to it, from the stack of Hydra's error, or None."""
    frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__))
    trees = [f.f_locals for f in frames if f.f_code.co_name == "_create_defaults_tree_impl"]
    names = [tree["parent"].get_config_path() for tree in trees if "parent" in tree]
    loop = [name for name in dict.fromkeys(names) if names.count(name) > 1]
    if not loop:
        return None
    files = (Path(source.path, f"{loop[0]}.yaml") for source in sources)
    path = next(filter(Path.is_file, files), Path(loop[0]))
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    line = next((i for i, text in enumerate(lines, 1) if text.startswith("defaults:")), 1)
    return f"{path}:{line}: its defaults lead back to itself: {' > '.join([*loop, loop[0]])}"


def _require_effect(path: Path, config: DictConfig) -> None:
    """Refuse a group's file that chooses what a command's own file does, which Hydra passes by."""
    entries = config.get("defaults")
    for entry in entries if OmegaConf.is_list(entries) else ():
        key = next(iter(entry), "") if OmegaConf.is_dict(entry) else entry
        group = str(key).removeprefix("override").strip().lstrip("/").partition("@")[0]
        if group in _OF_COMMANDS:
            raise InputError(
                f"{path}: its defaults cannot choose {group}, which would have no effect: say "
                f"{group}=NAME on the command line"
            )


def _table(path: Path, text: str) -> DictConfig:
    try:
        return OmegaConf.create(_parse(text))
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise InputError(f"{path}:{line}: YAML has no character {error.character:#x}") from error
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{path}:{mark.line + 1 if mark else 1}"
        raise InputError(one_line(f"{where}: {error.problem} {error.context or ''}")) from error
    except ValueError as error:
        raise InputError(f"{path}: {one_line(str(error))}") from error
    except Exception as error:
        raise InputError(f"{path}: {described(error)}") from error


@lru_cache(maxsize=256)
def _parse(text: str) -> dict[Any, Any]:
    """Return the table in a text, which nobody may change: it is kept, as others read it too."""
    tree = yaml.load(text, Loader=get_yaml_loader())
    _measure(tree, DEPTH)
    if tree is not None and not isinstance(tree, dict):
        raise ValueError(f"it must hold a table (key: value), got a {type(tree).__name__}")
    return tree or {}


def _measure(node: Any, depth: int, left: int = NODES) -> int:
    """Return how many more entries there may be; raise ValueError for too many or too deep."""
    if depth == 0:
        raise ValueError(f"tables and lists are nested more than {DEPTH} deep")
    entries = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    for entry in entries:
        left = _measure(entry, depth - 1, left - 1)
        if left < 0:
            raise ValueError(f"it has more than {NODES} entries, with all that aliases repeat")
    return left
