"""``sweep=optuna``."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from filelock import FileLock
from hydra.core.config_loader import ConfigLoader
from omegaconf import OmegaConf

from stelab.arguments import Count, Text
from stelab.engine.config import build
from stelab.engine.config.composition import overrides_of
from stelab.engine.config.identity import fingerprint
from stelab.engine.errors import InputError, first_line
from stelab.engine.studies.record import RunFolder
from stelab.engine.sweepers.base import StudySweeper, product, values_of
from stelab.engine.sweepers.space import Search, read_dimension

if TYPE_CHECKING:
    from optuna import Study


class OptunaSweeper(StudySweeper):
    """Lets Optuna choose values, and tells it the mean of the monitored metric over replicates."""

    whole: ClassVar[bool] = False
    package: ClassVar[str | None] = "optuna"

    def __init__(
        self,
        *,
        params: dict[str, Any] | None,
        replicates: list[Text],
        n_trials: Count,  # of the Optuna study, those of earlier sweeps too
        direction: Literal["minimize", "maximize"],
        sampler: dict[str, Any],
        pruner: dict[str, Any] | None,
        storage: Text,
    ):
        super().__init__(params=params, replicates=replicates)
        self.n_trials = n_trials
        self.direction = direction
        self.sampler = _node("sampler", sampler)
        self.pruner = _node("pruner", pruner) if pruner else None
        self.storage = storage

    def jobs(self, loader: ConfigLoader, arguments: Sequence[str]) -> tuple[list[list[str]], int]:
        """Return jobs that stand for all, and how many there will be at most."""
        search = self._search(loader, arguments)
        return search.examples(), search.count(self.n_trials)

    def sweep(self, arguments: list[str]) -> None:
        """Run trials until the Optuna study has `n_trials`, and print the best."""
        from stelab.engine.sweepers.trials import Trials

        loader = self.hydra_context.config_loader
        search, swept = self._search(loader, arguments), self.swept(loader, arguments)
        example = self.planned[0]
        wanted = {"lower": "minimize", "higher": "maximize"}.get(example.get("better"))
        if wanted not in (None, self.direction):
            raise InputError(f"hydra.sweeper.direction must be {wanted}: better={example.better}")
        drivers = RunFolder.of(example).study / ".optuna"  # where a living sweep has its lock
        # Named after all that decides what its trials' values mean.
        meaning = f"{fingerprint(example)} {search.space} {search.replicates} {self.direction}"
        digest = hashlib.sha256(meaning.encode()).hexdigest()[:8]
        optuna_study = self._study(f"{example.study}-{digest}", drivers)
        trials = Trials(
            optuna_study=optuna_study,
            space=search.space,
            replicate=lambda chosen, report: [
                self.launcher.compose(job, swept=swept) for job in search.jobs(chosen, *report)
            ],
            n_trials=self.n_trials,
            sampler=self.sampler,
            report_to=self.storage if self.pruner else None,
            drivers=drivers,
        )
        with trials.driven(failed_again=self.config.only == "failed"):
            self.launcher.stream(
                trials.jobs(),
                lambda job, _: trials.done(job.cfg),
                count=f"at most {search.count(self.n_trials)}",
                title=lambda job: search.title(overrides_of(job)),
            )
        _print_best(optuna_study, example.monitor)

    def _search(self, loader: ConfigLoader, arguments: Sequence[str]) -> Search:
        axes = self.axes(loader, arguments)
        searched = self.factors(axes)
        space = [read_dimension(axis) for axis in searched]
        rest = values_of([axis for axis in axes if axis not in searched])
        return Search(space, product(rest), [axis.get_key_element() for axis in axes])

    def _study(self, name: str, drivers: Path) -> Study:
        import optuna
        from sqlalchemy.exc import SQLAlchemyError

        from stelab.engine.sweepers.trials import open_storage

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        drivers.mkdir(parents=True, exist_ok=True)
        try:
            with FileLock(drivers / "creation"):  # two that make a database at once both fail
                optuna_study = optuna.create_study(
                    storage=open_storage(self.storage),
                    study_name=name,
                    direction=self.direction,
                    load_if_exists=True,
                )
        except (SQLAlchemyError, ImportError) as error:
            raise InputError(
                f"hydra.sweeper.storage cannot be opened: {self.storage}: {first_line(error)}"
            ) from error
        # Runs ask the pruner, in processes of their own.
        optuna_study.set_user_attr("pruner", self.pruner)
        return optuna_study


def _node(name: str, node: Any) -> dict[str, Any]:
    """Return a node as plain containers; refuse one that cannot be built."""
    node = OmegaConf.create(node)
    if "_target_" not in node:
        raise InputError(f"hydra.sweeper.{name} must be a node with a _target_, got {node}")
    from stelab.engine.sweepers.trials import quiet

    with quiet():
        build(node)
    plain: Any = OmegaConf.to_container(node, resolve=True)
    return plain


def _print_best(optuna_study: Study, monitor: str) -> None:
    from optuna.trial import TrialState

    complete = optuna_study.get_trials(deepcopy=False, states=[TrialState.COMPLETE])
    if not complete:
        return print(f"no trial of {optuna_study.study_name} has a value")
    best = optuna_study.best_trial
    chosen = " ".join(f"{key}={value}" for key, value in best.params.items())
    print(f"best of {len(complete)} trials: {monitor} {best.value:.6g} with {chosen}")
    print(f"its runs: {' '.join(best.user_attrs['runs'])}", flush=True)
