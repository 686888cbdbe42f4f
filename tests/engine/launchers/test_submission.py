"""Jobs that submitit hands to processes of this machine, where they end badly or cannot begin."""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import cloudpickle
import pytest

from stelab.engine.errors import InputError
from stelab.engine.launchers.job import Outcome
from stelab.engine.launchers.submission import SubmittedHere
from waiting import wait_until


class Job:
    """Instead of an `Attempt`."""

    logging: ClassVar[dict[str, Any]] = {"root": None}


class Killed(Job):
    """Is killed."""

    def __call__(self) -> Outcome:
        """Be killed."""
        os.kill(os.getpid(), signal.SIGKILL)
        return Outcome("finished")


class Unreadable(Job):
    """Cannot be made again in the job's process."""

    def __reduce__(self) -> Any:
        return int, ("no number",)


class Endless(Job):
    """Trains until it is stopped."""

    def __init__(self, begun: Path):
        self.begun = begun

    def __call__(self) -> Outcome:
        """Go on."""
        self.begun.touch()
        time.sleep(600)
        return Outcome("finished")


@pytest.fixture
def here(tmp_path: Path) -> SubmittedHere:
    cloudpickle.register_pickle_by_value(sys.modules[__name__])
    return SubmittedHere(tmp_path / "jobs", {"timeout_min": 5}, slots=2)


def outcome(here: SubmittedHere, job: Any) -> Outcome:
    (future,) = here.start([job])

    def is_over() -> bool:
        here.poll()
        return future.done()

    wait_until(is_over)
    return future.result()


def test_a_job_without_a_result_has_died(here: SubmittedHere) -> None:
    killed = outcome(here, Killed())
    assert killed.status == "died"
    assert killed.reason.startswith("its process ended without a result: ")
    unreadable = outcome(here, Unreadable())
    assert unreadable.status == "died"
    here.stop()


def test_a_job_under_way_is_stopped_and_waited_for(here: SubmittedHere, tmp_path: Path) -> None:
    (future,) = here.start([Endless(tmp_path / "begun")])  # type: ignore[list-item]
    wait_until((tmp_path / "begun").exists)
    here.stop()
    here.poll()
    assert future.result().status == "died"
    assert not (here.folder / "driver").exists()


@contextmanager
def no_space() -> Iterator[None]:
    """Let no file be longer than a few bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_where_nothing_can_be_written_no_job_is_taken(here: SubmittedHere, tmp_path: Path) -> None:
    with no_space(), pytest.raises(InputError, match="^this machine takes no job: .*File too la"):
        here.start([Killed()])  # type: ignore[list-item]
    here.stop()
    assert [*here.folder.iterdir()] == []
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be made: .*Not a directory"):
        SubmittedHere(tmp_path / "file" / "jobs", {}, slots=1)
