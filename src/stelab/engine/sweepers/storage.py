"""Where an Optuna study is: a database, or a journal on a file system that hosts share."""

from __future__ import annotations

from pathlib import Path

from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend

from stelab.engine.errors import InputError, first_line

JOURNAL = "journal:///"


def open_storage(url: str) -> str | BaseStorage:
    """Return what Optuna takes as a storage.

    Args:
        url: ``journal:///FILE``, as in ``sqlite:///FILE`` a path from here or, with a fourth
            slash, from the root; or any URL of SQLAlchemy, which is returned as it is.

    Raises:
        InputError: The journal cannot be opened or is damaged.
    """
    if not url.startswith(JOURNAL):
        return url
    # The lock beside it is a link to it, which must lead there from its own folder.
    path = Path(url.removeprefix(JOURNAL)).absolute()
    try:
        _require_whole(path)
        return JournalStorage(JournalFileBackend(str(path)))
    except Exception as error:  # whatever a foreign file makes Optuna raise
        text = f"{type(error).__name__}: {first_line(error)}"
        raise InputError(f"hydra.sweeper.storage cannot be opened: {url}: {text}") from error


def _require_whole(path: Path) -> None:
    """Refuse what Optuna would wait for, or would append to and never read again."""
    if not path.exists():
        return
    if not path.is_file():
        raise ValueError(f"{path.name} is not a regular file")
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - 1))
        if file.read(1) not in (b"", b"\n"):
            raise ValueError("it ends in the middle of an entry: remove its last line")
