"""Jobs that share a composition are what Hydra composes for each of them, and come fast."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import hydra
import pytest
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict

from stelab.engine.config.compose import compose_job, search
from stelab.engine.config.validate import validate, without_hydra
from stelab.engine.errors import InputError
from stelab.engine.sweepers.plan import plan

JOBS = [
    [],
    ["seed=3"],
    ["seed=3", "seed=4"],
    ["optimizer.lr=0.01", "optimizer=sgd"],
    ["optimizer=sgd", "optimizer.lr=0.01"],
    ["optimizer=adam", "optimizer=sgd"],
    ["optimizer={_target_:torch.optim.SGD,lr:0.1}"],
    ["+optimizer.eps=1e-7", "optimizer.betas=[0.8,0.9]"],
    ["++optimizer.eps=1e-7", "++seed=2"],
    ["~optimizer.fused"],
    ["~optimizer.weight_decay=0.0", "+optimizer.weight_decay=0.1"],
    ["experiment=tutorial", "estimator=hardtanh_clip", "threshold.value=0.25"],
    ["experiment=tutorial", "optimizer.lr=0.2", "model=mlp"],
    ["experiment=quickstart", "seed=1"],
    ["debug=fast", "model=mlp", "model.bits=8", "estimator=exact"],
    ["debug=profile", "trainer.profiler.filename=mine"],
    ["scheduler=cosine", "scheduler.eta_min=0.001", "trainer.max_epochs=7"],
    ["threshold=annealed", "estimator=none"],
    ["study='a b'", "hydra.verbose=true"],
    ["study=other", "paths.outputs=/elsewhere", "data.root=/data"],
    ["names.estimator='my ${hydra:runtime.choices.model}'"],
    ['trial={storage:"sqlite:///a,b=c.db",study:x,number:3}'],
    ["logger={}", "callbacks={}"],
    ["~callbacks", "+callbacks={}"],
    ["estimator=mine", "estimator.bound=0.25"],
    ["+extra=more", "seed=5"],
    ["sweep=ablation", "hydra.sweeper.replicates=[seed,data]", "seed=1"],
    ["hydra.searchpath=[file://OTHER]", "estimator=elsewhere", "seed=1"],
]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A folder for --config-dir, and one for hydra.searchpath."""
    mine, other = tmp_path_factory.mktemp("mine"), tmp_path_factory.mktemp("other")
    for folder, name in ((mine, "mine"), (other, "elsewhere")):
        (folder / "estimator").mkdir()
        (folder / "estimator" / f"{name}.yaml").write_text(
            "_target_: stelab.estimators.HardtanhClip\nbound: 0.5\n"
        )
    (mine / "extra").mkdir()
    (mine / "extra" / "more.yaml").write_text("# @package _global_\nmodel: {bits: 7}\n")
    return mine, other


def composed_by_hydra(job: list[str]) -> DictConfig:
    """Compose all of a job's overrides at once, and check it."""
    whole = hydra.compose("train", job, return_hydra_config=True)
    cfg = without_hydra(whole)
    OmegaConf.set_struct(cfg, True)
    HydraConfig.instance().set_config(whole)
    names = OmegaConf.to_container(cfg.names, resolve=True)
    HydraConfig.instance().cfg = None
    with open_dict(cfg):
        cfg.names = names
    validate(cfg, "train")
    return cfg


@pytest.mark.parametrize("job", JOBS, ids=" ".join)
def test_a_job_is_what_hydra_composes(
    job: list[str], folders: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(HydraConfig.instance(), "cfg", None)
    mine, other = folders
    job = [line.replace("OTHER", str(other)) for line in job]
    with search(str(mine)) as loader:
        try:
            plain = composed_by_hydra(job)
        except InputError as error:
            with pytest.raises(InputError) as fast:
                compose_job(loader, "train", job)
            assert str(fast.value) == str(error)
            return
        for _ in range(2):  # the second time from what the first one left
            cfg = compose_job(loader, "train", job)
            unresolved = OmegaConf.to_container(cfg.paths, resolve=False)
            assert isinstance(unresolved, dict)
            assert unresolved["run"] == plain.paths.run
            cfg.paths.run = "${paths.outputs}/${study}/${stelab.run_id:}"
            assert OmegaConf.to_yaml(cfg) == OmegaConf.to_yaml(plain)
            assert OmegaConf.to_yaml(cfg, resolve=True) == OmegaConf.to_yaml(plain, resolve=True)
            assert OmegaConf.is_struct(cfg)


def test_a_job_does_not_change_the_next() -> None:
    with search(None) as loader:
        before = OmegaConf.to_yaml(compose_job(loader, "train", []))
        compose_job(loader, "train", ["seed=1", "+optimizer.eps=0.1", "~optimizer.fused"])
        cfg = compose_job(loader, "train", ["seed=2"])
        cfg.optimizer.betas[0] = 0.1
        assert OmegaConf.to_yaml(compose_job(loader, "train", [])) == before


def test_a_hundred_jobs_compose_each_choice_of_groups_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    composed: list[object] = []
    compose = ConfigLoaderImpl.load_configuration

    def counted(self: ConfigLoaderImpl, *args: Any, **kwargs: Any) -> DictConfig:
        composed.append(args)
        return compose(self, *args, **kwargs)

    monkeypatch.setattr(ConfigLoaderImpl, "load_configuration", counted)
    for sweep, choices in (
        (["seed=range(100)"], 1),
        (["seed=range(25)", "estimator=identity,none,exact,logistic"], 4),
    ):
        composed.clear()
        jobs = plan("train", [*sweep, "model.bits=8"], multirun=True, config_dir=None).jobs
        assert len(composed) == choices + 1  # and what all of them share
        assert len({job.paths.run for job in jobs}) == 100
