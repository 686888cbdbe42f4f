"""``stelab COMMAND [overrides]``: choose the command, check its configuration, run it.

Nothing here imports torch: help, completion and mistakes answer at once.
"""

from __future__ import annotations

import argparse
import logging
import os
import re
import shlex
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any, NoReturn

from stelab.engine.archives import remove_unpacked
from stelab.engine.errors import InputError, RunError
from stelab.engine.terminal import robust_streams, shortened, undisturbed, visible

if TYPE_CHECKING:
    from stelab.engine.sweepers.plan import Plan

COMMANDS = {
    "train": "one run, or with -m a sweep; finished runs are not run again",
    "status": "what of a study is finished, running, failed, interrupted or missing",
    "compare": "which setting is better, by how much, is it real: table, figures, report",
    "export": "a study's runs, without checkpoints, to one file that others can read",
    "unpack": "the runs of such a file to where they would lie if they were made here",
    "tensorboard": "curves, hyperparameters and figures of a study in TensorBoard",
    "evaluate": "test metrics and figures of a finished run's checkpoint",
    "gradients": "bias, variance and direction of estimators, against the exact gradient",
    "encode": "images to codes with a trained run",
    "decode": "codes to PNG images with a trained run",
    "bench": "what stelab costs on this machine, beside plain PyTorch",
}
_COMMAND_LINES = "\n".join(f"  {name:<11} {text}" for name, text in COMMANDS.items())
_OVERVIEW = f"""\
stelab: a laboratory for gradient estimators of binary layers.

Usage: stelab COMMAND [group=option ...] [key=value ...]

{_COMMAND_LINES}

stelab COMMAND --help lists groups and keys; --cfg job prints the configuration.
Tab completion: eval "$(stelab -sc install=bash)"
"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command line in this process; nothing of it stays behind but what it wrote.

    Raises SystemExit, unless all went well, with 1 (failed), 2 (bad input) or 128 + signal.
    """
    with robust_streams():
        try:
            _main([*(sys.argv[1:] if arguments is None else arguments)])
            with undisturbed():  # so that its error names stdout
                sys.stdout.flush()
        except KeyboardInterrupt as error:
            _end(error, "interrupted", 128 + signal.SIGINT)
        except BrokenPipeError:
            sys.exit(128 + signal.SIGPIPE)
        except (InputError, RunError) as error:
            _end(error, str(error), 2 if isinstance(error, InputError) else 1)
        except Exception as error:
            from stelab.engine.config.input_errors import described

            _end(error, described(error), 1)
        finally:
            remove_unpacked()


def _end(error: BaseException, message: str, code: int) -> NoReturn:
    """Print what is wrong, a line for each thing; the traceback too if Hydra's users ask for it."""
    lines = map(shortened, visible(message).splitlines())
    with suppress(OSError):  # the exit code tells it too
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            traceback.print_exception(error)
        print("stelab: " + "\n".join(lines), file=sys.stderr, flush=True)
    sys.exit(code)


def _main(arguments: list[str]) -> None:
    if arguments[:1] in (["-sc"], ["--shell-completion"]):
        return _complete(arguments)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        return print(_OVERVIEW, end="")
    if arguments[0] == "--version":
        return print(f"stelab {import_module('stelab').__version__}")
    if arguments[0] not in COMMANDS:
        from stelab.engine.config.validate import suggestion

        hint = suggestion(arguments[0], COMMANDS) or f" (there are: {', '.join(COMMANDS)})"
        raise InputError(f"{arguments[0]} is not a command{hint}")
    run_command(arguments[0], arguments[1:])


def run_command(command: str, arguments: Sequence[str]) -> None:
    """Check the configuration of `command`, then run it as a Hydra application."""
    from stelab.engine.config.input_errors import reading_input
    from stelab.engine.sweepers.plan import plan

    with reading_input():
        app = import_module(f"stelab.apps.{command}")
        texts = getattr(app, "TEXTS", ())  # keys whose values are taken as they stand
        arguments = [literal(every_option(argument), texts) for argument in arguments]
        flags = _read_flags(arguments)
    if flags.version:
        return _main(["--version"])
    if flags.help or flags.hydra_help or flags.cfg or flags.info or flags.shell_completion:
        return _show(command, flags)
    execute = getattr(app, "execute", None)  # of commands that take sweeps
    before, sys.argv = sys.argv, [f"stelab {command}", *arguments]  # see `command_line`
    try:
        with reading_input():
            jobs = plan(
                command,
                flags.overrides,
                multirun=flags.multirun,
                config_dir=flags.config_dir,
                sweeps=execute is not None,
            )
        launch = partial(_launch, command, app, flags, jobs)
        if execute is None:
            launch()
        else:
            execute(jobs, launch)
    finally:
        sys.argv = before


def _read_flags(arguments: Sequence[str]) -> argparse.Namespace:
    """Separate flags, which may stand anywhere, from overrides; refuse mistaken ones."""
    parser = _flag_parser()
    flags, unknown = parser.parse_known_intermixed_args(list(arguments))
    if unknown:
        from stelab.engine.config.validate import suggestion

        known = [name for action in parser._actions for name in action.option_strings]
        flag = unknown[0].partition("=")[0]
        raise InputError(f"{unknown[0]} is not a flag{suggestion(flag, known)}")
    for name in ("resolve", "package"):
        if getattr(flags, name) and not (flags.cfg or flags.help):
            raise InputError(f"--{name} changes what --cfg shows: add --cfg job")
    return flags


def _flag_parser() -> argparse.ArgumentParser:
    """Make the parser, which `--hydra-help` shows too."""
    parser = _Parser(add_help=False)
    add = parser.add_argument
    add("overrides", nargs="*", help="group=option and key=value")
    add("--help", "-h", action="store_true", help="The command's help")
    add("--hydra-help", action="store_true", help="Hydra's help")
    add("--version", action="store_true", help="stelab's version")
    add("--config-dir", "-cd", help="A folder with further groups")
    add("--resolve", action="store_true", help="With --cfg: resolve what it shows")
    add("--package", "-p", help="With --cfg: a part of it, such as optimizer")
    add = parser.add_mutually_exclusive_group().add_argument
    add("--run", "-r", action="store_true", help="Run once, the default")
    add("--multirun", "-m", action="store_true", help="Run a sweep")
    cfg = ["job", "hydra", "all"]
    add("--cfg", "-c", choices=cfg, help="Print the configuration, run nothing")
    info = ["all", "config", "defaults", "defaults-tree", "plugins", "searchpath"]
    how = "Print how it was composed, run nothing"
    add("--info", "-i", nargs="?", const="all", choices=info, help=how)
    add("--shell-completion", "-sc", action="store_true", help="Install tab completion")
    return parser


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise InputError(message)


def _show(command: str, flags: argparse.Namespace) -> None:
    """Print help, a configuration or how it was composed; or complete a word."""
    from omegaconf import OmegaConf

    from stelab.engine.config.compose import application, compose_whole
    from stelab.engine.config.input_errors import reading_input
    from stelab.engine.config.validate import keys_of, suggestion

    overrides, parser = flags.overrides, _flag_parser()
    with undisturbed(), reading_input(), _restored_logging(), application(flags.config_dir) as app:
        if flags.shell_completion:
            return app.shell_completion(command, overrides)
        cfg = compose_whole(app.config_loader, command, overrides)  # explains mistakes
        if flags.help:
            app.app_help(command, parser, flags)
        elif flags.hydra_help:
            app.hydra_help(command, parser, flags)
        elif flags.info:
            app.show_info(flags.info, command, overrides)
        else:
            part = flags.package
            if part not in (None, "_global_") and OmegaConf.select(cfg, part) is None:
                hint = suggestion(part, keys_of(OmegaConf.to_container(cfg)))
                raise InputError(f"--package: {part} is not a key here{hint}")
            app.show_cfg(command, overrides, flags.cfg, flags.package, flags.resolve)


class _Failed(BaseException):
    """Carries a job's exception past Hydra, which would print the traceback of an Exception."""


def _launch(command: str, app: ModuleType, flags: argparse.Namespace, plan: Plan) -> None:
    """Run the planned job or sweep as a Hydra application."""
    from stelab.engine.config.compose import application
    from stelab.engine.config.input_errors import reading_input
    from stelab.engine.config.validate import validate

    def task(cfg: Any) -> Any:
        """Run the planned job; in a sweep, one that a foreign launcher has composed."""
        try:
            if not plan.multirun:
                return app.start(plan.jobs[0])
            validate(cfg, command)
            return app.start(cfg)
        except Exception as error:
            raise _Failed(error) from error

    task.jobs = plan.jobs  # type: ignore[attr-defined]  # for stelab's sweepers: they compose none
    overrides = [*flags.overrides, f"hydra.mode={'MULTIRUN' if plan.multirun else 'RUN'}"]
    try:
        with _restored_logging(), application(flags.config_dir) as hydra:
            if plan.multirun:
                hydra.multirun(command, task, overrides)
                return
            with reading_input():
                hydra.run(command, task, overrides)
    except _Failed as failed:
        raise failed.args[0] from None


@contextmanager
def _restored_logging() -> Iterator[None]:
    """Take back afterwards what Hydra sets up for logging."""
    root = logging.getLogger()
    handlers, level = [*root.handlers], root.level
    try:
        yield
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)


def every_option(argument: str) -> str:
    """Read ``group=all`` as Hydra's ``group=glob(*)``."""
    from stelab.engine.config import CONF_DIR

    group, _, option = argument.partition("=")
    return f"{group}=glob(*)" if option == "all" and (CONF_DIR / group).is_dir() else argument


def literal(argument: str, keys: Sequence[str]) -> str:
    """Quote the value of one of `keys`, in which Hydra would read commas and equal signs."""
    key, equals, value = argument.partition("=")
    if key not in keys or not equals or value == "null" or value[:1] in ("'", '"'):
        return argument
    return key + "='" + value.replace("'", "\\'") + "'"


def command_line() -> str:
    """Return what was typed, as it can be pasted into a shell: without the quotes of `literal`."""
    program, *arguments = sys.argv
    typed = [re.sub(r"^(\w+)='(.*)'$", r"\1=\2", argument) for argument in arguments]
    return f"{program} {shlex.join(typed)}"


def study_command(name: str, *, study: str, outputs: str, **more: str) -> str:
    """Return a command on a study, as it can be pasted into a shell."""
    words = {"study": study, **({} if outputs == "outputs" else {"paths.outputs": outputs}), **more}
    return shlex.join(["stelab", name, *(f"{key}={value}" for key, value in words.items())])


def _complete(arguments: list[str]) -> None:
    """Complete the command's name here, what follows it with Hydra's completion."""
    words = os.environ.get("COMP_LINE", "").split(" ")
    if not arguments[-1].startswith("query"):
        return run_command("train", arguments)
    if len(words) <= 2:
        return print("\n".join(name for name in COMMANDS if name.startswith(words[-1])))
    if words[1] in COMMANDS:
        os.environ["COMP_LINE"] = " ".join([words[0], *words[2:]])
        run_command(words[1], arguments)
