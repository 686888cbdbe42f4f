"""An Optuna study: where it is, and its trials as jobs that a launcher asks for one by one.

Optuna keeps trials, stelab keeps runs, and a sweep may be killed between any two writes to either.
So a trial's value is read from its runs' folders, whatever a launcher returned, and a trial is
never taken up where it was: one whose sweep is dead, by the lock that each sweep holds, is told as
failed and enqueued once more with the same parameters. Its runs are then returned from their
folders or go on from their checkpoints, and cost nothing twice.

Samplers draw parameters anew that were tried before. Such a trial is closed with what came of the
earlier one, and in a finite space the next trial is made of parameters that nobody has tried. To
make a continued search draw what an undisturbed one would have drawn, each trial has a sampler of
its own, seeded by the number of trials before it.
"""

import math
import random
import sys
import uuid
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from statistics import fmean
from typing import Any

import optuna
from hydra.core.override_parser.types import Quote, QuotedString
from omegaconf import DictConfig
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, Trial, TrialState

from stelab.engine.config import build
from stelab.engine.errors import InputError, first_line
from stelab.engine.studies.lock import LEASE, is_locked, locked_while_alive
from stelab.engine.studies.record import RunFolder, read_record
from stelab.engine.studies.run_format import is_finite
from stelab.engine.sweepers.base import Point
from stelab.engine.sweepers.space import Dimension, point, size


@dataclass(eq=False)
class _OpenTrial:
    """A trial whose jobs, one a replicate, are not all done."""

    number: int
    jobs: list[DictConfig]
    values: list[float] = field(default_factory=list)


@dataclass(kw_only=True)
class Trials:
    """Asks an Optuna study for parameters, and tells it what came of them."""

    optuna_study: optuna.Study
    space: Sequence[Dimension]
    # Makes a trial's jobs of its overrides, and of those of its first job alone: where to report.
    replicate: Callable[[Point, list[str]], list[DictConfig]]
    n_trials: int  # of different parameters, which count once, however often they were tried
    sampler: dict[str, Any]  # a node, to whose seed the number of first tries so far is added
    report_to: str | None  # the storage that tells a trial's first job, and so the trial, to stop
    drivers: Path  # a folder for a lock that tells others that this sweep is alive

    def __post_init__(self) -> None:
        self._name = uuid.uuid4().hex[:8]
        self._limit = min(self.n_trials, size(self.space))
        self._distributions = {dim.key: dim.distribution() for dim in self.space}
        self._open: dict[int, _OpenTrial] = {}
        self._ready: deque[tuple[_OpenTrial, DictConfig]] = deque()
        self._running: dict[int, _OpenTrial] = {}  # by the identity of the job

    @contextmanager
    def driven(self, *, failed_again: bool) -> Iterator[None]:
        """Take up what killed sweeps left; inside, other sweeps leave this one's trials alone."""
        with locked_while_alive(self.drivers / self._name):
            for trial in self._latest().values():
                abandoned = trial.state == TrialState.RUNNING and self._is_abandoned(trial)
                if abandoned:
                    self._tell(trial.number, TrialState.FAIL)
                if abandoned or (failed_again and trial.state == TrialState.FAIL):
                    self._enqueue(trial.params, again=trial.number)
            yield

    def jobs(self) -> Iterator[DictConfig | None]:
        """Yield the next job; None while there is none before another has ended."""
        while True:
            if self._ready:
                trial, job = self._ready.popleft()
                self._running[id(job)] = trial
                yield job
            elif self._wants_more():
                self._ask()
            elif self._open:
                yield None
            else:
                return

    def done(self, job: DictConfig) -> None:
        """Take what came of a job, from its run's folder; tell what came of its trial."""
        trial = self._running.pop(id(job))
        if trial.number not in self._open:
            return  # another job of it has failed
        try:
            record = read_record(RunFolder.of(job).path)
            status, value = record["status"], record["metrics"].get(job.monitor)
        except InputError:
            status = value = None
        if status != "finished" or not is_finite(value):
            return self._close(trial, TrialState.PRUNED if status == "pruned" else TrialState.FAIL)
        trial.values.append(value)
        if len(trial.values) == len(trial.jobs):
            self._close(trial, TrialState.COMPLETE, fmean(trial.values))
        elif self.report_to and job is trial.jobs[0]:
            self._ready.extend((trial, other) for other in trial.jobs[1:])

    def _wants_more(self) -> bool:
        waiting = self.optuna_study.get_trials(deepcopy=False, states=[TrialState.WAITING])
        return bool(waiting) or len(self._latest()) < self._limit

    def _latest(self) -> dict[Any, FrozenTrial]:
        """Return the last trial of all parameters that were tried."""
        trials = self.optuna_study.get_trials(deepcopy=False)
        return {frozenset(t.params.items()): t for t in trials if len(t.params) == len(self.space)}

    def _ask(self) -> None:
        """Open a trial, and make its jobs ready."""
        trial = self._draw()
        trial.set_user_attr("driver", self._name)
        if earlier := self._earlier_of_same_parameters(trial):
            trial.set_user_attr("same_as", earlier.number)
            self._tell(trial.number, earlier.state, earlier.value)
            self._enqueue_untried(trial.number)
            return
        chosen = {d.key: d.override(trial.params[d.key]) for d in self.space}
        try:
            jobs = self.replicate(chosen, self._report_override(trial))
        except InputError as error:
            print(f"stelab: trial {trial.number}: {error}", file=sys.stderr)
            self._tell(trial.number, TrialState.FAIL)
            return
        trial.set_user_attr("runs", [str(RunFolder.of(job).path) for job in jobs])
        for other in self.optuna_study.get_trials(deepcopy=False):
            if other.number == trial.user_attrs.get("again"):  # whose runs go on where they were
                for step, value in other.intermediate_values.items():
                    trial.report(value, step)
        self._open[trial.number] = opened = _OpenTrial(trial.number, jobs)
        self._ready.extend((opened, job) for job in (jobs[:1] if self.report_to else jobs))

    def _draw(self) -> Trial:
        sampler = dict(self.sampler)
        if isinstance(sampler.get("seed"), int):
            trials = self.optuna_study.get_trials(deepcopy=False)
            sampler["seed"] += sum("again" not in trial.user_attrs for trial in trials)
        with quiet():
            self.optuna_study.sampler = build(sampler)
            return self.optuna_study.ask(self._distributions)

    def _earlier_of_same_parameters(self, trial: Trial) -> FrozenTrial | None:
        """Return the last of them; of a second try, only another second try counts."""
        again = trial.user_attrs.get("again")
        same = [
            other
            for other in self.optuna_study.get_trials(deepcopy=False)
            if other.number < trial.number
            and other.params == trial.params
            and again in (None, other.user_attrs.get("again"))
        ]
        return same[-1] if same else None

    def _enqueue_untried(self, seed: int) -> None:
        """Let the next trial be of parameters that no trial has, where they can be counted."""
        total, tried = size(self.space), self._latest()
        if not math.isfinite(total) or len(tried) >= total:
            return
        index = random.Random(seed).randrange(int(total))
        while frozenset((params := point(self.space, index)).items()) in tried:
            index = (index + 1) % int(total)
        self._enqueue(params)

    def _enqueue(self, params: dict[str, Any], **attributes: Any) -> None:
        with quiet():
            self.optuna_study.enqueue_trial(params, user_attrs=attributes)

    def _report_override(self, trial: Trial) -> list[str]:
        """Return the override that lets a run report to a trial, if runs are pruned."""
        if self.report_to is None:
            return []
        names = (self.report_to, self.optuna_study.study_name)
        where, study = (QuotedString(name, Quote.double).with_quotes() for name in names)
        return [f"trial={{storage:{where},study:{study},number:{trial.number}}}"]

    def _close(self, trial: _OpenTrial, state: TrialState, value: float | None = None) -> None:
        del self._open[trial.number]
        self._ready = deque(entry for entry in self._ready if entry[0] is not trial)
        self._tell(trial.number, state, value)

    def _tell(self, number: int, state: TrialState, value: float | None = None) -> None:
        """Finish a trial, unless another sweep has done so."""
        if not state.is_finished():  # the same as one under way, whose own jobs are told
            state = TrialState.FAIL
        value = value if state == TrialState.COMPLETE else None
        self.optuna_study.tell(number, value, state=state, skip_if_finished=True)

    def _is_abandoned(self, trial: FrozenTrial) -> bool:
        """Return whether the sweep that runs a trial is dead."""
        driver = trial.user_attrs.get("driver")
        if driver is not None:
            return not is_locked(self.drivers / driver)
        # Killed, or right now, between Optuna's making of the trial and its signature.
        age = datetime.now() - (trial.datetime_start or datetime.now())
        return age.total_seconds() > LEASE


@contextmanager
def quiet() -> Iterator[None]:
    """Without Optuna's warnings that samplers, pruners and methods of its are experimental."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield


def open_storage(url: str) -> str | BaseStorage:
    """Return what Optuna takes as a storage; refuse a journal that is damaged or cannot be opened.

    It is ``journal:///FILE``, as in ``sqlite:///FILE`` a path from here or, with a fourth slash,
    from the root; or any URL of SQLAlchemy, which is returned as it is.
    """
    file = url.removeprefix("journal:///")
    if file == url:
        return url
    # The lock beside it is a link to it, which must lead there from its own folder.
    path = Path(file).absolute()
    try:
        # Optuna would wait for a pipe, and append to a torn entry what it never reads again.
        if path.exists() and not path.is_file():
            raise ValueError(f"{path.name} is not a regular file")
        if path.exists():
            with path.open("rb") as journal:
                journal.seek(max(0, path.stat().st_size - 1))
                if journal.read(1) not in (b"", b"\n"):
                    raise ValueError("it ends in the middle of an entry: remove its last line")
        return JournalStorage(JournalFileBackend(str(path)))
    except Exception as error:  # whatever a foreign file makes Optuna raise
        text = f"{type(error).__name__}: {first_line(error)}"
        raise InputError(f"hydra.sweeper.storage cannot be opened: {url}: {text}") from error
