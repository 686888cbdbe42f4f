"""The protocol between a study and a launcher, with a launcher of a few lines."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import datetime, timedelta
from pathlib import Path
from statistics import fmean
from typing import Any

import optuna
import pytest
from omegaconf import DictConfig, OmegaConf
from optuna.trial import TrialState

from stelab.engine.config.composition import overrides_of, remember
from stelab.engine.errors import InputError
from stelab.engine.sweepers.base import Point
from stelab.engine.sweepers.space import Choice, Dimension, Numbers
from stelab.engine.sweepers.trials import Trials

optuna.logging.set_verbosity(optuna.logging.WARNING)
COMPLETE, FAIL, PRUNED, RUNNING = (
    TrialState.COMPLETE,
    TrialState.FAIL,
    TrialState.PRUNED,
    TrialState.RUNNING,
)
LR = Numbers("lr", 0.0, 1.0, step=None, log=False)
LETTERS = Choice("letter", ("a", "b", "c", "d"))


def write_run(folder: Path, status: str, value: float = math.nan) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text("{}")
    record = {"status": status, "metrics": {"val/loss": value} if status == "finished" else {}}
    (folder / "run.json").write_text(json.dumps(record))


class Sweep:
    """A sweep in a folder; each instance is a process of its own as far as Optuna knows."""

    def __init__(self, folder: Path, space: list[Dimension], n_trials: int, **options: Any):
        self.folder = folder
        storage = f"sqlite:///{folder}/optuna.db"
        self.study = optuna.create_study(storage=storage, study_name="s", load_if_exists=True)
        self.trials = Trials(
            optuna_study=self.study,
            space=space,
            replicate=self.replicate,
            n_trials=n_trials,
            sampler=options.get("sampler", {"_target_": "optuna.samplers.TPESampler", "seed": 0}),
            report_to=storage if options.get("prunes") else None,
            drivers=folder / "drivers",
        )
        self.seeds = options.get("seeds", (0, 1))
        self.refuses: Callable[[Point], bool] = options.get("refuses", lambda point: False)
        self.ran: list[str] = []

    def replicate(self, chosen: Point, report: list[str]) -> list[DictConfig]:
        if self.refuses(chosen):
            raise InputError(f"{chosen} is refused")
        first, *others = [[*chosen.values(), f"seed={seed}"] for seed in self.seeds]
        return [self.job(first, report), *(self.job(other, []) for other in others)]

    def job(self, overrides: list[str], report: list[str]) -> DictConfig:
        run = str(self.folder / "-".join(overrides))
        cfg = OmegaConf.create({"paths": {"run": run}, "monitor": "val/loss", "names": {}})
        remember(cfg, [*overrides, *report], {})
        return cfg

    def train(self, job: DictConfig, how: Callable[[list[str]], Any]) -> None:
        """Write the run's folder, as `how` says: a value, or a status."""
        overrides = overrides_of(job)
        self.ran.append(" ".join(o for o in overrides if not o.startswith("trial=")))
        name = "-".join(o for o in overrides if not o.startswith("trial="))
        result = how(overrides)
        if isinstance(result, str):
            write_run(self.folder / name, result)
        else:
            write_run(self.folder / name, "finished", result)

    def run(
        self,
        how: Callable[[list[str]], Any],
        *,
        slots: int = 1,
        killed_after: int | None = None,
        failed_again: bool = False,
    ) -> list[str]:
        """Launch; jobs end in the order in which they started."""
        with self.trials.driven(failed_again=failed_again):
            jobs, running, ended = self.trials.jobs(), list[DictConfig](), 0
            while True:
                while len(running) < slots and (job := next(jobs, None)) is not None:
                    running.append(job)
                if not running:
                    return self.ran
                if ended == killed_after:
                    return self.ran
                done = running.pop(0)
                self.train(done, how)
                self.trials.done(done)
                ended += 1

    def states(self) -> list[TrialState]:
        return [trial.state for trial in self.study.trials]


def number(overrides: list[str], key: str) -> float:
    return next(float(o.partition("=")[2]) for o in overrides if o.startswith(f"{key}="))


def loss(overrides: list[str]) -> float:
    return (number(overrides, "lr") - 0.3) ** 2 + 0.01 * number(overrides, "seed")


def test_a_trials_value_is_the_mean_over_its_replicates(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, [LR], 5, seeds=(0, 1, 2))
    assert len(sweep.run(loss)) == 15
    assert sweep.states() == [COMPLETE] * 5
    for trial in sweep.study.trials:
        lr = trial.params["lr"]
        assert trial.value == fmean(loss([f"lr={lr!r}", f"seed={seed}"]) for seed in range(3))
        assert trial.user_attrs["runs"] == [str(tmp_path / f"lr={lr!r}-seed={s}") for s in range(3)]


def test_the_same_sweep_again_runs_nothing_and_a_longer_one_the_rest(tmp_path: Path) -> None:
    Sweep(tmp_path, [LR], 3).run(loss)
    assert Sweep(tmp_path, [LR], 3).run(loss) == []
    assert len(Sweep(tmp_path, [LR], 5).run(loss)) == 4


def test_slots_are_kept_busy(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, [LR], 3)
    with sweep.trials.driven(failed_again=False):
        jobs = sweep.trials.jobs()
        first = [next(jobs) for _ in range(7)]
        assert first[6] is None
        assert len({tuple(overrides_of(job)) for job in first if job is not None}) == 6
        for job in first[:5]:
            assert job is not None
            sweep.train(job, loss)
            sweep.trials.done(job)
        assert next(jobs) is None
        assert first[5] is not None
        sweep.train(first[5], loss)
        sweep.trials.done(first[5])
        assert list(jobs) == []
    assert sweep.states() == [COMPLETE] * 3


@pytest.mark.parametrize("slots", [1, 2, 5])
def test_failures_and_nan_are_told_as_failed(tmp_path: Path, slots: int) -> None:
    def how(overrides: list[str]) -> float | str:
        lr = number(overrides, "lr")
        return "failed" if lr > 0.6 else math.nan if lr < 0.4 else loss(overrides)

    sweep = Sweep(tmp_path, [LR], 12)
    ran = sweep.run(how, slots=slots)
    for trial in sweep.study.trials:
        good = 0.4 <= trial.params["lr"] <= 0.6
        assert trial.state == (COMPLETE if good else FAIL)
    assert {COMPLETE, FAIL} == set(sweep.states())
    if slots == 1:  # the second replicate of a failed trial is not started
        assert len(ran) == 12 + sweep.states().count(COMPLETE)


def test_a_job_that_left_no_record_is_a_failed_trial(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, [LR], 1)
    with sweep.trials.driven(failed_again=False):
        job = next(sweep.trials.jobs())
        assert job is not None
        sweep.trials.done(job)
    assert sweep.states() == [FAIL]


def test_what_is_drawn_twice_is_trained_once_where_points_cannot_be_counted(tmp_path: Path) -> None:
    sweep = Sweep(tmp_path, [LR], 2, seeds=(0,))
    for _ in range(2):
        sweep.study.enqueue_trial({"lr": 0.5})
    ran = sweep.run(loss)
    assert ran[0] == "lr=0.5 seed=0" and len({*ran}) == len(ran) == 2
    first, second, _ = sweep.study.trials
    assert second.user_attrs["same_as"] == first.number
    assert (second.state, second.value) == (COMPLETE, first.value)


def test_a_trial_that_nobody_has_signed_is_left_alone_while_it_is_young(tmp_path: Path) -> None:
    """A sweep may be between its making and its signature, or was killed there."""
    sweep = Sweep(tmp_path, [LR], 3)
    now = datetime.now()
    for age, lr in ((timedelta(), 0.25), (timedelta(days=1), 0.75)):
        trial = optuna.trial.create_trial(
            state=RUNNING, params={"lr": lr}, distributions={"lr": LR.distribution()}
        )
        trial.datetime_start = now - age
        sweep.study.add_trial(trial)
    with sweep.trials.driven(failed_again=False):
        assert sweep.states() == [RUNNING, FAIL, TrialState.WAITING]
        assert next(sweep.trials.jobs()) is not None
    assert sweep.study.trials[2].params == {"lr": 0.75}


def test_a_combination_that_is_refused_is_a_failed_trial(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep = Sweep(tmp_path, [LETTERS], 4, refuses=lambda chosen: chosen["letter"] == "letter=c")
    assert len(sweep.run(lambda overrides: 1.0)) == 6
    assert sorted(t.params["letter"] for t in sweep.study.trials if t.state == FAIL) == ["c"]
    assert "is refused" in capsys.readouterr().err


@pytest.mark.parametrize("sampler", ["TPESampler", "RandomSampler"])
@pytest.mark.parametrize("slots", [1, 3])
def test_nothing_is_run_twice_and_a_small_space_is_exhausted(
    tmp_path: Path, sampler: str, slots: int
) -> None:
    node = {"_target_": f"optuna.samplers.{sampler}", "seed": 0}
    space: list[Dimension] = [LETTERS, Numbers("n", 1, 3, step=1, log=False)]
    sweep = Sweep(tmp_path, space, 100, sampler=node, seeds=(0,))
    ran = sweep.run(lambda overrides: number(overrides, "n"), slots=slots)
    assert sorted(ran) == [f"letter={x} n={n} seed=0" for x in "abcd" for n in (1, 2, 3)]
    for trial in sweep.study.trials:
        assert trial.value in (trial.params["n"], None)


def test_a_killed_sweep_is_continued_as_if_it_had_not_been(tmp_path: Path) -> None:
    sampler = {"_target_": "optuna.samplers.TPESampler", "seed": 0, "n_startup_trials": 2}
    for name in ("whole", "killed"):
        (tmp_path / name).mkdir()
    expected = Sweep(tmp_path / "whole", [LR], 6, sampler=sampler).run(loss)
    first = Sweep(tmp_path / "killed", [LR], 6, sampler=sampler)
    assert first.run(loss, killed_after=5) == expected[:5]
    assert first.states() == [COMPLETE, COMPLETE, RUNNING]
    second = Sweep(tmp_path / "killed", [LR], 6, sampler=sampler)
    # The trial under way is tried again: its first run is returned from its folder.
    assert second.run(loss) == expected[4:]
    assert second.states() == [COMPLETE, COMPLETE, FAIL] + [COMPLETE] * 4
    assert second.study.trials[2].params == second.study.trials[3].params


def test_a_second_try_has_the_reports_of_the_first(tmp_path: Path) -> None:
    first = Sweep(tmp_path, [LR], 1, prunes=True)
    with first.trials.driven(failed_again=False):
        next(first.trials.jobs())
        (trial,) = first.study.trials
        optuna.trial.Trial(first.study, trial._trial_id).report(0.75, 3)
    second = Sweep(tmp_path, [LR], 1, prunes=True)
    second.run(loss)
    assert second.states() == [FAIL, COMPLETE]
    assert second.study.trials[1].intermediate_values == {3: 0.75}


def test_sweeps_at_once_leave_each_others_trials_alone(tmp_path: Path) -> None:
    one, two = Sweep(tmp_path, [LETTERS], 4), Sweep(tmp_path, [LETTERS], 4)
    with ExitStack() as both:
        both.enter_context(one.trials.driven(failed_again=False))
        first = one.trials.jobs()
        mine = [next(first), next(first)]
        both.enter_context(two.trials.driven(failed_again=False))
        second = two.trials.jobs()
        assert one.states() == [RUNNING]
        turns: list[tuple[Sweep, Iterator[DictConfig | None], list[DictConfig | None]]]
        turns = [(one, first, mine), (two, second, [])]
        for _ in range(40):
            for sweep, jobs, running in turns:
                running.append(next(jobs, None))
                job = running.pop(0)
                if job is not None:
                    sweep.train(job, lambda overrides: 1.0)
                    sweep.trials.done(job)
    ran = one.ran + two.ran
    assert sorted(ran) == [f"letter={x} seed={seed}" for x in "abcd" for seed in (0, 1)]
    assert RUNNING not in one.states()


def test_only_failed_tries_failed_trials_again(tmp_path: Path) -> None:
    broken = Sweep(tmp_path, [LR], 4)
    broken.run(lambda o: "failed" if number(o, "lr") > 0.5 else loss(o))
    failed = [t.params for t in broken.study.trials if t.state == FAIL]
    assert 0 < len(failed) < 4
    assert Sweep(tmp_path, [LR], 4).run(loss) == []
    mended = Sweep(tmp_path, [LR], 4)
    assert len(mended.run(loss, failed_again=True)) == 2 * len(failed)
    again = mended.study.trials[4:]
    assert [t.params for t in again] == failed
    assert [t.state for t in again] == [COMPLETE] * len(failed)
    assert Sweep(tmp_path, [LR], 4).run(loss, failed_again=True) == []


def test_a_pruned_trial_has_one_run(tmp_path: Path) -> None:
    def how(overrides: list[str]) -> float | str:
        reports = [o for o in overrides if o.startswith("trial=")]
        assert len(reports) == (number(overrides, "seed") == 0)
        return "pruned" if number(overrides, "lr") > 0.5 else loss(overrides)

    sweep = Sweep(tmp_path, [LR], 6, prunes=True, seeds=(0, 1, 2))
    ran = sweep.run(how, slots=2)
    states = [PRUNED if t.params["lr"] > 0.5 else COMPLETE for t in sweep.study.trials]
    assert sweep.states() == states
    assert set(states) == {PRUNED, COMPLETE}
    assert len(ran) == 6 + 2 * states.count(COMPLETE)


def test_the_override_that_reports_can_be_read(tmp_path: Path) -> None:
    from stelab.engine.config.compose import compose_job, search

    odd = tmp_path / "a b, c=d"
    odd.mkdir()
    sweep = Sweep(odd, [Numbers("optimizer.lr", 0.1, 1.0, step=None, log=False)], 1, prunes=True)
    job = next(sweep.trials.jobs())
    assert job is not None
    with search(None) as loader:
        cfg = compose_job(loader, "train", overrides_of(job))
        without = compose_job(loader, "train", overrides_of(job)[:-1])
    assert cfg.trial == {"storage": f"sqlite:///{odd}/optuna.db", "study": "s", "number": 0}
    assert cfg.paths.run == without.paths.run
