"""TensorBoard's server, in this process."""

import io
import re
import signal
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, suppress
from pathlib import Path
from urllib.parse import quote

from stelab.engine.errors import InputError
from stelab.engine.report.board.writing import event_files
from stelab.engine.studies.status import state_of


def require_free(host: str, port: int) -> None:
    """Raise InputError where nothing can listen at `port` of `host`."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family) as listener:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((host, port))
    except OSError as error:
        raise InputError(
            f"TensorBoard cannot listen at {host}:{port} ({error.strerror}): "
            "give another port=NUMBER (0: a free one), or host=ADDRESS of this machine"
        ) from error


def launch(folder: Path, *, host: str, port: int, title: str) -> str:
    """Start TensorBoard on `folder`; return its URL."""
    from tensorboard import program

    server = program.TensorBoard()
    server.configure(logdir=str(folder), host=host, port=port, window_title=title)
    try:
        with redirect_stderr(io.StringIO()):  # it would speak of flags that are not ours
            return server.launch()
    except program.TensorBoardServerException as error:
        raise InputError(error.msg) from error


def addresses(url: str, replicates: Sequence[str]) -> dict[str, str]:
    """Return where to look, what most come for first: unsmoothed, and with a colour a group."""
    group = rf"^(?:mean of )?(.*?)(?:, {re.escape(replicates[0])}=.*| \(n = .*)$"
    colours = f"{url}?smoothing=0&runColorGroup={quote(f'regex:{group}', safe='')}"
    return {
        "losses": f"{url}#custom_scalars&_smoothingWeight=0",
        "means": f"{url}#custom_scalars&regexInput={quote('^mean of')}&_smoothingWeight=0",
        "all curves": f"{colours}#timeseries",
        "table": f"{url}#hparams",
    }


def traces(studies: Sequence[Path]) -> list[object]:
    """Return what changes when a run begins, goes on or ends: its state and its event files."""
    states: list[object] = []
    for run in (path for study in studies for path in sorted(study.glob("*")) if path.is_dir()):
        try:
            states.append((run.name, state_of(run).state, event_files(run)))
        except OSError as error:  # it cannot be read
            states.append((run.name, str(error)))
    return states


@contextmanager
def until_stopped() -> Iterator[None]:
    """End the block at SIGINT or SIGTERM, which is how people stop it."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with suppress(KeyboardInterrupt):
        yield


def keep_current(studies: Sequence[Path], before: list[object], renew: Callable[[], None]) -> None:
    """Call `renew` whenever the `traces` change from those `before`, forever."""
    while True:
        time.sleep(2)
        if (now := traces(studies)) != before:
            before = now
            renew()
