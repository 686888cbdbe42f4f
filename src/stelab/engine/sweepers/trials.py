"""An Optuna study's trials, as jobs that a launcher asks for one by one."""

from __future__ import annotations

import math
import random
import shutil
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
from hydra.core.utils import JobReturn
from omegaconf import DictConfig
from optuna.trial import FrozenTrial, Trial, TrialState

from stelab.engine.config import build
from stelab.engine.errors import InputError
from stelab.engine.studies.lock import LEASE, is_locked, locked
from stelab.engine.studies.record import read_record
from stelab.engine.studies.run_folder import RunFolder
from stelab.engine.studies.run_format import is_finite
from stelab.engine.sweepers.axes import Point
from stelab.engine.sweepers.space import Dimension, point, size


@dataclass(eq=False)
class Job:
    """One replicate of a trial.

    Attributes:
        cfg: Its configuration.
    """

    cfg: DictConfig

    @property
    def folder(self) -> RunFolder:
        """Return its run's folder."""
        return RunFolder.of(self.cfg)

    def value(self) -> float:
        """Return the monitored metric of its finished run; of any other, nan."""
        try:
            record = read_record(self.folder.path)
        except InputError:
            return math.nan
        value: Any = record["metrics"].get(self.cfg.monitor)
        return value if record["status"] == "finished" and is_finite(value) else math.nan

    def pruned(self) -> bool:
        """Tell whether its run was pruned."""
        return self.folder.status() == "pruned"


@dataclass(eq=False)
class _Open:
    """A trial whose jobs are not all done."""

    number: int
    jobs: list[Job]
    values: list[float] = field(default_factory=list)


class Trials:
    """Asks a study for parameters, and tells it what came of them.

    Parameters count once, however often they were tried: a trial that a killed sweep left behind
    and its second try are one of `n_trials`, and so are two that are alike.

    Args:
        study: Where trials are, and come back from.
        space: What their parameters may be.
        replicate: Makes a trial's jobs of its overrides; those of the second list are of its first
            job alone, and say where it reports to.
        n_trials: How many parameters the study is to have tried.
        sampler: A node. Each trial has a sampler of its own, whose seed is the node's plus the
            number of trials so far, second tries apart: a study that is continued draws as one
            that was not interrupted.
        report_to: The study's storage, where a trial's first job reports how it goes on and is
            told when it is pruned, and with it the trial; None: nothing is pruned.
        drivers: A folder for a lock that tells others that this sweep is alive.
    """

    def __init__(
        self,
        *,
        study: optuna.Study,
        space: Sequence[Dimension],
        replicate: Callable[[Point, list[str]], list[Job]],
        n_trials: int,
        sampler: dict[str, Any],
        report_to: str | None,
        drivers: Path,
    ):
        self.study = study
        self.space = space
        self.replicate = replicate
        self.limit = min(n_trials, size(space))
        self.sampler = sampler
        self.report_to = report_to
        self.drivers = drivers
        self._name = uuid.uuid4().hex[:8]
        self._distributions = {dim.key: dim.distribution() for dim in space}
        self._open: dict[int, _Open] = {}
        self._ready: deque[tuple[_Open, Job]] = deque()
        self._running: dict[int, tuple[_Open, Job]] = {}

    @contextmanager
    def driven(self, *, failed_again: bool) -> Iterator[None]:
        """Take up what killed sweeps left; inside, other sweeps leave this one's trials alone.

        Args:
            failed_again: Whether failed trials are tried again too.
        """
        with _alive(self.drivers / self._name):
            for trial in self._latest().values():
                abandoned = trial.state == TrialState.RUNNING and self._abandoned(trial)
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
                self._running[id(job.cfg)] = trial, job
                yield job.cfg
            elif self._wants_more():
                self._ask()
            elif self._open:
                yield None
            else:
                return

    def done(self, cfg: DictConfig, result: JobReturn) -> None:
        """Take what came of a job, from its run's folder; tell what came of its trial."""
        trial, job = self._running.pop(id(cfg))
        if trial.number not in self._open:
            return  # another job of it has failed
        value = job.value()
        if not math.isfinite(value):
            self._close(trial, TrialState.PRUNED if job.pruned() else TrialState.FAIL)
            return
        trial.values.append(value)
        if len(trial.values) == len(trial.jobs):
            self._close(trial, TrialState.COMPLETE, fmean(trial.values))
        elif self.report_to and job is trial.jobs[0]:
            self._ready.extend((trial, other) for other in trial.jobs[1:])

    def _wants_more(self) -> bool:
        waiting = self.study.get_trials(deepcopy=False, states=[TrialState.WAITING])
        return bool(waiting) or len(self._latest()) < self.limit

    def _latest(self) -> dict[Any, FrozenTrial]:
        """Return the last trial of all parameters that were tried."""
        trials = self.study.get_trials(deepcopy=False)
        return {_key(t.params): t for t in trials if len(t.params) == len(self.space)}

    def _ask(self) -> None:
        """Open a trial, and make its jobs ready."""
        trial = self._draw()
        trial.set_user_attr("driver", self._name)
        if twin := self._twin(trial):
            trial.set_user_attr("same_as", twin.number)
            self._tell(trial.number, twin.state, twin.value)
            self._enqueue_untried(trial.number)
            return
        chosen = {d.key: d.override(trial.params[d.key]) for d in self.space}
        report = [self._report(trial.number, self.report_to)] if self.report_to else []
        try:
            jobs = self.replicate(chosen, report)
        except InputError as error:
            print(f"stelab: trial {trial.number}: {error}", file=sys.stderr)
            self._tell(trial.number, TrialState.FAIL)
            return
        trial.set_user_attr("runs", [str(job.folder.path) for job in jobs])
        self._repeat_reports(trial)
        self._open[trial.number] = opened = _Open(trial.number, jobs)
        self._ready.extend((opened, job) for job in (jobs[:1] if self.report_to else jobs))

    def _draw(self) -> Trial:
        sampler = dict(self.sampler)
        if isinstance(sampler.get("seed"), int):
            trials = self.study.get_trials(deepcopy=False)
            sampler["seed"] += sum("again" not in trial.user_attrs for trial in trials)
        with quiet():
            self.study.sampler = build(sampler)
            return self.study.ask(self._distributions)

    def _twin(self, trial: Trial) -> FrozenTrial | None:
        """Return the last of the trials before that has the same parameters."""
        again = trial.user_attrs.get("again")
        twins = [
            other
            for other in self.study.get_trials(deepcopy=False)
            if other.number < trial.number
            and other.params == trial.params
            and again in (None, other.user_attrs.get("again"))
        ]
        return twins[-1] if twins else None

    def _enqueue_untried(self, seed: int) -> None:
        """Let the next trial be of parameters that no trial has, where they can be counted."""
        total, tried = size(self.space), self._latest()
        if not math.isfinite(total) or len(tried) >= total:
            return
        index = random.Random(seed).randrange(int(total))
        while _key(params := point(self.space, index)) in tried:
            index = (index + 1) % int(total)
        self._enqueue(params)

    def _enqueue(self, params: dict[str, Any], **attributes: Any) -> None:
        with quiet():
            self.study.enqueue_trial(params, user_attrs=attributes)

    def _repeat_reports(self, trial: Trial) -> None:
        """Let a second try, whose runs go on where they were, have the reports of the first."""
        again = trial.user_attrs.get("again")
        for other in self.study.get_trials(deepcopy=False):
            if other.number == again:
                for step, value in other.intermediate_values.items():
                    trial.report(value, step)

    def _report(self, number: int, storage: str) -> str:
        """Return the override that lets a run report to a trial."""
        where, study = (
            QuotedString(text, Quote.double).with_quotes()
            for text in (storage, self.study.study_name)
        )
        return f"trial={{storage:{where},study:{study},number:{number}}}"

    def _close(self, trial: _Open, state: TrialState, value: float | None = None) -> None:
        del self._open[trial.number]
        self._ready = deque(entry for entry in self._ready if entry[0] is not trial)
        self._tell(trial.number, state, value)

    def _tell(self, number: int, state: TrialState, value: float | None = None) -> None:
        """Finish a trial, unless another sweep has done so."""
        if not state.is_finished():  # the twin of one under way: its own jobs are told
            state = TrialState.FAIL
        value = value if state == TrialState.COMPLETE else None
        self.study.tell(number, value, state=state, skip_if_finished=True)

    def _abandoned(self, trial: FrozenTrial) -> bool:
        """Tell whether the sweep that runs a trial is dead."""
        driver = trial.user_attrs.get("driver")
        if driver is not None:
            return not is_locked(self.drivers / driver)
        # Killed, or right now, between Optuna's making of the trial and its signature.
        age = datetime.now() - (trial.datetime_start or datetime.now())
        return age.total_seconds() > LEASE


def _key(params: dict[str, Any]) -> tuple[tuple[str, Any], ...]:
    return tuple(sorted(params.items()))


@contextmanager
def _alive(folder: Path) -> Iterator[None]:
    """Hold a lock that tells others that this process is alive."""
    try:
        with locked(folder, on_loss=lambda: None):
            yield
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def quiet() -> Iterator[None]:
    """Without Optuna's warnings that samplers, pruners and methods of its are experimental."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        yield
