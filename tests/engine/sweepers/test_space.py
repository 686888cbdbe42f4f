"""What Optuna may choose, from Hydra's grammar; the jobs that stand for it; mistakes in it."""

from __future__ import annotations

from pathlib import Path

import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from stelab.engine.config.compose import parse, search
from stelab.engine.config.composition import overrides_of
from stelab.engine.errors import InputError
from stelab.engine.sweepers.plan import Plan, plan
from stelab.engine.sweepers.space import Dimension, point, read_dimension, size


def dimension(line: str) -> Dimension:
    with search(None) as loader:
        return read_dimension(parse(loader, line))


@pytest.mark.parametrize(
    ("line", "distribution", "ends", "count"),
    [
        ("x=interval(0,1)", FloatDistribution(0.0, 1.0), [0.0, 1.0], None),
        ("x=tag(log,interval(1e-4,1e-1))", FloatDistribution(1e-4, 0.1, log=True), None, None),
        ("x=int(interval(2,5))", IntDistribution(2, 5), [2, 5], 4),
        ("x=tag(log,int(interval(1,64)))", IntDistribution(1, 64, log=True), [1, 64], 64),
        ("x=range(8,33,8)", IntDistribution(8, 32, step=8), [8, 32], 4),
        ("x=range(9,0,-3)", IntDistribution(3, 9, step=3), [3, 9], 3),
        ("x=range(0.1,0.45,0.1)", FloatDistribution(0.1, 0.4, step=0.1), [0.1, 0.4], 4),
        ("x=0.1,high,0.1", CategoricalDistribution(("0.1", "high")), ["0.1", "high"], 2),
        ("estimator=choice(none,exact)", CategoricalDistribution(("none", "exact")), None, 2),
        ("optimizer=glob(adam*)", CategoricalDistribution(("adam", "adamw")), None, 2),
    ],
)
def test_a_key_is_searched_as_it_says(
    line: str, distribution: object, ends: list[object] | None, count: int | None
) -> None:
    found = dimension(line)
    assert found.distribution() == distribution
    assert ends is None or list(found.ends()) == ends
    values = found.values()
    assert (values and len(values)) == count


def test_values_are_written_with_all_their_digits() -> None:
    lr = dimension("optimizer.lr=interval(0,1)")
    assert lr.override(0.1 + 0.2) == "optimizer.lr=0.30000000000000004"
    assert dimension("+x=range(0.1,0.45,0.1)").override(0.3) == "+x=0.3"
    assert dimension("x='a b',c").override("'a b'") == "x='a b'"


def test_all_points_of_a_finite_space() -> None:
    space = [dimension("x=range(3)"), dimension("y=a,b")]
    assert size(space) == 6
    assert [tuple(point(space, i).values())[::-1] for i in range(6)] == [
        (0, "a"), (0, "b"), (1, "a"), (1, "b"), (2, "a"), (2, "b")
    ]  # fmt: skip
    assert size([*space, dimension("z=interval(0,1)")]) == float("inf")


def planned(*arguments: str) -> Plan:
    return plan("train", ["sweep=optuna", *arguments], multirun=False, config_dir=None)


def test_examples_stand_for_all_trials() -> None:
    search = ("optimizer.lr=tag(log,interval(1e-4,1e-1))", "model.bits=range(8,65,8)")
    sweep = planned("study=x", *search, "estimator=identity,none,loo", "seed=4,5,6")
    assert [overrides_of(job) for job in sweep.jobs] == [
        ["sweep=optuna", "study=x", f"optimizer.lr={lr}", f"model.bits={bits}", f"estimator={e}"]
        + ["seed=4"]
        for lr, bits, e in (
            ("0.0001", 8, "identity"),
            ("0.1", 8, "identity"),
            ("0.0001", 64, "identity"),
            ("0.0001", 8, "none"),
            ("0.0001", 8, "loo"),
        )
    ]
    assert (sweep.whole, sweep.count) == (False, 20 * 3)


def test_a_small_space_has_no_more_trials_than_points() -> None:
    assert planned("estimator=none,identity", "model.bits=8,16", "seed=0,1").count == 4 * 2


def test_an_experiment_states_a_search(tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(
        "# @package _global_\n"
        "defaults:\n"
        "  - override /sweep: optuna\n"
        "hydra:\n"
        "  sweeper:\n"
        "    n_trials: 7\n"
        "    params:\n"
        "      optimizer.lr: tag(log,interval(1e-4,1e-1))\n"
        "      seed: 0,1\n"
    )
    sweep = plan("train", ["experiment=mine"], multirun=False, config_dir=str(tmp_path))
    assert [overrides_of(job) for job in sweep.jobs] == [
        ["optimizer.lr=0.0001", "seed=0", "experiment=mine"],
        ["optimizer.lr=0.1", "seed=0", "experiment=mine"],
    ]
    assert sweep.count == 7 * 2


MISTAKES = [
    ([], "nothing to sweep over besides the replicates (seed)"),
    (["seed=0,1"], "nothing to sweep over besides the replicates (seed)"),
    (["model.bits=8,9", "hydra.sweeper.n_trials=0"], "hydra.sweeper.n_trials must be greater"),
    (["model.bits=8,9", "hydra.sweeper.direction=down"], "must be 'minimize' or 'maximize'"),
    (["model.bits=8,9", "hydra.sweeper.trials=3"], "hydra.sweeper.trials is not a key here"),
    (
        ["model.bits=8,9", "+hydra.sweeper.sampler.sed=1"],
        "did you mean 'seed'?",
    ),
    (
        ["model.bits=8,9", "hydra.sweeper.sampler._target_=optuna.samplers.Nope"],
        "there is no 'Nope' in optuna.samplers",
    ),
    (["model.bits=8,9", "hydra.sweeper.sampler=null"], "must be a valid dictionary, got None"),
    (["model.bits=8,9", "hydra.sweeper.pruner={n:1}"], "hydra.sweeper.pruner must be a node"),
    (
        ["model.bits=8,9", "hydra.sweeper.pruner={_target_:optuna.pruners.MedianPruner}"]
        + ["+hydra.sweeper.pruner.n_startup_trials=-1"],
        "optuna.pruners.MedianPruner refuses its arguments: ValueError",
    ),
    (["optimizer.lr=interval(0,1e400)"], "'optimizer.lr=interval(0,1e400)' must have finite ends"),
    (["optimizer.lr=interval(1,0)"], "must go from the lower to the higher end"),
    (["optimizer.lr=tag(log,interval(0,1))"], "tagged log, so it must begin above 0"),
    (["optimizer.lr=tag(lgo,interval(1,2))"], "has the tag lgo; the only one is log"),
    (["model.bits=tag(log,range(8,33,8))"], "tagged log, so it takes no step"),
    (["model.bits=tag(log,choice(8,16))"], "is a list, which takes no tag"),
    (["model.bits=range(3,3)"], "matches nothing"),
    (["estimator=glob(typo*)"], "matches nothing"),
    (["seed=interval(0,1)", "model.bits=8,9"], "is a continuous range"),
    (["optimizer.lr=interval(-1,0.1)"], "optimizer.lr must be greater than 0, got -1.0"),
    (["model.bits=8,9", "hydra/launcher=basic"], "this sweep needs hydra/launcher=serial, "),
]


@pytest.mark.parametrize(("arguments", "expected"), MISTAKES, ids=lambda v: str(v)[:60])
def test_a_mistake_in_a_search_is_named(arguments: list[str], expected: str) -> None:
    with pytest.raises(InputError) as error:
        planned(*arguments)
    assert expected in str(error.value)


def test_without_optuna_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    import importlib.util

    real = importlib.util.find_spec
    monkeypatch.setattr(
        "stelab.engine.project.find_spec",
        lambda name: None if name == "optuna" else real(name),
    )
    with pytest.raises(InputError, match=r"pip install 'stelab\[optuna\]'"):
        planned("model.bits=8,9")


def test_a_storage_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    from hydra_plugins.stelab.optuna import OptunaSweeper

    sweeper = OptunaSweeper(
        params=None,
        replicates=["seed"],
        n_trials=1,
        direction="minimize",
        sampler={"_target_": "optuna.samplers.RandomSampler"},
        pruner=None,
        storage="nowhere",
    )
    with pytest.raises(InputError, match="hydra.sweeper.storage cannot be opened: nowhere"):
        sweeper._study("x", tmp_path / "drivers")
