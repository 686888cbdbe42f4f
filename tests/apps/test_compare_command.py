"""``stelab compare`` as a process, on real short runs."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pandas as pd
import pytest

from conftest import Cli
from waiting import PATIENCE
from zygote import Zygote

WORDS = ("study=small", "report=false")


@pytest.fixture(scope="module")
def sweep(zygote: Zygote, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A finished study of three estimators and three seeds, and what its sweep printed."""
    folder = tmp_path_factory.mktemp("compare")
    words = ["debug=fast", "model=mlp", "estimator=none,hardtanh_clip,identity", "seed=0,1,2"]
    environment = {**os.environ, "COLUMNS": "200"}
    process = zygote.start(
        "train", "-m", *words, "study=small", cwd=folder, environment=environment
    )
    out, err = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, err
    return folder, out


@pytest.fixture
def place(sweep: tuple[Path, str], tmp_path: Path) -> Path:
    """A copy of it to write into."""
    shutil.copytree(sweep[0] / "outputs", tmp_path / "outputs")
    return tmp_path / "outputs"


def run_of(place: Path, estimator: str, seed: int) -> Path:
    (folder,) = (place / "small").glob(f"{estimator}-fixed0-s{seed}-*")
    return folder


def row_of(output: str, name: str) -> list[str]:
    (line,) = [line for line in output.splitlines() if line.startswith(f" {name} ")]
    return line.split()


def test_a_sweep_ends_with_the_comparison(sweep: tuple[Path, str]) -> None:
    folder, output = sweep
    values: dict[str, list[float]] = {}
    for path in (folder / "outputs" / "small").glob("*/run.json"):
        values.setdefault(path.parent.name.partition("-")[0], []).append(
            json.loads(path.read_text())["metrics"]["test/mse"]
        )
    for name in ("identity", "hardtanh_clip", "none"):
        assert row_of(output, name)[1:3] == ["3", f"{sum(values[name]) / 3:#.4g}"]
    assert "baseline" in row_of(output, "identity")
    assert "\n1 of 9: estimator=none seed=0: val/loss " in output
    assert "\n9 of 9: estimator=identity seed=2: val/loss " in output
    assert "identity = hardtanh_clip: clip_fraction 0 in every epoch" in output
    assert "the lowest of 2 means, so chance favours it" in output
    assert "stelab compare study=small\n" in output
    assert "stelab tensorboard study=small\n" in output


def test_compare_writes_tables_figures_and_a_report(cli: Cli, place: Path) -> None:
    result = cli("compare", "study=small")
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    folder = place / "small" / "comparison"
    for name in ("comparison", "runs", "curves", "left_out"):
        written = pd.read_parquet(folder / f"{name}.parquet")
        read = pd.read_csv(folder / f"{name}.csv")
        assert list(written.columns) == list(read.columns)
        assert len(written) == len(read)
    assert len(pd.read_csv(folder / "runs.csv")) == 9
    drawn = {path.name for path in (folder / "figures").iterdir()}
    assert {"curves.svg", "curves.png", "points.svg", "reconstructions.png"} <= drawn
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "identity = hardtanh_clip" in page
    again = cli("compare", "study=small")  # its own folder is none of a run
    assert again.stdout == result.stdout
    assert (folder / "report.html").read_text(encoding="utf-8") == page


def test_what_is_asked_for_is_shown(cli: Cli, place: Path) -> None:
    result = cli(
        *("compare", *WORDS, "metric=val/mse,code/entropy", "better=lower,higher"),
        *("baseline=none", "interval=bootstrap"),
    )
    assert result.returncode == 0, result.stderr
    assert "Better is lower val/mse, higher code/entropy." in result.stdout
    assert "Differences to estimator=none, paired by seed" in result.stdout
    assert result.stdout.count(" code/entropy ") == 1
    assert not (place / "small" / "comparison").exists()

    result = cli("compare", *WORDS, "where=estimator=identity,none seed=1")
    assert result.returncode == 0, result.stderr
    assert "hardtanh_clip" not in result.stdout
    assert "n = 1, no interval" in result.stdout

    result = cli("compare", *WORDS, "by=model")
    assert "Means over estimator, replicate by replicate" in result.stdout


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["study=smal"], "smal is not there"),
        (["study=small", "metric=test/msee"], "no run has test/msee; did you mean 'test/mse'?"),
        (["study=small", "by=estimatr"], "did you mean 'estimator'?"),
        (["study=small", "where=estimator=idenity"], "did you mean 'identity'?"),
        (["study=small", "baseline=reinmax"], "'reinmax' must be KEY=VALUE"),
        (["study=small", "confidence=95"], "confidence must be less than 1, got 95"),
        (["study=small", "better=lowr"], "better must be lower or higher, got 'lowr'"),
        (["study=small", "against=small"], "against must name other studies"),
        (["study=small", "against=old", "baseline=none"], "against: the baseline is the older st"),
        (["study=small", "against=old", "output=elsewhere"], "against: nothing is written: leave"),
        (["study="], "study"),
        (["study=','"], "a study must be named, or several: NAME,NAME; got ','"),
    ],
)
def test_mistakes_are_told_and_nothing_is_written(
    cli: Cli, place: Path, words: list[str], message: str
) -> None:
    result = cli("compare", *words)
    assert result.returncode == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""
    assert not (place / "small" / "comparison").exists()


def test_damaged_runs_are_listed_and_the_rest_compared(cli: Cli, place: Path) -> None:
    table = run_of(place, "none", 0) / "metrics.csv"
    table.write_bytes(table.read_bytes()[:-5])
    record = run_of(place, "hardtanh_clip", 1) / "run.json"
    record.write_bytes(record.read_bytes()[:300])
    (place / "small" / "notes").mkdir()
    result = cli("compare", "study=small")
    assert result.returncode == 0, result.stderr
    broken = f"{table.parent.name} estimator=none seed=0  broken: "
    assert f"{broken}metrics.csv: its last line is cut off" in result.stdout
    assert f"{record.parent.name} estimator=hardtanh_clip seed=1  unreadable: " in result.stdout
    assert "notes  foreign: there is no run.json in it" in result.stdout
    assert row_of(result.stdout, "none")[1] == "2"
    page = (place / "small" / "comparison" / "report.html").read_text(encoding="utf-8")
    assert "its last line is cut off" in page

    shutil.rmtree(place / "small" / "comparison")
    for path in (place / "small").glob("*/run.json"):
        path.write_text("{")
    nothing = cli("compare", "study=small")
    assert nothing.returncode == 2
    assert "there is no finished run to compare (9 unreadable" in nothing.stderr


def test_against_an_older_study_it_fails_where_a_metric_got_worse(cli: Cli, place: Path) -> None:
    shutil.copytree(place / "small", place / "old")
    same = cli("compare", "study=small", "against=old")
    assert same.returncode == 0, same.stderr
    assert same.stdout.count(" equal ") == 3

    for seed, worse in ((0, 0.01), (1, 0.0101), (2, 0.0102)):
        path = run_of(place, "none", seed) / "run.json"
        record = json.loads(path.read_text())
        record["metrics"]["test/mse"] += worse
        path.write_text(json.dumps(record))
    result = cli("compare", "study=small", "against=old")
    assert result.returncode == 1
    said = "stelab: small against old: 1 of 3 rows are worse, failed or lost\n"
    assert result.stderr == said
    assert row_of(result.stdout, "none")[1:4] == ["test/mse", "worse", "3"]
    assert cli("compare", "study=old", "against=small").returncode == 0  # better is no regression
    assert cli("compare", "study=old", "against=small", "better=higher").returncode == 1
    assert cli("compare", "study=small", "against=old", "where=identity").returncode == 0

    alone = cli("compare", "study=small", "against=old", "where=none seed=0")
    assert alone.returncode == 2
    assert "nothing can be judged: not judged: n = 1, no interval" in alone.stderr


def test_studies_are_compared_together(cli: Cli, place: Path) -> None:
    shutil.copytree(place / "small", place / "old")
    pooled = cli("compare", "study=small,old", "report=false")
    assert pooled.returncode == 0, pooled.stderr
    assert row_of(pooled.stdout, "none")[1] == "3"
    assert "Configurations that were run twice count once" in pooled.stdout
    apart = cli("compare", "study=small,old", "report=false", "by=study,estimator")
    assert apart.returncode == 0, apart.stderr
    assert apart.stdout.count("\n small ") == apart.stdout.count("\n old ") == 3
