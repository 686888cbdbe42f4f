"""``stelab COMMAND [overrides]``: choose the command, check its configuration, run it.

Nothing here imports torch: help, completion and mistakes answer at once.
"""

from __future__ import annotations

import errno
import os
import re
import shlex
import signal
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

from stelab.errors import InputError, RunError

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


def main() -> None:
    """Run the command line; the exit code is 0, 1 (failed), 2 (bad input) or 128 + signal."""
    try:
        _main(sys.argv[1:])
    except InputError as error:
        print(f"stelab: {error}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("stelab: interrupted", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        where = f" for {error.filename}" if error.filename else ""
        print(
            f"stelab: there is no space left{where}: free some, and run it again", file=sys.stderr
        )
        sys.exit(1)


def _main(arguments: list[str]) -> None:
    if arguments[:1] in (["-sc"], ["--shell-completion"]):
        return _complete(arguments)
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        return print(_overview())
    if arguments[0] == "--version":
        return print(f"stelab {import_module('stelab').__version__}")
    if arguments[0] not in COMMANDS:
        from stelab.config.validate import suggestion

        hint = suggestion(arguments[0], COMMANDS) or f" (there are: {', '.join(COMMANDS)})"
        raise InputError(f"{arguments[0]} is not a command{hint}")
    run_command(arguments[0], arguments[1:])


def _overview() -> str:
    lines = [f"  {name:<11} {text}" for name, text in COMMANDS.items()]
    return "\n".join(
        [
            "stelab: a laboratory for gradient estimators of binary layers.",
            "",
            "Usage: stelab COMMAND [group=option ...] [key=value ...]",
            "",
            *lines,
            "",
            "stelab COMMAND --help lists groups and keys; --cfg job prints the configuration.",
            'Tab completion: eval "$(stelab -sc install=bash)"',
        ]
    )


def run_command(command: str, arguments: Sequence[str]) -> None:
    """Check the configuration of `command`, then hand over to Hydra."""
    import hydra
    from hydra._internal.utils import get_args_parser

    from stelab.config import CONF_DIR
    from stelab.config.plan import plan

    app = import_module(f"stelab.apps.{command}")
    texts = getattr(app, "TEXTS", ())  # keys whose values are taken as they stand
    arguments = [literal(every_option(argument), texts) for argument in arguments]
    # Hydra 1.3 takes its flags first or last only; people write them anywhere.
    arguments = sorted(arguments, key=lambda a: a not in ("-m", "--multirun"))
    sys.argv = [f"stelab {command}", *arguments]
    args = get_args_parser().parse_args(arguments)
    hydra_main = hydra.main(version_base="1.3", config_path=str(CONF_DIR), config_name=command)
    launch = hydra_main(_task(app.start))
    if args.help or args.hydra_help or args.cfg or args.info or args.shell_completion:
        launch()
        return
    execute = getattr(app, "execute", None)  # of commands that take sweeps
    jobs = plan(
        command,
        args.overrides,
        multirun=args.multirun,
        config_dir=args.config_dir,
        sweeps=execute is not None,
    )
    if execute is not None:
        execute(jobs, launch)
    else:
        launch()


def every_option(argument: str) -> str:
    """Read ``group=all`` as Hydra's ``group=glob(*)``."""
    from stelab.config import CONF_DIR

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


def _task(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Make a Hydra task of `function`: errors that say all end in a message, not a traceback."""

    def run(cfg: Any) -> Any:
        try:
            return function(cfg)
        except (InputError, RunError) as error:
            print(f"stelab: {error}", file=sys.stderr)
            raise SystemExit(2 if isinstance(error, InputError) else 1) from error

    return run


def _complete(arguments: list[str]) -> None:
    """Complete the command's name here, what follows it with Hydra's completion."""
    words = os.environ.get("COMP_LINE", "").split(" ")
    query = arguments[-1].startswith("query")
    if not query:
        return run_command("train", arguments)
    if len(words) <= 2:
        return print("\n".join(name for name in COMMANDS if name.startswith(words[-1])))
    if words[1] in COMMANDS:
        os.environ["COMP_LINE"] = " ".join([words[0], *words[2:]])
        run_command(words[1], arguments)


if __name__ == "__main__":
    main()
