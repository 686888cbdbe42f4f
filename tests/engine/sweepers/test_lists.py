"""The jobs of grids, ablations, pairs and tables, and the mistakes in them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from conftest import Cli
from stelab.engine.config.composition import overrides_of, recorded
from stelab.engine.errors import InputError
from stelab.engine.studies import read_run
from stelab.engine.sweepers.plan import Plan, plan


def planned(*arguments: str, config_dir: Path | None = None, multirun: bool = False) -> Plan:
    directory = str(config_dir) if config_dir else None
    return plan("train", arguments, multirun=multirun, config_dir=directory)


def jobs(*arguments: str, config_dir: Path | None = None, multirun: bool = False) -> list[str]:
    """The swept overrides of each job, in one line each."""
    sweep = planned(*arguments, config_dir=config_dir, multirun=multirun)
    assert sweep.whole
    assert sweep.count == len(sweep.jobs)
    fixed = [a for a in arguments if not a.startswith("hydra") and "," not in a]
    return [" ".join(o for o in job if o not in fixed) for job in map(overrides_of, sweep.jobs)]


def test_a_grid_is_every_combination_the_last_key_fastest() -> None:
    expected = ["estimator=identity seed=0", "estimator=identity seed=1"]
    expected += ["estimator=none seed=0", "estimator=none seed=1"]
    assert jobs("estimator=identity,none", "seed=0,1", multirun=True) == expected
    assert jobs("sweep=grid", "estimator=identity,none", "seed=0,1") == expected


def test_a_grid_takes_all_of_the_grammar() -> None:
    assert jobs("seed=range(2)", "model.bits=choice(8,16)", multirun=True) == [
        "seed=0 model.bits=8",
        "seed=0 model.bits=16",
        "seed=1 model.bits=8",
        "seed=1 model.bits=16",
    ]
    assert jobs("optimizer=glob(adam*)", multirun=True) == ["optimizer=adam", "optimizer=adamw"]
    assert jobs("+optimizer.eps=1e-7,1e-8", multirun=True) == [
        "+optimizer.eps=1e-07",
        "+optimizer.eps=1e-08",
    ]
    assert jobs("seed=1,1,2", multirun=True) == ["seed=1", "seed=2"]
    assert jobs("study=x", multirun=True) == [""]


def test_an_ablation_changes_one_key_at_a_time_for_every_seed() -> None:
    sweep = ("sweep=ablation", "estimator=identity,none,exact", "model.bits=8,16", "seed=0,1")
    assert jobs(*sweep) == [
        f"estimator={estimator} model.bits={bits} seed={seed}"
        for estimator, bits in (("identity", 8), ("none", 8), ("exact", 8), ("identity", 16))
        for seed in (0, 1)
    ]


def test_replicates_are_a_full_product_wherever_they_stand() -> None:
    sweep = ("sweep=ablation", "seed=0,1", "model.bits=8,16", "data=mnist5k,mnist")
    assert jobs(*sweep, "hydra.sweeper.replicates=[seed,data]") == [
        f"seed={seed} model.bits={bits} data={data}"
        for bits in (8, 16)
        for seed in (0, 1)
        for data in ("mnist5k", "mnist")
    ]
    assert jobs("sweep=ablation", "seed=0,1,2", "hydra.sweeper.replicates=[]") == [
        "seed=0",
        "seed=1",
        "seed=2",
    ]


def test_an_ablation_has_no_job_twice() -> None:
    assert jobs("sweep=ablation", "model.bits=8,8,16", "seed=1,1") == [
        "model.bits=8 seed=1",
        "model.bits=16 seed=1",
    ]


def test_pairs_go_together() -> None:
    assert jobs("sweep=paired", "model.bits=8,16", "seed=0,1", "optimizer.lr=0.1,0.2") == [
        "model.bits=8 seed=0 optimizer.lr=0.1",
        "model.bits=8 seed=1 optimizer.lr=0.1",
        "model.bits=16 seed=0 optimizer.lr=0.2",
        "model.bits=16 seed=1 optimizer.lr=0.2",
    ]


ROWS = (
    "sweep=table",
    "hydra.sweeper.rows=[{estimator:none,optimizer.lr:1e-2},"
    "{estimator:bernoulli_st,optimizer.lr:1e-3,scheduler.eta_min:'0,0.1',scheduler:cosine}]",
)


def test_rows_go_together_and_need_not_have_the_same_keys() -> None:
    assert jobs(*ROWS, "seed=0,1") == [
        f"seed={seed} {row}"
        for row in (
            "estimator=none optimizer.lr=0.01",
            "estimator=bernoulli_st optimizer.lr=0.001 scheduler.eta_min=0 scheduler=cosine",
            "estimator=bernoulli_st optimizer.lr=0.001 scheduler.eta_min=0.1 scheduler=cosine",
        )
        for seed in (0, 1)
    ]
    record = recorded(planned(*ROWS, "seed=0,1", "model.bits=8").jobs[0])
    assert record is not None
    keys = ("estimator", "optimizer.lr", "scheduler.eta_min", "scheduler", "seed")
    assert record["swept"] == keys


def test_values_of_a_rows_key_choose_among_the_rows() -> None:
    (job,) = planned(*ROWS, "estimator=none", "seed=3").jobs
    assert (job.names.estimator, job.optimizer.lr, job.seed) == ("none", 0.01, 3)
    assert len(planned(*ROWS, "optimizer.lr=1e-2,1e-3").jobs) == 3
    (job,) = planned(*ROWS, "scheduler.eta_min=1e-1").jobs  # which not every row has
    assert job.scheduler.eta_min == 0.1


@pytest.fixture
def experiments(tmp_path: Path) -> Path:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(
        "# @package _global_\n"
        "defaults:\n"
        "  - override /model: mlp\n"
        "  - override /sweep: ablation\n"
        "hydra:\n"
        "  sweeper:\n"
        "    replicates: [data.batch_size]\n"
        "    params:\n"
        "      estimator: identity,none\n"
        "      threshold.value: 0.0,0.5\n"
        "      data.batch_size: 32,64\n"
    )
    return tmp_path


def test_an_experiment_states_a_sweep(experiments: Path) -> None:
    assert jobs("experiment=mine", config_dir=experiments) == [
        f"estimator={estimator} threshold.value={theta} data.batch_size={size}"
        for estimator, theta in (("identity", "0.0"), ("none", "0.0"), ("identity", "0.5"))
        for size in (32, 64)
    ]
    plans = planned("experiment=mine", config_dir=experiments)
    assert {job.names.model for job in plans.jobs} == {"mlp"}


def test_the_command_line_goes_over_an_experiments_sweep(experiments: Path) -> None:
    over = ("threshold.value=1", "estimator=none,exact,loo", "seed=7")
    assert jobs("experiment=mine", *over, config_dir=experiments) == [
        f"estimator={estimator} data.batch_size={size}"
        for estimator in ("none", "exact", "loo")
        for size in (32, 64)
    ]
    pairs = jobs("experiment=mine", "sweep=paired", "data.batch_size=8", config_dir=experiments)
    assert pairs == [
        "estimator=identity threshold.value=0.0",
        "estimator=none threshold.value=0.5",
    ]


MISTAKES = [
    (["sweep=ablation"], "nothing to sweep over besides the replicates (seed)"),
    (["sweep=ablation", "seed=0,1"], "nothing to sweep over besides the replicates (seed)"),
    (["sweep=paired"], "nothing to sweep over"),
    (
        ["sweep=paired", "model.bits=8,16", "optimizer.lr=0.1,0.2,0.3"],
        "as many values for each key: model.bits has 2, optimizer.lr has 3",
    ),
    (["sweep=grid", "optimizer.lr=interval(0,1)"], "only sweep=optuna takes one"),
    (["sweep=ablation", "optimizer.lr=interval(0,1)"], "only sweep=optuna takes one"),
    (["sweep=grid", "estimator=glob(typo*)"], "matches nothing"),
    (["sweep=grid", f"seed=range(0.5,{10**400})"], "has more than 10000 values: give fewer"),
    (
        ["sweep=nope"],
        "sweep=nope does not exist (available: ablation, grid, optuna, paired, table)",
    ),
    (
        ["sweep=ablation", "hydra.sweeper.replicates=[sed]", "seed=0,1"],
        "hydra.sweeper.replicates: sed is not a key; did you mean 'seed'?",
    ),
    (
        ["sweep=ablation", "hydra.sweeper.replicate=[seed]", "seed=0,1"],
        "hydra.sweeper.replicate is not a key here; did you mean 'hydra.sweeper.replicates'?",
    ),
    (
        ["sweep=ablation", "+hydra.sweeper.n_trials=3", "seed=0,1"],
        "hydra.sweeper.n_trials is not a key here",
    ),
    (
        ["sweep=ablation", "hydra.sweeper.replicates=seed", "model.bits=8,9"],
        "hydra.sweeper.replicates must be a valid list, got 'seed'",
    ),
    (["sweep=ablation", "~hydra.sweeper.replicates"], "hydra.sweeper.replicates must be given"),
    (["sweep=table", "seed=0,1"], "sweep=table needs rows: hydra.sweeper.rows="),
    (
        [*ROWS, "estimator=none,exact", "optimizer.lr=0.5"],
        "'optimizer.lr=0.5' is in no row of sweep=table, which has optimizer.lr=0.01",
    ),
    (["sweep=table", "hydra.sweeper.rows=[3]"], "hydra.sweeper.rows.0 must be a valid dictionary"),
    ([*ROWS, "optimizer.rl=3"], "optimizer.rl is not a key here"),
    (["sweep=grid", "seed=0,1", "retries=-1"], "retries must be greater than or equal to 0"),
]


@pytest.mark.parametrize(("arguments", "expected"), MISTAKES, ids=lambda v: str(v)[:60])
def test_a_mistake_in_a_sweep_is_named(arguments: list[str], expected: str) -> None:
    with pytest.raises(InputError) as error:
        planned(*arguments)
    assert expected in str(error.value)


def test_a_foreign_sweeper_has_its_base_checked(tmp_path: Path) -> None:
    sweep = planned("hydra/sweeper=basic", "seed=0,1", "study=x", multirun=True)
    assert (sweep.whole, sweep.count, len(sweep.jobs)) == (False, None, 1)
    with pytest.raises(InputError, match="must be greater than 0"):
        planned("hydra/sweeper=basic", "seed=0,1", "optimizer.lr=-1", multirun=True)


def test_only_failed_keeps_what_failed(tmp_path: Path) -> None:
    sweep = ("seed=0,1,2", f"paths.outputs={tmp_path}")
    for cfg, status in zip(
        planned(*sweep, multirun=True).jobs, ["failed", "finished", "failed"], strict=True
    ):
        folder = Path(cfg.paths.run)
        folder.mkdir(parents=True)
        (folder / "config.yaml").write_text("{}")
        (folder / "run.json").write_text(json.dumps({"status": status, "metrics": {}}))
    again = planned(*sweep, "only=failed", multirun=True)
    assert [job.seed for job in again.jobs] == [0, 2]
    assert overrides_of(again.jobs[1])[0] == "seed=2"
    assert (again.count, again.whole, again.shared.only) == (2, True, "failed")
    assert planned("seed=5,6", "only=failed", multirun=True).jobs == []


def test_sweepers_launch_what_is_planned(cli: Cli, tmp_path: Path) -> None:
    fast = ("debug=fast", "model=mlp", "seed=0,1", "optimizer.lr=0.01,0.1")
    result = cli("train", "sweep=paired", "hydra.sweeper.replicates=[]", *fast)
    assert result.returncode == 0, result.stderr
    folders = list((tmp_path / "outputs" / "debug").glob("*-s*"))
    made = sorted(
        (run.config["seed"], run.config["optimizer"]["lr"]) for run in map(read_run, folders)
    )
    assert made == [(0, 0.01), (1, 0.1)]


@pytest.mark.parametrize(
    ("foreign", "rates", "states"),
    [
        ("hydra/launcher=basic", "0.1,0.2", ["finished", "finished"]),
        ("hydra/sweeper=basic", "0.1,1e38", ["finished", "failed"]),
    ],
)
def test_a_foreign_launcher_or_sweeper_runs_the_jobs(
    cli: Cli, tmp_path: Path, foreign: str, rates: str, states: list[str]
) -> None:
    fast = ("debug=fast", "model=mlp", "optimizer=sgd", f"optimizer.lr={rates}")
    result = cli("train", "-m", foreign, *fast)
    assert result.returncode == int("failed" in states), result.stderr
    assert "Traceback" not in result.stderr
    runs = map(read_run, (tmp_path / "outputs" / "debug").glob("*-s0-*"))
    by_rate = sorted(runs, key=lambda run: float(run.config["optimizer"]["lr"]))
    assert [run.status for run in by_rate] == states
