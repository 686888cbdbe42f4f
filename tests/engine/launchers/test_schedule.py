"""Which job is next, and what a failure leads to: with an executor that runs nothing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from omegaconf import OmegaConf

import stelab
from stelab.engine.errors import InputError
from stelab.engine.launchers import schedule
from stelab.engine.launchers.job import Attempt, Outcome
from stelab.engine.launchers.schedule import Job, Schedule
from stelab.engine.project import require_package

OK, FAILED = (
    Outcome("finished", value=0.5, summary="val/loss 0.5000"),
    Outcome("failed", reason="E: no"),
)


class Script:
    """Ends each job as its script says; several at once end last in, first out."""

    interval, patience = 0.0, 0.0

    def __init__(self, outcomes: dict[str, list[Outcome]], *, slots: int | None = 1):
        self.outcomes, self.slots = outcomes, slots
        self.started: list[str] = []
        self.batches: list[int] = []

    def start(self, attempts: Sequence[Attempt]) -> list[Any]:
        self.batches.append(len(attempts))
        return [self._end(Path(attempt.cfg.paths.run).name) for attempt in attempts]

    def _end(self, name: str) -> Future[Outcome]:
        self.started.append(name)
        future: Future[Outcome] = Future()
        future.set_result(self.outcomes.get(name, [OK]).pop(0) if name in self.outcomes else OK)
        return future

    def poll(self) -> None: ...

    def stop(self) -> None: ...


def run(
    folder: Path,
    executor: Script,
    names: str,
    *,
    jobs: Iterator[Job | None] | None = None,
    **options: Any,
) -> dict[str, str]:
    ended: dict[str, str] = {}
    Schedule(
        executor=executor,
        jobs=jobs or iter(make(folder, name, number) for number, name in enumerate(names)),
        done=lambda job, outcome: ended.update({Path(job.cfg.paths.run).name: outcome.status}),
        logging={},
        **{"retries": 0, "on_failure": "continue", **options},
    ).run()
    return ended


def make(folder: Path, name: str, number: int = 0) -> Job:
    tree = {"paths": {"run": str(folder / name)}, "rerun": False, "monitor": "val/loss"}
    return Job(OmegaConf.create(tree), f"{number + 1} of 3: {name}")


def test_a_failure_stays_where_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    executor = Script({"b": [FAILED]})
    assert run(tmp_path, executor, "abc") == {"a": "finished", "b": "failed", "c": "finished"}
    told = capsys.readouterr()
    assert told.err == f"2 of 3: b: failed: E: no (traceback: {tmp_path}/b/run.json)\n"
    assert told.out == "1 of 3: a: val/loss 0.5000\n3 of 3: c: val/loss 0.5000\n"


def test_a_failed_job_is_tried_again_before_others(tmp_path: Path) -> None:
    executor = Script({"a": [FAILED, FAILED, OK], "b": [FAILED, FAILED, FAILED]})
    ended = run(tmp_path, executor, "abc", retries=2)
    assert ended == {"a": "finished", "b": "failed", "c": "finished"}
    assert executor.started == [*"aaabbbc"]


def test_a_lost_machine_is_no_failure_of_the_run(tmp_path: Path) -> None:
    executor = Script({"a": [Outcome("lost"), Outcome("lost"), OK]})
    assert run(tmp_path, executor, "a", on_failure="stop") == {"a": "finished"}


def test_bad_input_is_not_tried_again(tmp_path: Path) -> None:
    executor = Script({"a": [Outcome("refused", reason="no")]})
    assert run(tmp_path, executor, "a", retries=5) == {"a": "refused"}


def test_on_failure_stop_starts_nothing_more_and_lets_the_others_end(tmp_path: Path) -> None:
    executor = Script({"a": [FAILED], "b": [OK]}, slots=2)
    assert run(tmp_path, executor, "abcd", on_failure="stop") == {"a": "failed", "b": "finished"}
    # A pruned run did what its sweep wanted.
    executor = Script({"a": [Outcome("pruned")]})
    assert run(tmp_path, executor, "ab", on_failure="stop") == {"a": "pruned", "b": "finished"}


def test_an_executor_without_slots_takes_all_at_once(tmp_path: Path) -> None:
    executor = Script({}, slots=None)
    assert len(run(tmp_path, executor, "abcd")) == 4
    assert executor.batches == [4]


def test_jobs_are_asked_for_when_a_slot_is_free_and_none_means_wait(tmp_path: Path) -> None:
    executor, ended = Script({}, slots=2), list[str]()

    def ask() -> Iterator[Job | None]:
        yield make(tmp_path, "a", 0)
        yield None  # a second one only when the first is known
        assert executor.started == ["a"]
        yield make(tmp_path, "b", 1)
        yield make(tmp_path, "c", 2)
        ended.append("asked")

    assert [*run(tmp_path, executor, "", jobs=ask())] == ["a", "b", "c"]
    assert ended == ["asked"]
    assert executor.batches == [1, 2]


class Small(Script):
    """Takes no more than so many jobs of each batch."""

    def start(self, attempts: Sequence[Attempt]) -> list[Any]:
        return super().start(attempts[:2])


def test_what_an_executor_does_not_take_waits_in_its_order(tmp_path: Path) -> None:
    executor = Small({}, slots=None)
    assert len(run(tmp_path, executor, "abcde")) == 5
    assert executor.started == [*"abcde"]


class Slow(Script):
    """Ends a job after so many polls."""

    interval, patience = 0.2, 10.0

    def __init__(self, polls: list[int]):
        super().__init__({})
        self.polls = polls

    def poll(self) -> None:
        self.polls[0] -= 1
        if not self.polls[0]:
            self.polls.pop(0)
            self.future.set_result(OK)

    def _end(self, name: str) -> Future[Outcome]:
        self.future = Future[Outcome]()
        return self.future


def test_polls_become_rarer_while_no_job_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    monkeypatch.setattr(schedule, "time", SimpleNamespace(sleep=waits.append))
    assert len(run(tmp_path, Slow([20, 3]), "ab")) == 2
    assert waits[:4] == pytest.approx([0.2, 0.3, 0.45, 0.675])
    assert waits[11:19] == [10.0] * 8
    assert waits[19:] == pytest.approx([0.2, 0.3])


def test_each_lock_is_looked_at_a_few_times_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = 0

    def is_locked(folder: Path) -> bool:
        nonlocal looks
        looks += 1
        return True

    monkeypatch.setattr(schedule, "is_locked", is_locked)
    jobs = iter([make(tmp_path, str(number), number) for number in range(500)])
    assert len(run(tmp_path, Script({}, slots=None), "", jobs=jobs)) == 500
    assert looks == 2 * 500


HOLD = """
import sys
from pathlib import Path
from stelab.engine.studies.lock import locked

with locked(Path(sys.argv[1]), on_loss=lambda: None):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_runs_that_another_process_trains_come_last(tmp_path: Path) -> None:
    command = [sys.executable, "-c", HOLD, str(tmp_path / "a")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout and holder.stdout.readline() == b"held\n"
        executor = Script({})
        assert len(run(tmp_path, executor, "abc")) == 3
        holder.communicate()
    assert executor.started == [*"bca"]


def test_a_missing_extra_is_named() -> None:
    with pytest.raises(InputError, match=r"needs absent: pip install 'stelab\[slurm\]'"):
        require_package("absent", extra="slurm", user="this launcher")


def test_bad_input_that_training_finds_is_refused(tmp_path: Path) -> None:
    place = (f"data.path={tmp_path}/gone.npz", f"paths.outputs={tmp_path}/outputs")
    outcome = Attempt(stelab.compose("data=npz", *place), {})()
    assert outcome.status == "refused"
    assert "gone.npz cannot be read: " in outcome.reason
    assert not list(tmp_path.iterdir())
