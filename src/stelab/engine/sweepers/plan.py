"""The jobs of a command line, composed and checked before the first one starts."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from omegaconf import DictConfig, OmegaConf

from stelab.engine.config.compose import (
    compose_job,
    compose_whole,
    is_sweep,
    parse,
    search,
)
from stelab.engine.config.input_errors import Mistakes
from stelab.engine.config.validate import keys_of, suggestion, validate_node, without_hydra
from stelab.engine.errors import InputError
from stelab.engine.project import require_package
from stelab.engine.studies.record import RunFolder
from stelab.engine.sweepers.base import StudySweeper


@dataclass(frozen=True)
class Plan:
    """Checked configurations, one a job, in the order they will run."""

    jobs: list[DictConfig]  # with only=failed, those of failed runs, maybe none
    multirun: bool
    whole: bool  # or the jobs stand for what a sweeper will choose as it goes
    count: int | None  # of those that will run, at most; None where only a foreign sweeper knows
    shared: DictConfig  # the configuration without what is swept, not checked
    replicates: tuple[str, ...] = ("seed",)  # keys that repeat a setting
    first_is_baseline: bool = False  # which the other jobs are compared with
    forks: bool = False  # its launcher does, see `StudyLauncher`


def plan(
    command: str,
    arguments: Sequence[str],
    *,
    multirun: bool,
    config_dir: str | None,
    sweeps: bool = True,
) -> Plan:
    """Compose and check every job of a command line; refuse it with the mistakes of all jobs."""
    with search(config_dir) as loader:
        overrides = [parse(loader, line) for line in arguments]
        fixed = _lines(o for o in overrides if not o.is_sweep_override())
        swept = _lines(o for o in overrides if o.is_sweep_override())
        if multirun or is_sweep(loader, command, fixed):
            if not sweeps:
                raise InputError(f"stelab {command} runs once: -m (--multirun) is for stelab train")
            base = compose_whole(loader, command, fixed)
            return _plan_sweep(loader, command, overrides, base)
        if swept:
            raise InputError(f"'{swept[0]}' is a sweep: add -m (--multirun)")
        job = compose_job(loader, command, fixed)
        return Plan([job], multirun=False, whole=True, count=1, shared=job)


def _lines(overrides: Iterable[Override]) -> list[str]:
    return [str(override.input_line) for override in overrides]


def _plan_sweep(
    loader: ConfigLoader, command: str, overrides: Sequence[Override], base: DictConfig
) -> Plan:
    own = [o for o in overrides if not o.is_hydra_override()]
    of_hydra, others = _lines(o for o in overrides if o.is_hydra_override()), _lines(own)
    sweeper = _sweeper(base)
    if sweeper is None:  # what is not swept stands for all jobs
        lists = [_lines(o for o in own if not o.is_sweep_override())]
        keys, whole, count = list[str](), False, None
    else:
        (lists, count), whole = sweeper.jobs(loader, others), sweeper.whole
        keys = sweeper.swept(loader, others)
    jobs, mistakes = list[DictConfig](), Mistakes(len(lists))
    for job in lists:
        with mistakes.of(job):
            jobs.append(compose_job(loader, command, [*of_hydra, *job], swept=keys))
    mistakes.raise_any()
    if whole and base.get("only") == "failed":
        jobs = [job for job in jobs if RunFolder.of(job).status() == "failed"]
    return Plan(
        jobs=jobs,
        multirun=True,
        whole=whole,
        count=len(jobs) if whole else count,
        shared=without_hydra(base),
        replicates=tuple(sweeper.replicates if sweeper else ()) or Plan.replicates,
        first_is_baseline=sweeper is not None and sweeper.first_is_baseline,
        forks=getattr(_class(_target(base, "launcher")), "forks", False),
    )


def _sweeper(base: DictConfig) -> StudySweeper | None:
    """Make the sweeper that Hydra will make; None for a foreign one."""
    target, launcher = (_target(base, node) for node in ("sweeper", "launcher"))
    chosen = _class(target)
    if chosen is None or not issubclass(chosen, StudySweeper):
        return None
    if chosen.package:
        require_package(chosen.package, extra=chosen.package, user=f"sweep={chosen.package}")
    for node, name in (("hydra.sweeper", target), ("hydra.launcher", launcher)):
        if name.startswith("hydra_plugins.stelab."):
            validate_node(base, node)
    if not chosen.whole and not hasattr(_class(launcher), "stream"):
        ours = "serial, joblib, gpu, submitit_local, submitit_slurm or ray"
        raise InputError(f"this sweep needs hydra/launcher={ours}, got {launcher}")
    options: Any = OmegaConf.to_container(base.hydra.sweeper, resolve=True)
    sweeper = chosen(**{k: v for k, v in options.items() if not k.startswith("_")})
    known = [*keys_of(OmegaConf.to_container(without_hydra(base))), *base.hydra.runtime.choices]
    for key in sweeper.replicates:
        if key not in known:
            message = f"hydra.sweeper.replicates: {key} is not a key{suggestion(key, known)}"
            raise InputError(message)
    return sweeper


def _class(target: str) -> Any:
    """Return one of the plugins that Hydra has found; None for any other name."""
    return Plugins.instance().class_name_to_class.get(target)


def _target(base: DictConfig, node: str) -> str:
    """Return the class of Hydra's sweeper or launcher."""
    value = base.hydra[node]
    target = value.get("_target_") if OmegaConf.is_dict(value) else None
    if not isinstance(target, str):
        raise InputError(f"hydra.{node} must have a _target_ (hydra/{node}=...), got {value}")
    return target
