"""``stelab COMMAND [overrides]``: choose the command, check its configuration, run it.

Nothing here imports torch: help, completion and mistakes answer at once.
"""

from __future__ import annotations

import logging
import os
import re
import shlex
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, NoReturn

from stelab.engine.errors import InputError, RunError
from stelab.engine.terminal import flush_output, robust_streams, shortened, undisturbed, visible

if TYPE_CHECKING:
    from argparse import Namespace

    from omegaconf import DictConfig

    from stelab.engine.sweepers.plan import Plan

COMMANDS = {
    "train": "one run, or with -m a sweep; finished runs are not run again",
    "status": "what of a study is finished, running, failed, interrupted or missing",
    "compare": "which setting is better, by how much, is it real: table, figures, report",
    "tensorboard": "curves, hyperparameters and figures of a study in TensorBoard",
    "evaluate": "test metrics and figures of a finished run's checkpoint",
    "gradients": "bias, variance and direction of estimators, against the exact gradient",
    "encode": "images to packed bits with a trained run",
    "decode": "packed bits to PNG images with a trained run",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a command line in this process; nothing of it stays behind but what it wrote.

    Raises SystemExit, unless all went well, with 1 (failed), 2 (bad input) or 128 + signal.
    """
    with robust_streams():
        try:
            _main(list(sys.argv[1:] if arguments is None else arguments))
            flush_output()
        except KeyboardInterrupt as error:
            _end(error, "interrupted", 128 + signal.SIGINT)
        except BrokenPipeError:
            sys.exit(128 + signal.SIGPIPE)
        except InputError as error:
            _end(error, str(error), 2)
        except RunError as error:
            _end(error, str(error), 1)
        except Exception as error:
            from stelab.engine.config.input_errors import described

            _end(error, described(error), 1)


def _end(error: BaseException, message: str, code: int) -> NoReturn:
    """Print what is wrong, a line for each thing; the traceback too if Hydra's users ask for it."""
    lines = (shortened(line) for line in visible(message).splitlines())
    with suppress(OSError):  # the code tells it too
        if os.environ.get("HYDRA_FULL_ERROR") == "1":
            traceback.print_exception(error)
        print("stelab: " + "\n".join(lines), file=sys.stderr, flush=True)
    sys.exit(code)


def _main(arguments: list[str]) -> None:
    if arguments[:1] in (["-sc"], ["--shell-completion"]):
        return _complete(arguments)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        return print(_overview(), end="")
    if arguments[0] == "--version":
        return print(f"stelab {import_module('stelab').__version__}")
    if arguments[0] not in COMMANDS:
        from stelab.engine.config.validate import suggestion

        hint = suggestion(arguments[0], COMMANDS) or f" (there are: {', '.join(COMMANDS)})"
        raise InputError(f"{arguments[0]} is not a command{hint}")
    run_command(arguments[0], arguments[1:])


def _overview() -> str:
    commands = "\n".join(f"  {name:<11} {text}" for name, text in COMMANDS.items())
    return f"""\
stelab: a laboratory for gradient estimators of binary layers.

Usage: stelab COMMAND [group=option ...] [key=value ...]

{commands}

stelab COMMAND --help lists groups and keys; --cfg job prints the configuration.
Tab completion: eval "$(stelab -sc install=bash)"
"""


def run_command(command: str, arguments: Sequence[str]) -> None:
    """Check the configuration of `command`, then run it as a Hydra application."""
    from stelab.apps.flags import read_flags
    from stelab.engine.config.input_errors import reading_input
    from stelab.engine.sweepers.plan import plan

    with reading_input():
        app = import_module(f"stelab.apps.{command}")
        texts = getattr(app, "TEXTS", ())  # keys whose values are taken as they stand
        arguments = [literal(every_option(argument), texts) for argument in arguments]
        flags = read_flags(arguments)
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
        launch = partial(_launch, flags, _Task(command, app.start, jobs))
        if execute is None:
            launch()
        else:
            execute(jobs, launch)
    finally:
        sys.argv = before


def _show(command: str, flags: Namespace) -> None:
    """Print help, a configuration or how it was composed; or complete a word."""
    from stelab.apps.flags import flag_parser
    from stelab.engine.config.compose import application, compose_whole
    from stelab.engine.config.input_errors import reading_input

    overrides, parser = flags.overrides, flag_parser()
    with (
        undisturbed(),
        reading_input(),
        _restored_logging(),
        application(flags.config_dir) as hydra,
    ):
        if flags.shell_completion:
            return hydra.shell_completion(command, overrides)
        cfg = compose_whole(hydra.config_loader, command, overrides)  # explains mistakes
        if flags.help:
            hydra.app_help(command, parser, flags)
        elif flags.hydra_help:
            hydra.hydra_help(command, parser, flags)
        elif flags.info:
            hydra.show_info(flags.info, command, overrides)
        else:
            _require_part(cfg, flags.package)
            hydra.show_cfg(command, overrides, flags.cfg, flags.package, flags.resolve)


def _require_part(cfg: DictConfig, package: str | None) -> None:
    from omegaconf import OmegaConf

    from stelab.engine.config.validate import keys_of, suggestion

    if package not in (None, "_global_") and OmegaConf.select(cfg, package) is None:
        known = keys_of(OmegaConf.to_container(cfg))
        raise InputError(f"--package: {package} is not a key here{suggestion(package, known)}")


class _Failed(BaseException):
    """Carries a job's exception past Hydra, which would print the traceback of an Exception."""


class _Task:
    """What Hydra calls to run a job; `jobs` are for stelab's sweepers, which compose none."""

    def __init__(self, command: str, start: Callable[[Any], Any], plan: Plan):
        self.command, self.start, self.multirun = command, start, plan.multirun
        self.jobs = plan.jobs

    def __call__(self, cfg: Any) -> Any:
        """Run the planned job; in a sweep, one that a foreign launcher has composed."""
        from stelab.engine.config.validate import validate

        try:
            if not self.multirun:
                return self.start(self.jobs[0])
            validate(cfg, self.command)
            return self.start(cfg)
        except Exception as error:
            raise _Failed(error) from error


def _launch(flags: Namespace, task: _Task) -> None:
    """Run the planned job or sweep as a Hydra application."""
    from stelab.engine.config.compose import application
    from stelab.engine.config.input_errors import reading_input

    overrides = [*flags.overrides, f"hydra.mode={'MULTIRUN' if task.multirun else 'RUN'}"]
    try:
        with _restored_logging(), application(flags.config_dir) as hydra:
            if task.multirun:
                hydra.multirun(task.command, task, overrides)
                return
            with reading_input():
                hydra.run(task.command, task, overrides)
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
