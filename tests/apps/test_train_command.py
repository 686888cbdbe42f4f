"""``stelab train`` as a process: single runs, sweeps, failures."""

from __future__ import annotations

from pathlib import Path

from conftest import Cli
from stelab.engine.config import CONF_DIR
from stelab.engine.studies import read_run

FAST = ("debug=fast", "model=mlp")


def runs(folder: Path) -> dict[str, bytes]:
    """The metrics.csv of every run of a study, by run id."""
    return {path.parent.name: path.read_bytes() for path in folder.glob("*/metrics.csv")}


def test_a_run_says_what_came_out(cli: Cli, tmp_path: Path) -> None:
    result = cli("train", *FAST, "estimator=hardtanh_clip", "threshold.value=0.25", "seed=3")
    assert result.returncode == 0, result.stderr
    (folder,) = (tmp_path / "outputs" / "debug").iterdir()
    assert folder.name.startswith("hardtanh_clip-fixed0.25-s3-")
    assert result.stdout.startswith(f"{folder.name}: val/loss ")
    assert result.stderr == ""
    assert not list(tmp_path.glob("outputs/debug/*/*.log"))

    again = cli("train", *FAST, "estimator=hardtanh_clip", "threshold.value=0.25", "seed=3")
    assert "finished already" in again.stdout
    assert again.returncode == 0


def test_a_sweep_prints_its_table_and_the_command_for_the_curves(cli: Cli, tmp_path: Path) -> None:
    names = [path.stem for path in Path(CONF_DIR, "estimator").glob("*.yaml")]
    result = cli("train", "-m", *FAST, "estimator=glob(*)", "study=zoo")
    assert result.returncode == 0, result.stderr
    study = tmp_path / "outputs" / "zoo"
    assert len(runs(study)) == len(names)
    for name in names:
        assert result.stdout.count(f"\n {name} ") == 1
    assert "n = 1, no interval" in result.stdout
    assert "stelab tensorboard study=zoo\n" in result.stdout
    assert (study / "loss.png").read_bytes().startswith(b"\x89PNG")
    assert (study / "reconstructions.png").read_bytes().startswith(b"\x89PNG")


def test_numbers_do_not_depend_on_the_place_in_a_sweep(cli: Cli, tmp_path: Path) -> None:
    sweep = ("train", "-m", *FAST)
    assert cli(*sweep, "estimator=none,identity", "seed=0,1", "study=forth").returncode == 0
    assert cli(*sweep, "estimator=identity,none", "seed=1,0", "study=back").returncode == 0
    forth, back = runs(tmp_path / "outputs" / "forth"), runs(tmp_path / "outputs" / "back")
    assert len(forth) == 4
    assert forth == back
    assert cli("train", *FAST, "estimator=none", "seed=1", "study=alone").returncode == 0
    (alone,) = runs(tmp_path / "outputs" / "alone").items()
    assert forth[alone[0]] == alone[1]


def test_flags_may_stand_anywhere(cli: Cli, tmp_path: Path) -> None:
    result = cli("train", "debug=fast", "-m", "model=mlp", "seed=0,1")
    assert result.returncode == 0, result.stderr
    assert len(runs(tmp_path / "outputs" / "debug")) == 2


def test_quickstart_is_a_sweep_by_itself(cli: Cli, tmp_path: Path) -> None:
    result = cli("train", "experiment=quickstart", "trainer.max_epochs=1", "data.limit=128")
    assert result.returncode == 0, result.stderr
    assert len(runs(tmp_path / "outputs" / "quickstart")) == 6


def test_a_failed_job_is_listed_and_the_others_run(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "fragile.py").write_text(
        "from stelab.estimators import Identity\n\n"
        "class Fragile(Identity):\n"
        '    """Fails in the forward pass."""\n\n'
        "    def forward(self, s, *, bits=None, generator=None):\n"
        "        raise RuntimeError('too fragile')\n"
    )
    (tmp_path / "conf" / "estimator").mkdir(parents=True)
    (tmp_path / "conf" / "estimator" / "fragile.yaml").write_text("_target_: fragile.Fragile\n")
    result = cli(
        *("train", "-m", "--config-dir", "conf", *FAST, "estimator=fragile,identity"),
        PYTHONPATH=str(tmp_path),
    )
    assert result.returncode == 1
    folders = sorted((tmp_path / "outputs" / "debug").glob("*-s0-*"))
    assert [read_run(folder).status for folder in folders] == ["failed", "finished"]
    assert "too fragile" in read_run(folders[0]).record["error"]
    assert "failed: RuntimeError: too fragile" in result.stdout
    assert "\n identity " in result.stdout


def test_debug_profile_leaves_a_table(cli: Cli, tmp_path: Path) -> None:
    result = cli("train", "debug=profile", "model=mlp", "data.limit=128")
    assert result.returncode == 0, result.stderr
    (table,) = tmp_path.glob("outputs/debug/*/fit-profile.txt")
    assert "run_training_epoch" in table.read_text()


def test_debug_overfit_learns_one_batch(cli: Cli, tmp_path: Path) -> None:
    assert cli("train", "debug=overfit", "model=mlp").returncode == 0
    (folder,) = (tmp_path / "outputs" / "debug").iterdir()
    assert read_run(folder).metrics["train/mse"] < 0.02


def test_debug_anomaly_runs(cli: Cli) -> None:
    result = cli("train", "debug=anomaly", "model=mlp", "data.limit=128")
    assert result.returncode == 0, result.stderr


def test_all_mistakes_of_a_sweep_are_told_before_it_starts(cli: Cli, tmp_path: Path) -> None:
    result = cli("train", "-m", *FAST, "optimizer.lr=0.1,-1", "model.bits=8,0", "seed=0,1")
    assert result.returncode == 2
    assert "optimizer.lr must be greater than 0, got -1" in result.stderr
    assert "model.bits must be greater than or equal to 1, got 0" in result.stderr
    assert "in 2 of 8 jobs, the first: " in result.stderr
    assert "optimizer.lr=-1 model.bits=8 seed=0" in result.stderr

    # What only a constructor can see is found by building, before the first job, too.
    result = cli("train", "-m", *FAST, "estimator=identity,exact", "model.bits=8,32,64")
    assert result.returncode == 2
    assert "at most 16, got 32" in result.stderr
    assert "at most 16, got 64" in result.stderr
    assert not (tmp_path / "outputs").exists()


def test_a_dry_run_lists_the_jobs_and_starts_none(cli: Cli, tmp_path: Path) -> None:
    sweep = ("train", *FAST, "estimator=none")
    assert cli(*sweep, "seed=1").returncode == 0
    before = sorted(tmp_path.rglob("*"))
    result = cli(*sweep, "-m", "seed=0,1,2", "dry_run=true")
    assert result.returncode == 0, result.stderr
    first, *lines = result.stdout.splitlines()
    assert first == "3 jobs, 1 finished already"
    assert [line.partition("-s")[2][0] for line in lines] == ["0", "1", "2"]
    assert [line.split("  ")[1] for line in lines] == ["missing", "finished", "missing"]
    assert sorted(tmp_path.rglob("*")) == before

    alone = cli(*sweep, "seed=2", "dry_run=true")
    assert [line.split("  ")[2] for line in lines] == ["seed=0", "seed=1", "seed=2"]
    assert lines[2] == f"{alone.stdout.splitlines()[1]}  seed=2"
    assert alone.stdout.startswith("1 job, 0 finished already\n")


def test_an_ablation_ends_with_its_own_baseline(cli: Cli) -> None:
    keys = ("estimator=none,identity", "threshold.value=0.5", "seed=0", "checkpoint.keep=none")
    result = cli("train", "sweep=ablation", *FAST, *keys)
    assert result.returncode == 0, result.stderr
    assert "Report:      stelab compare study=debug baseline=estimator=none\n" in result.stdout
    assert "\nNo reconstructions" in result.stdout
