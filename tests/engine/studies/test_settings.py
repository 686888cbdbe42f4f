"""What counts as a setting, on configurations that Hydra composed."""

from __future__ import annotations

import copy
import cProfile
import itertools
import pstats
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig

from stelab.engine.config.compose import compose_job, search
from stelab.engine.config.composition import recorded
from stelab.engine.config.identity import fingerprint
from stelab.engine.config.validate import plain
from stelab.engine.studies.record import Run
from stelab.engine.studies.settings import plain_value, swept


def runs(*jobs: str, config_dir: Path | None = None) -> list[Run]:
    """Make a run of each line of overrides."""
    with search(str(config_dir) if config_dir else None) as loader:
        return [_run(compose_job(loader, "train", job.split())) for job in jobs]


def _run(cfg: DictConfig) -> Run:
    record = {"fingerprint": fingerprint(cfg), "composition": recorded(cfg)}
    return Run(Path(cfg.paths.run), "finished", plain(cfg), {}, record)


def settings(*jobs: str, config_dir: Path | None = None) -> list[dict[str, Any]]:
    return [dict(flat) for flat in swept(runs(*jobs, config_dir=config_dir))]


def read(*jobs: str) -> list[dict[str, Any]]:
    """Return the settings of runs that have no record of what they were composed with."""
    return [dict(f) for f in swept([replace(each, record={}) for each in runs(*jobs)])]


def grid(**axes: str) -> list[str]:
    """Return a line of overrides for each combination; ``_`` in a key stands for a dot."""
    lists = [
        [f"{key.replace('_', '.')}={value}" for value in values.split()]
        for key, values in axes.items()
    ]
    return [" ".join(job) for job in itertools.product(*lists)]


def test_estimator_threshold_and_seed() -> None:
    found = settings(*grid(estimator="identity none", threshold_value="0 0.5", seed="0 1 2"))
    assert found == [
        {"estimator": estimator, "threshold.value": value, "seed": seed}
        for estimator in ("identity", "none")
        for value in (0, 0.5)
        for seed in (0, 1, 2)
    ]
    assert all(list(flat) == ["estimator", "threshold.value", "seed"] for flat in found)


def test_nothing_differs() -> None:
    assert settings("seed=3", "seed=3") == [{}, {}]
    assert settings("") == [{}]
    assert swept([]) == []


def test_what_cannot_change_a_result_is_no_setting() -> None:
    places = "study=a paths.outputs=/a data.root=/data/a rerun=true retries=1 checkpoint={}"
    assert settings(
        places.format("{every_n_steps:1,every_n_minutes:null}"), "trainer.enable_progress_bar=false"
    ) == [{}, {}]


def test_an_optimizer_is_one_setting_and_lr_only_within_one() -> None:
    # Their defaults differ in lr, betas, momentum: that is what the option means.
    assert settings("optimizer=adam", "optimizer=sgd") == [
        {"optimizer": "adam"},
        {"optimizer": "sgd"},
    ]
    assert settings("optimizer=adam", "optimizer=sgd", "optimizer=sgd optimizer.lr=0.2") == [
        {"optimizer": "adam", "optimizer.lr": 0.001},
        {"optimizer": "sgd", "optimizer.lr": 0.1},
        {"optimizer": "sgd", "optimizer.lr": 0.2},
    ]
    assert settings("optimizer.lr=0.01", "optimizer.lr=0.02") == [
        {"optimizer.lr": 0.01},
        {"optimizer.lr": 0.02},
    ]


def test_a_key_that_one_option_has() -> None:
    jobs = ("identity", "gumbel_st estimator.temperature=0.5", "gumbel_st estimator.temperature=1")
    assert settings(*(f"estimator={job}" for job in jobs)) == [
        {"estimator": "identity"},
        {"estimator": "gumbel_st", "estimator.temperature": 0.5},
        {"estimator": "gumbel_st", "estimator.temperature": 1},
    ]
    # Not swept, it is no setting, though only one of them has it.
    assert settings("estimator=identity", "estimator=gumbel_st") == [
        {"estimator": "identity"},
        {"estimator": "gumbel_st"},
    ]


def test_estimators_of_one_class_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "estimator").mkdir()
    for name, bound in (("narrow", 0.1), ("wide", 9.0)):
        (tmp_path / "estimator" / f"{name}.yaml").write_text(
            f"_target_: stelab.estimators.HardtanhClip\nbound: {bound}\n"
        )
    jobs = ("narrow", "wide", "hardtanh_clip", "wide estimator.bound=8")
    found = settings(*(f"estimator={job}" for job in jobs), config_dir=tmp_path)
    assert found == [
        {"estimator": "narrow", "estimator.bound": 0.1},
        {"estimator": "wide", "estimator.bound": 9},
        {"estimator": "hardtanh_clip", "estimator.bound": 1},
        {"estimator": "wide", "estimator.bound": 8},
    ]
    assert settings("estimator=narrow", "estimator=wide", config_dir=tmp_path) == [
        {"estimator": "narrow"},
        {"estimator": "wide"},
    ]


def test_thresholds_of_two_kinds() -> None:
    assert settings(
        "threshold=fixed", "threshold=fixed threshold.value=0.5", "threshold=learned"
    ) == [
        {"threshold": "fixed", "threshold.value": 0},
        {"threshold": "fixed", "threshold.value": 0.5},
        {"threshold": "learned"},
    ]


@pytest.mark.parametrize("callbacks", ["default", "basket"])
def test_the_seed_of_the_data_follows(callbacks: str) -> None:
    found = settings(*(f"seed={i} callbacks={callbacks}" for i in range(12)))
    assert found == [{"seed": i} for i in range(12)]


def test_a_seed_of_the_data_that_stands_still() -> None:
    # The same in all runs is no setting, though a run has the same seed.
    assert settings(*(f"seed={i} data.seed=1" for i in range(3))) == [{"seed": i} for i in range(3)]
    # In some runs it is one: these are other runs than those whose data follows.
    assert settings("seed=0", "seed=1", "seed=0 data.seed=7", "seed=1 data.seed=7") == [
        {"seed": 0},
        {"seed": 1},
        {"data.seed": 7, "seed": 0},
        {"data.seed": 7, "seed": 1},
    ]


@pytest.mark.parametrize(
    ("fixed", "key"),
    [
        ("threshold=learned", "model.bits"),  # threshold.channels follows
        ("estimator=relax", "model.bits"),  # estimator.bits
        ("estimator=reinforce_learned threshold=learned", "model.bits"),  # three of them
        ("scheduler=cosine", "trainer.max_epochs"),  # scheduler.T_max
        ("", "model.bits"),
    ],
)
def test_what_is_interpolated_follows(fixed: str, key: str) -> None:
    assert settings(*(f"{fixed} {key}={value}" for value in (8, 16, 32))) == [
        {key: value} for value in (8, 16, 32)
    ]


def test_what_is_set_besides_does_not_follow() -> None:
    jobs = (
        "trainer.max_epochs=5",
        "trainer.max_epochs=9",
        "trainer.max_epochs=9 scheduler.T_max=5",
    )
    assert settings(*(f"scheduler=cosine {job}" for job in jobs)) == [
        {"scheduler.T_max": 5, "trainer.max_epochs": 5},
        {"scheduler.T_max": 9, "trainer.max_epochs": 9},
        {"scheduler.T_max": 5, "trainer.max_epochs": 9},
    ]
    # Swept together, and neither refers to the other.
    assert settings(*(f"model.bits={n} data.batch_size={n}" for n in (8, 16))) == [
        {"model.bits": n, "data.batch_size": n} for n in (8, 16)
    ]


def test_groups_are_their_options() -> None:
    assert settings("callbacks=default", "callbacks=basket", "trainer=cpu debug=overfit") == [
        {"trainer": "auto", "callbacks": "default"},
        {"trainer": "auto", "callbacks": "basket"},
        {"debug": "overfit", "trainer": "cpu", "callbacks": "default"},
    ]


def test_a_changed_file_of_a_group_is_told_by_what_it_changed(tmp_path: Path) -> None:
    (tmp_path / "estimator").mkdir()
    made = []
    for bound in (0.1, 0.2):
        text = f"_target_: stelab.estimators.HardtanhClip\nbound: {bound}\n"
        (tmp_path / "estimator" / "mine.yaml").write_text(text)
        made += runs("estimator=mine seed=0", "estimator=mine seed=1", config_dir=tmp_path)
    assert swept(made) == [
        {"estimator.bound": bound, "seed": seed} for bound in (0.1, 0.2) for seed in (0, 1)
    ]


def test_runs_without_a_record_are_told_apart_by_all_their_keys() -> None:
    jobs = grid(estimator="identity none", threshold_value="0 0.5", seed="0 1 2")
    assert read(*jobs) == settings(*jobs)  # data.seed is a copy
    assert read("seed=0 data.seed=7", "seed=1 data.seed=7", "seed=1") == [
        {"data.seed": 7, "seed": 0},
        {"data.seed": 7, "seed": 1},
        {"data.seed": 1, "seed": 1},
    ]
    assert read("scheduler=cosine", "scheduler=cosine trainer.max_epochs=9") == [
        {"scheduler.T_max": 5, "trainer.max_epochs": 5},
        {"scheduler.T_max": 9, "trainer.max_epochs": 9},
    ]
    (adam, sgd) = read("optimizer=adam", "optimizer=sgd")
    assert (adam["optimizer"], sgd["optimizer"]) == ("torch.optim.Adam", "torch.optim.SGD")
    assert adam.keys() == sgd.keys() == {"optimizer"}  # whose rates are different in any case
    # One of them makes all of them such.
    old, new = runs("model.bits=8", "model.bits=8 seed=1")
    assert swept([replace(old, record={}), new]) == [{"seed": 0}, {"seed": 1}]


def test_a_target_that_is_a_table_stops_nothing() -> None:
    whole, broken = (replace(run, record={}) for run in runs("seed=0", "seed=1"))
    broken.config["estimator"]["_target_"] = {"a": 1}
    del broken.config["names"]["estimator"]
    first, second = swept([whole, broken])
    assert (first["seed"], second["seed"]) == (0, 1)


def test_runs_that_lack_a_later_key_have_what_it_was_without() -> None:
    default, other = runs("data=mnist5k", "data=mnist5k seed=1 data.mean=0 data.std=1")
    config = copy.deepcopy(default.config)
    del config["data"]["mean"], config["data"]["std"]
    old = replace(default, config=config)
    assert old.composition  # its record is still of it
    assert swept([old, default]) == [{}, {}]
    assert swept([old, other]) == [
        {"data.mean": 0.5, "data.std": 0.5, "seed": 0},
        {"data.mean": 0, "data.std": 1, "seed": 1},
    ]
    assert swept([replace(old, record={}), default]) == [{}, {}]


def test_lists_null_and_truth() -> None:
    assert settings("optimizer.betas=[0.5,0.999]", "") == [
        {"optimizer.betas": "[0.5,0.999]"},
        {"optimizer.betas": "[0.9,0.999]"},
    ]
    assert settings("data.limit=64", "data.limit=null") == [
        {"data.limit": 64},
        {"data.limit": "null"},
    ]
    assert settings("model.signed=true", "model.signed=false") == [
        {"model.signed": "true"},
        {"model.signed": "false"},
    ]
    assert plain_value({"a": [1, None]}) == '{"a":[1,null]}'


def test_keys_that_some_runs_lack() -> None:
    assert settings("+optimizer.eps=1e-7", "", "~optimizer.fused") == [
        {"optimizer.fused": "true", "optimizer.eps": 1e-7},
        {"optimizer.fused": "true"},
        {},
    ]


def test_groups_come_before_others_in_the_order_of_the_configuration() -> None:
    first = "seed=1 monitor=train/loss trainer.max_epochs=1 optimizer=sgd model.bits=4"
    (found, _) = settings(f"{first} threshold=learned estimator=none loss.reduction=sum", "")
    assert list(found) == [
        *("estimator", "threshold", "model.bits", "loss.reduction", "optimizer"),
        *("trainer.max_epochs", "seed", "monitor"),
    ]


def test_a_network_and_its_data() -> None:
    assert settings("model=mlp data=mnist5k", "model=conv data=mnist5k", "data=mnist") == [
        {"model": "mlp", "data": "mnist5k"},
        {"model": "conv", "data": "mnist5k"},
        {"model": "conv", "data": "mnist"},
    ]


@pytest.mark.parametrize("composed", [True, False])
def test_twice_the_runs_are_twice_the_work(composed: bool) -> None:
    def calls(count: int) -> int:
        several = [
            replace(run, config={**run.config, "seed": i}, record=run.record if composed else {})
            for i in range(count)
        ]
        with cProfile.Profile() as profile:
            assert len(swept(several)) == count
        found: int = pstats.Stats(profile).total_calls  # type: ignore[attr-defined]
        return found

    (run,) = runs("seed=0")
    assert calls(200) < 2.1 * calls(100)
