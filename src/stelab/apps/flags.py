"""The flags of a command: Hydra's, but for those that make no sense in stelab."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import NoReturn

from stelab.engine.config.validate import suggestion
from stelab.engine.errors import InputError


def read_flags(arguments: Sequence[str]) -> argparse.Namespace:
    """Separate flags, which may stand anywhere, from overrides; refuse mistaken ones."""
    parser = flag_parser()
    flags, unknown = parser.parse_known_intermixed_args(list(arguments))
    if unknown:
        known = [name for action in parser._actions for name in action.option_strings]
        flag = unknown[0].partition("=")[0]
        raise InputError(f"{unknown[0]} is not a flag{suggestion(flag, known)}")
    for name in ("resolve", "package"):
        if getattr(flags, name) and not (flags.cfg or flags.help):
            raise InputError(f"--{name} changes what --cfg shows: add --cfg job")
    return flags


def flag_parser() -> argparse.ArgumentParser:
    """Make the parser, which `--hydra-help` shows too."""
    parser = _Parser(add_help=False)
    parser.add_argument("overrides", nargs="*", help="group=option and key=value")
    parser.add_argument("--help", "-h", action="store_true", help="The command's help")
    parser.add_argument("--hydra-help", action="store_true", help="Hydra's help")
    parser.add_argument("--version", action="store_true", help="stelab's version")
    parser.add_argument("--config-dir", "-cd", help="A folder with further groups")
    parser.add_argument("--resolve", action="store_true", help="With --cfg: resolve what it shows")
    parser.add_argument("--package", "-p", help="With --cfg: a part of it, such as optimizer")
    one = parser.add_mutually_exclusive_group()
    one.add_argument("--run", "-r", action="store_true", help="Run once, the default")
    one.add_argument("--multirun", "-m", action="store_true", help="Run a sweep")
    one.add_argument(
        "--cfg", "-c", choices=["job", "hydra", "all"], help="Print the configuration, run nothing"
    )
    one.add_argument(
        "--info",
        "-i",
        nargs="?",
        const="all",
        choices=["all", "config", "defaults", "defaults-tree", "plugins", "searchpath"],
        help="Print how it was composed, run nothing",
    )
    one.add_argument(
        "--shell-completion", "-sc", action="store_true", help="Install tab completion"
    )
    return parser


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError(message)
