"""Tables of real runs, whole and damaged: every number is told, and every loss."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from pandas.testing import assert_frame_equal

from conftest import train
from stelab import compose
from stelab.engine.comparison import compare
from stelab.engine.errors import InputError
from stelab.engine.studies import Study, load
from stelab.engine.studies.lock import locked
from stelab.engine.studies.record import Recorder
from stelab.engine.studies.status import state_of, survey
from stelab.engine.studies.study import TABLES
from stelab.engine.studies.sweep import planned, record_sweep


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of four real runs of two epochs."""
    outputs = tmp_path_factory.mktemp("outputs")
    for estimator in ("identity", "none"):
        for seed in (0, 1):
            train(outputs, f"estimator={estimator}", f"seed={seed}", "trainer.max_epochs=2")
    return outputs / "debug"


@pytest.fixture
def study(made: Path, tmp_path: Path) -> Path:
    """A copy of it to damage."""
    folder = tmp_path / "debug"
    return shutil.copytree(made, folder, ignore=shutil.ignore_patterns("*.ckpt", "tb", "figures"))


def run_of(study: Path, estimator: str = "none", seed: int = 1) -> Path:
    (folder,) = study.glob(f"{estimator}-*-s{seed}-*")
    return folder


def record_of(folder: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((folder / "run.json").read_text())
    return record


def change_record(folder: Path, **changes: Any) -> None:
    """Set keys of run.json; None deletes one."""
    record = {k: v for k, v in {**record_of(folder), **changes}.items() if v is not None}
    (folder / "run.json").write_text(json.dumps(record))


def change_config(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change config.yaml, and delete the fingerprint, as in a run of old."""
    config = yaml.safe_load((folder / "config.yaml").read_text())
    change(config)
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    change_record(folder, fingerprint=None)


def change_timings(folder: Path, **changes: Any) -> None:
    change_record(folder, timings={**record_of(folder)["timings"], **changes})


def left_out(study: Path) -> dict[str, tuple[str, str]]:
    """Return state and reason of each run or folder that is left out."""
    found = load(study)
    assert set(found.finished["run"]) & set(found.left_out["run"]) == set()
    assert set(found.curves["run"]) == set(found.finished["run"])
    return {row.run: (row.state, row.reason) for row in found.left_out.itertuples()}


def test_the_tables_say_what_the_folders_say(made: Path) -> None:
    found = load(made)
    assert found.swept == ("estimator", "seed")
    assert found.left_out.empty
    assert list(found.left_out) == ["study", "run", "state", "reason"]
    assert list(found.runs["run"]) == sorted(path.name for path in made.iterdir())
    assert_frame_equal(found.finished, found.runs)
    for row in found.runs.to_dict("records"):
        folder = made / row["run"]
        record, config = record_of(folder), yaml.safe_load((folder / "config.yaml").read_text())
        assert (row["study"], row["status"], row["folder"]) == ("debug", "finished", str(folder))
        names = {name: option for name, option in config["names"].items() if option is not None}
        assert {name: row[name] for name in names} == names
        assert row["seed"] == config["seed"]
        assert {name: row[name] for name in record["metrics"]} == record["metrics"]
        assert row["fingerprint"] == record["fingerprint"]
        for part in ("versions", "machine", "git", "timings"):
            for key, value in (record[part] or {}).items():
                if isinstance(value, str | int | float):
                    assert row[f"{part}.{key}"] == value
        assert "timings.attempts" not in row
        assert row["machine.gpus"] == json.dumps(record["machine"]["gpus"])


def test_the_curves_are_those_of_metrics_csv(made: Path) -> None:
    curves = load(made).curves
    assert len(curves) == 8
    for run, table in curves.groupby("run"):
        file = pd.read_csv(made / str(run) / "metrics.csv", dtype=str).astype(float)
        assert list(table["epoch"]) == [1, 2]
        assert list(table) == ["study", *("run", *file.columns)]
        rest = table.drop(columns=["study", "run", "epoch"]).reset_index(drop=True)
        assert_frame_equal(rest.astype(float), file.drop(columns="epoch"), check_exact=True)
        record = record_of(made / str(run))
        last = table.iloc[-1]
        assert last["test/mse"] == record["metrics"]["test/mse"]
        assert last["val/mse"] == record["metrics"]["val/mse"]


def test_the_tables_can_be_read_back(study: Path, tmp_path: Path) -> None:
    (study / "stranger").mkdir()
    found = load(study)
    found.write(tmp_path / "tables")
    assert sorted(path.name for path in (tmp_path / "tables").iterdir()) == sorted(
        f"{name}.{kind}" for name in TABLES for kind in ("csv", "parquet")
    )
    for name in TABLES:
        table = getattr(found, name)
        assert_frame_equal(pd.read_parquet(tmp_path / "tables" / f"{name}.parquet"), table)
        read = pd.read_csv(tmp_path / "tables" / f"{name}.csv")
        kept = table.columns[table.notna().any()]  # CSV has no types of nothing
        assert_frame_equal(read[kept], table[kept], check_dtype=False, rtol=1e-14)


def test_the_same_study_twice_is_once(made: Path, study: Path) -> None:
    once, twice = load(made), load(made / ".." / made.name, str(made), made)
    for name in TABLES:
        assert_frame_equal(getattr(once, name), getattr(twice, name))
    # Another folder of this name is another study.
    both = load(made, study)
    assert sorted(set(both.runs["study"])) == sorted([str(made), str(study)])
    assert len(both.runs) == 8


def test_two_studies(made: Path, study: Path) -> None:
    study = study.rename(study.with_name("later"))
    run_of(study).rename(study / "another-name")
    (study / "stranger").mkdir()
    both = load(made, study)
    assert list(both.runs["study"]) == ["debug"] * 4 + ["later"] * 4
    assert both.swept == ("estimator", "seed")
    assert_frame_equal(both.only(["debug"]).runs.reset_index(drop=True), load(made).runs)
    assert list(both.only(["later"]).left_out["run"]) == ["stranger"]
    assert both.only(["debug"]).left_out.empty
    assert len(both.only(["later"]).curves) == 8


def test_every_state_is_told(study: Path) -> None:
    names = ("failed", "interrupted", "killed", "pruned", "odd", "empty")
    for name in names:
        shutil.copytree(run_of(study), study / name)
    change_record(study / "failed", status="failed", error="Traceback ...\nValueError: too far\n")
    change_record(study / "interrupted", status="interrupted", error="stopped by SIGTERM")
    change_record(study / "killed", status="running")
    change_record(study / "pruned", status="pruned", error="pruned after epoch 1")
    change_record(study / "odd", status="failed", error=7)
    shutil.rmtree(study / "empty")
    (study / "empty").mkdir()
    (study / "begun").mkdir()
    (study / "stranger").mkdir()
    (study / "notes.txt").touch()
    for name in (".hidden", "comparison", "comparison-with-other"):
        (study / name).mkdir()
    record_sweep(study, "stelab train ...", {"never": ["seed=9"], "begun": ["seed=10"]})
    running = run_of(study, "identity", 0)
    with locked(running, on_loss=lambda: None):
        found = left_out(study)
    assert found.pop(running.name)[0] == "running"
    assert found == {
        "failed": ("failed", "ValueError: too far"),
        "interrupted": ("interrupted", "stopped by SIGTERM"),
        "killed": ("interrupted", ""),
        "pruned": ("pruned", "pruned after epoch 1"),
        "odd": ("failed", "7"),
        "never": ("missing", ""),
        "begun": ("missing", ""),
        "empty": ("foreign", "there is no run.json in it"),
        "stranger": ("foreign", "there is no run.json in it"),
    }
    assert "never" not in set(load(study).runs["run"])
    assert {"failed", "killed", "pruned"} <= set(load(study).runs["run"])


def cut(path: Path, end: int) -> None:
    path.write_bytes(path.read_bytes()[:end])


def lines(path: Path, *kept: int) -> None:
    text = path.read_text().splitlines(keepends=True)
    path.write_text("".join(text[i] for i in kept))


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def pipe(path: Path) -> None:
    path.unlink(missing_ok=True)
    os.mkfifo(path)


def device(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


LAUGHS = "a: &a [x, x, x]\nb: [*a, *a]"

DAMAGES: dict[str, tuple[Callable[[Path], object], str, str]] = {
    "cut in a line": (
        lambda run: cut(run / "metrics.csv", -20),
        *("broken", "metrics.csv: its last line is cut off"),
    ),
    "cut in the header": (
        lambda run: cut(run / "metrics.csv", 7),
        *("broken", "metrics.csv: its last line is cut off"),
    ),
    "cut at the end of a line": (
        lambda run: lines(run / "metrics.csv", 0, 1),
        *("broken", "metrics.csv: it has 1 epochs, but 2 were trained"),
    ),
    "only the header": (
        lambda run: lines(run / "metrics.csv", 0),
        *("broken", "metrics.csv: it has 0 epochs, but 2 were trained"),
    ),
    "a line twice": (
        lambda run: lines(run / "metrics.csv", 0, 1, 1, 2),
        *("broken", "metrics.csv: line 3 is of epoch 0, expected 1"),
    ),
    "an epoch missing": (
        lambda run: lines(run / "metrics.csv", 0, 2),
        *("broken", "metrics.csv: line 2 is of epoch 1, expected 0"),
    ),
    "more epochs than configured": (
        lambda run: change_config(run, lambda config: config["trainer"].update(max_epochs=1)),
        *("broken", "run.json: epochs is 2, but trainer.max_epochs 1"),
    ),
    "no header": (
        lambda run: lines(run / "metrics.csv", 1, 2),
        *("broken", "metrics.csv: it does not begin with epoch,step"),
    ),
    "a field too many": (
        lambda run: edit(run / "metrics.csv", "\n0,", "\n0,,"),
        *("broken", "metrics.csv: line 2 has "),
    ),
    "no step": (
        lambda run: edit(run / "metrics.csv", "\n0,2,", "\n0,,"),
        *("broken", "metrics.csv: line 2 is of step"),
    ),
    "empty": (
        lambda run: (run / "metrics.csv").write_text(""),
        *("broken", "metrics.csv: it is empty"),
    ),
    "binary garbage": (
        lambda run: (run / "metrics.csv").write_bytes(os.urandom(999) + b"\xff\n"),
        *("broken", "metrics.csv: 'utf-8' codec can't decode"),
    ),
    "zeros, as after a crash": (
        lambda run: (run / "metrics.csv").write_bytes(bytes(4096) + b"\n"),
        *("broken", "metrics.csv: "),
    ),
    "a field without end": (
        lambda run: (run / "metrics.csv").write_text("x" * 200_000 + "\n"),
        *("broken", "metrics.csv: field larger than field limit"),
    ),
    "a number in words": (
        lambda run: edit(run / "metrics.csv", "\n0,2,", "\n0,2,x"),
        *("broken", "metrics.csv: 'x0."),
    ),
    "lines without end": (
        lambda run: (run / "metrics.csv").write_text("epoch,step" + "\n" * 5_000_001),
        *("broken", "metrics.csv: it has more than 10000000 fields"),
    ),
    "no metrics.csv": (
        lambda run: (run / "metrics.csv").unlink(),
        *("broken", "metrics.csv: No such file or directory"),
    ),
    "a folder for metrics.csv": (
        lambda run: (run / "metrics.csv").rename(run / "old").with_name("metrics.csv").mkdir(),
        *("broken", "metrics.csv: Is a directory"),
    ),
    "half of run.json": (
        lambda run: cut(run / "run.json", 300),
        *("unreadable", "is not a readable run: run.json is not JSON: "),
    ),
    "a list for run.json": (
        lambda run: (run / "run.json").write_text("[]"),
        *("unreadable", "is not a readable run: run.json must be a table"),
    ),
    "no status": (
        lambda run: change_record(run, status=None),
        *("unreadable", "run.json: its status is 'None', which is none of stelab's"),
    ),
    "no config.yaml": (
        lambda run: (run / "config.yaml").unlink(),
        *("unreadable", "there is no config.yaml in it"),
    ),
    "config.yaml is no YAML": (
        lambda run: (run / "config.yaml").write_text("a: ]["),
        "unreadable",
        "is not a readable run: config.yaml, line 1: did not find expected node content",
    ),
    "config.yaml is no YAML further down": (
        lambda run: edit(run / "config.yaml", "\nthreads: auto", "\nthreads: *1"),
        "unreadable",
        "is not a readable run: config.yaml, line 3: found undefined alias",
    ),
    "config.yaml is no text": (
        lambda run: (run / "config.yaml").write_bytes(b"a: \xff\n"),
        *("unreadable", 'invalid leading UTF-8 octet in "<byte string>", position 3'),
    ),
    "run.json is no text": (
        lambda run: (run / "run.json").write_bytes(b"\xff" * 9999),
        "unreadable",
        "is not a readable run: run.json is not UTF-8 (invalid start byte)",
    ),
    "brackets for run.json": (
        lambda run: (run / "run.json").write_text("[" * 100_000),
        *("unreadable", "is not a readable run: run.json is nested more than 32 deep"),
    ),
    "config.yaml up to a line": (
        lambda run: cut(
            run / "config.yaml", (run / "config.yaml").read_bytes().index(b"callbacks:")
        ),
        *("broken", "config.yaml is cut off: it has no callbacks"),
    ),
    "a date in config.yaml": (
        lambda run: edit(run / "config.yaml", "threads: auto", "threads: 2020-01-01"),
        "unreadable",
        "config.yaml, line 3: 2020-01-01 would be a timestamp, which no configuration has",
    ),
    "no study": (
        lambda run: change_config(run, lambda config: config.pop("study")),
        *("unreadable", "config.yaml: study must be a name, got None"),
    ),
    "no seed": (
        lambda run: change_config(run, lambda config: config.pop("seed")),
        *("unreadable", "config.yaml: seed must be an integer, got None"),
    ),
    "two seeds": (
        lambda run: change_config(run, lambda config: config.update(seed=[1, 2])),
        *("unreadable", "config.yaml: seed must be an integer, got [1, 2]"),
    ),
    "a seed that is none": (
        lambda run: change_config(run, lambda config: config.update(seed=True)),
        *("unreadable", "config.yaml: seed must be an integer, got True"),
    ),
    "no data": (
        lambda run: change_config(run, lambda config: config.update(data=None)),
        *("unreadable", "config.yaml: data must be a table, got None"),
    ),
    "a duration in words": (
        lambda run: change_timings(run, seconds="long"),
        *("unreadable", "run.json: timings.seconds is long"),
    ),
    "times that are none": (
        lambda run: change_timings(run, started="bad", ended=3.5),
        *("unreadable", "run.json: timings.started is bad, timings.ended is 3.5"),
    ),
    "a status of nobody": (
        lambda run: change_record(run, status="weird"),
        *("unreadable", "run.json: its status is 'weird', which is none of stelab's"),
    ),
    "an integer too long": (
        lambda run: change_record(run, metrics={"test/mse": 10**400}),
        *("broken", f"run.json: test/mse is 1{'0' * 209} ... {'0' * 60}"),
    ),
    "a metric that is a truth": (
        lambda run: change_record(run, metrics={"test/mse": True}),
        *("broken", "run.json: test/mse is True"),
    ),
    "a step too far": (
        lambda run: edit(run / "metrics.csv", "\n0,2,", f"\n0,{10**22},"),
        *("broken", f"metrics.csv: line 2 is of step {10**22}"),
    ),
    "half of config.yaml": (
        lambda run: cut(run / "config.yaml", 200),
        *("unreadable", "config.yaml is not one of stelab's"),
    ),
    "config.yaml of something else": (
        lambda run: (run / "config.yaml").write_text("names: {estimator: [1]}\ntrainer: {}\n"),
        *("unreadable", "config.yaml: estimator must be a name, got [1]"),
    ),
    "an empty config.yaml": (
        lambda run: (run / "config.yaml").write_text(""),
        *("unreadable", "config.yaml is not one of stelab's"),
    ),
    "a NaN": (
        lambda run: change_record(run, metrics={"test/mse": float("nan"), "val/mse": 0.5}),
        *("broken", "run.json: test/mse is nan"),
    ),
    "metrics that are none": (
        lambda run: change_record(run, metrics={"test/mse": "0.1", "val/mse": [1], "x/y": {}}),
        *("broken", "run.json: test/mse is 0.1, val/mse is [1], x/y is {}"),
    ),
    "a list for the metrics": (
        lambda run: change_record(run, metrics=[]),
        *("unreadable", "run.json: metrics must be a table, got []"),
    ),
    "a metric that a terminal obeys": (
        lambda run: change_record(run, metrics={"\x1b[2J": 0.5}),
        *("unreadable", r"run.json: metrics has an entry '\x1b[2J'"),
    ),
    "what else a record says": (
        lambda run: change_record(run, effect=7, tags="mine", epochs=0),
        *("unreadable", "run.json: effect is 7, tags is mine, epochs is 0"),
    ),
    "keys of several types": (
        lambda run: change_config(run, lambda config: config["model"].update({1: "a"})),
        *("broken", "config.yaml has a table with keys of several types"),
    ),
    "a pipe for run.json": (
        lambda run: pipe(run / "run.json"),
        *("unreadable", "is not a readable run: run.json is not a regular file"),
    ),
    "a pipe for config.yaml": (
        lambda run: pipe(run / "config.yaml"),
        *("unreadable", "is not a readable run: config.yaml is not a regular file"),
    ),
    "a pipe for metrics.csv": (
        lambda run: pipe(run / "metrics.csv"),
        *("broken", "metrics.csv: metrics.csv is not a regular file"),
    ),
    "a pipe for the lock": (
        lambda run: pipe(run / "lock"),
        *("unreadable", "lock must be the file that a process makes which trains: remove it"),
    ),
    "endless zeros for config.yaml": (
        lambda run: device(run / "config.yaml"),
        *("unreadable", "is not a readable run: config.yaml is not a regular file"),
    ),
    "a huge config.yaml": (
        lambda run: os.truncate(run / "config.yaml", 300 * 2**20),
        *("unreadable", "config.yaml is too large: more than 1048576 bytes"),
    ),
    "a huge metrics.csv": (
        lambda run: os.truncate(run / "metrics.csv", 300 * 2**20),
        *("broken", "metrics.csv: metrics.csv is too large: more than 67108864 bytes"),
    ),
    "a thousand laughs": (
        lambda run: edit(run / "config.yaml", "threads: auto", f"threads: auto\n{LAUGHS}"),
        *("unreadable", "config.yaml, line 4: aliases are not read"),
    ),
    "many keys": (
        lambda run: change_config(
            run, lambda config: config["model"].update({f"k{i}": i for i in range(9_000)})
        ),
        *("unreadable", "there are more than 500 keys"),
    ),
    "a key twice": (
        lambda run: edit(run / "config.yaml", "threads: auto", "threads: auto\nseed: 7"),
        *("unreadable", "seed is there twice"),
    ),
    "a list for the model": (
        lambda run: change_config(run, lambda config: config.update(model=[1, 2])),
        *("unreadable", "config.yaml: model must be a table, got [1, 2]"),
    ),
    "a column of the table as a key": (
        lambda run: change_config(run, lambda config: config.update(folder="elsewhere")),
        *("unreadable", "config.yaml: folder is not a key of a run"),
    ),
    "a name of 300 characters": (
        lambda run: change_config(run, lambda config: config["names"].update(model="m" * 300)),
        *("unreadable", "config.yaml: model must be a name, got mmm"),
    ),
    "a name that a terminal obeys": (
        lambda run: change_config(run, lambda config: config["names"].update(model="\x1b[2J")),
        *("unreadable", r"config.yaml: model must be a name, got \x1b[2J"),
    ),
    "epochs that are no number": (
        lambda run: change_config(run, lambda config: config["trainer"].update(max_epochs="x")),
        *("unreadable", "config.yaml: trainer.max_epochs must be an integer, got x"),
    ),
    "machines of another kind": (
        lambda run: change_record(run, machine={"gpus": "one", "processor": 7}),
        *("unreadable", "run.json: machine.processor is 7, machine.gpus is one"),
    ),
    "many versions": (
        lambda run: change_record(run, versions={str(i): "1" for i in range(9_000)}),
        *("unreadable", "run.json: versions has 9000 entries, more than 200"),
    ),
    "two columns of one name": (
        lambda run: edit(run / "metrics.csv", "val/mse", "train/mse"),
        *("broken", "metrics.csv: it has 2 columns train/mse"),
    ),
    "a column of the table as a metric": (
        lambda run: edit(run / "metrics.csv", "val/mse", "run"),
        *("broken", "metrics.csv: 'run' cannot be the name of a metric"),
    ),
    "a million columns": (
        lambda run: (run / "metrics.csv").write_text("epoch,step" + ",x" * 10**6 + "\n"),
        *("broken", "metrics.csv: a line has more than 300 fields"),
    ),
    "a metric whose square is infinite": (
        lambda run: change_record(run, metrics={"test/mse": 1e200}),
        *("broken", "run.json: test/mse is 1e+200"),
    ),
    "another version": (
        lambda run: change_record(run, versions={"stelab": "0.0.9"}),
        *("other version", "made by stelab 0.0.9, most of its study by "),
    ),
    "no version": (
        lambda run: change_record(run, versions=None),
        *("other version", "made by stelab unknown, most of its study by "),
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_run_is_left_out_and_says_why(study: Path, damage: str, tmp_path: Path) -> None:
    act, state, reason = DAMAGES[damage]
    run = run_of(study)
    whole = load(study)
    act(run)
    found = left_out(study)
    assert list(found) == [run.name]
    assert found[run.name][0] == state
    assert reason in found[run.name][1]
    assert "\n" not in found[run.name][1] and "0x7" not in found[run.name][1]  # no addresses
    assert (state == "broken") or state_of(run).state in ("unreadable", "finished")
    # The others are as before.
    damaged = load(study)
    damaged.write(tmp_path / "tables")
    others = whole.runs[whole.runs["run"] != run.name]
    assert_frame_equal(damaged.finished[others.columns], others)


def test_texts_that_no_file_can_hold_are_written_as_escapes(study: Path, tmp_path: Path) -> None:
    change_record(run_of(study, "none", 0), status="failed", error="no \ud800 \0 here")
    change_record(run_of(study, "none", 1), machine={"host": "\udcff", "\ud800": 10**400})
    os.rename(run_of(study, "identity", 0), os.fsencode(study) + b"/\xff\xfe")
    run_of(study, "identity", 1).rename(study / "a\x1b[2Jb")
    found = load(study)
    found.write(tmp_path / "tables")  # what has no encoding could not be written
    assert {row.run: (row.state, row.reason) for row in found.left_out.itertuples()} == {
        run_of(study, "none", 0).name: ("failed", r"no \ud800 \x00 here"),
        r"a\x1b[2Jb": ("unreadable", "its name cannot be written: rename the folder"),
        r"\udcff\udcfe": ("unreadable", "its name cannot be written: rename the folder"),
    }
    assert list(found.finished["machine.host"]) == [r"\udcff"]
    states = {state.name: state.state for state in survey(study)}
    assert states[r"a\x1b[2Jb"] == states[r"\udcff\udcfe"] == "finished"


def test_long_values_stand_in_tables_by_their_beginning(study: Path, tmp_path: Path) -> None:
    """They name groups, in tables and figures."""
    values = iter(("y" * 9_000 + "a", "y" * 9_000 + "b"))
    for seed in (0, 1):
        change_config(run_of(study, "none", seed), lambda c: c["model"].update(x=next(values)))
    weights = {"train/loss": 1, "": "\n"}  # whose keys are none of a setting's
    change_config(run_of(study, "identity", 0), lambda c: c["loss"].update(weights=weights))
    found = load(study)
    assert found.left_out.empty
    assert set(found.swept) == {"estimator", "model.x", "loss.weights", "seed"}
    assert found.runs["model.x"].dropna().map(len).tolist() == [212, 212]
    assert found.runs["model.x"].nunique() == 2
    found.write(tmp_path / "tables")


def test_a_number_that_is_none_is_told(study: Path) -> None:
    for cell in ("nan", "inf", "-inf", "1e999"):
        shutil.copytree(run_of(study), study / cell)
        path = study / cell / "metrics.csv"
        header, first, last = path.read_text().splitlines()
        path.write_text("\n".join([header, first, ",".join([*last.split(",")[:-1], cell]), ""]))
    found = left_out(study)
    for cell in ("nan", "inf", "-inf", "1e999"):
        assert found[cell] == ("broken", f"metrics.csv: {cell} is not a finite number")


def test_what_cannot_be_read_is_told(study: Path) -> None:
    run = run_of(study)
    names = ("run.json", "metrics.csv", "config.yaml")
    for name in names:
        shutil.copytree(run, study / name)
        (study / name / name).chmod(0)
    readable = os.access(study / "run.json" / "run.json", os.R_OK)  # as root it is
    found = left_out(study)
    assert set(found) == (set() if readable else set(names))
    for name in names:  # nor can root read a link to itself
        (study / name / name).unlink()
        (study / name / name).symlink_to(name)
    found = left_out(study)
    assert found["metrics.csv"][0] == "broken"
    assert "Too many levels of symbolic links" in found["metrics.csv"][1]
    assert found["config.yaml"][0] == "unreadable"
    assert "Too many levels of symbolic links" in found["config.yaml"][1]
    assert found["run.json"][0] == "unreadable"
    assert "Too many levels of symbolic links" in found["run.json"][1]


def test_a_lock_that_is_no_file_is_told(study: Path) -> None:
    (run_of(study) / "lock").mkdir()
    (run_of(study, "none", 0) / "lock").write_bytes(bytes(100))  # of nobody
    found = left_out(study)
    assert found[run_of(study).name][0] == "unreadable"
    reason = "lock must be the file that a process makes which trains: remove it"
    assert found[run_of(study).name][1].endswith(reason)
    assert found[run_of(study, "none", 0).name] == ("running", "another process")  # maybe


def test_old_records_with_less_in_them(study: Path, tmp_path: Path) -> None:
    for folder in study.iterdir():
        change_record(folder, versions=None)
    fields: dict[str, Any] = {"timings": None, "machine": None, "git": None, "fingerprint": None}
    change_record(run_of(study, "none", 0), **fields)
    texts = dict.fromkeys(fields, "a text") | {"fingerprint": None}
    change_record(run_of(study, "none", 1), **texts)
    change_record(run_of(study, "identity", 0), **{**dict.fromkeys(fields, []), "versions": 3})
    change_record(run_of(study, "identity", 1), machine={"cpus": "many", "gpus": None}, error=None)
    found = load(study)
    assert found.left_out.empty
    rows = found.finished.set_index("run")
    assert len(rows) == 4
    assert rows["timings.seconds"].notna().sum() == 1
    assert rows.loc[run_of(study, "identity", 1).name, "machine.cpus"] == "many"
    found.write(tmp_path / "tables")


def test_columns_of_several_types_are_texts(study: Path, tmp_path: Path) -> None:
    values = [(1, 0), ("one", 1.5), (True, 2**40), (None, True)]
    for (dirty, number), folder in zip(values, sorted(study.iterdir()), strict=True):
        change_record(folder, git={"dirty": dirty, "number": number})
    found = load(study)
    assert list(found.runs["git.dirty"][:3]) == ["1", "one", "True"]
    assert pd.isna(found.runs["git.dirty"][3])
    found.write(tmp_path / "tables")
    read = pd.read_parquet(tmp_path / "tables" / "runs.parquet")
    assert list(read["git.number"]) == ["0", "1.5", str(2**40), "True"]


def test_a_longer_run_is_a_group_of_its_own(study: Path) -> None:
    train(study.parent, "estimator=none", "seed=1", "trainer.max_epochs=3")
    found = load(study)
    assert found.swept == ("estimator", "trainer.max_epochs", "seed")
    assert found.left_out.empty
    assert list(found.runs["trainer.max_epochs"]).count(3) == 1
    assert len(found.curves) == 4 * 2 + 3


def test_most_runs_decide_which_version_is_compared(study: Path) -> None:
    for seed in (0, 1):
        change_record(run_of(study, "none", seed), versions={"stelab": "9.9"})
    change_record(run_of(study, "identity", 0), versions={"stelab": "0.0.1"})
    found = load(study)
    assert set(found.finished["versions.stelab"]) == {"9.9"}
    assert set(found.left_out["state"]) == {"other version"}
    for text in found.left_out["reason"]:
        assert text.endswith("most of its study by 9.9")


def test_each_study_has_its_own_version(study: Path) -> None:
    old = study.with_name("old")
    shutil.copytree(study, old)
    for path in old.glob("*/run.json"):
        change_record(path.parent, versions={"stelab": "0.0.1"})
    found = load(study, old)
    assert set(found.left_out["state"]) <= {"foreign"}
    assert found.finished.groupby("study")["versions.stelab"].nunique().tolist() == [1, 1]
    comparison = compare(found, by=["study", "estimator"])
    assert "The runs were made by several versions of stelab: " in comparison.notes[-1]


def test_runs_of_before_their_composition_was_recorded(made: Path, study: Path) -> None:
    for path in study.glob("*/run.json"):
        change_record(path.parent, format=None, composition=None, effect=None)
    old, new = load(study), load(made)
    assert old.swept == new.swept == ("estimator", "seed")
    assert_frame_equal(old.runs.drop(columns="folder"), new.runs.drop(columns="folder"))
    assert compare(old).baseline == compare(new).baseline == "estimator=identity"
    assert {state.settings for state in survey(study)} == {
        f"estimator={estimator} seed={seed}"
        for estimator in ("identity", "none")
        for seed in (0, 1)
    }


def test_only_some_runs(study: Path) -> None:
    names = [run_of(study, "none", 0).name, run_of(study, "identity", 0).name]
    found = load(study, runs=names)
    assert sorted(found.runs["run"]) == sorted(names)
    assert found.swept == ("estimator",)


def test_studies_without_runs(tmp_path: Path, study: Path) -> None:
    with pytest.raises(InputError, match=r"nope is not there \(study=NAME"):
        load(tmp_path / "nope")
    with pytest.raises(InputError, match="is not there"):
        load(study, tmp_path / "nope")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="is not there"):
        load(tmp_path / "file")
    (tmp_path / "empty" / "stranger").mkdir(parents=True)
    with pytest.raises(InputError, match="empty holds no runs"):
        load(tmp_path / "empty")
    with pytest.raises(InputError, match=r"^no study was named$"):
        load()


def test_where_no_run_is_readable_the_tables_are_empty(study: Path, tmp_path: Path) -> None:
    for folder in study.iterdir():
        cut(folder / "run.json", 9)
    found = load(study)
    assert isinstance(found, Study)
    assert found.runs.empty and found.finished.empty and found.curves.empty
    assert len(found.left_out) == 4
    assert found.swept == ()
    found.write(tmp_path / "tables")


def test_a_damaged_list_of_a_sweep_is_told_and_the_rest_compared(study: Path) -> None:
    record_sweep(study, "stelab train ...", {"never": []})
    record_sweep(study, "stelab train again", {"again": []})
    path = min((study / "sweeps").iterdir())
    (other,) = {"never", "again"} & set(json.loads(max(path.parent.iterdir()).read_text())["jobs"])
    for content in ('{"command": "x", "jo', "[]", "{}", '{"jobs": "abc"}', "[" * 100_000):
        path.write_text(content)
        found = left_out(study)
        assert found.pop(other) == ("missing", "")
        ((name, (state, reason)),) = found.items()
        assert (name, state) == (f"sweeps/{path.name}", "unreadable")
        assert reason.startswith(f"{path} must list the jobs of a sweep, but is unreadable (")
        assert reason.endswith("): delete it, and the same sweep again writes it")
        assert len(load(study).finished) == 4
        assert planned(study) == ({other: []}, {name: reason})  # as `stelab status` says
    assert load(study, runs=[run_of(study).name]).left_out.empty


def test_a_renamed_run_is_not_missing(study: Path) -> None:
    run = run_of(study)
    record_sweep(study, "stelab train ...", {run.name: [], "never-00000000": []})
    run.rename(study / "my best")
    assert left_out(study) == {"never-00000000": ("missing", "")}
    assert "my best" in set(load(study).finished["run"])
    shutil.rmtree(study / "my best")
    assert left_out(study)[run.name] == ("missing", "")


def test_what_is_no_folder_of_a_comparison_is_told(study: Path) -> None:
    run = run_of(study)
    for name in ("comparison-again", "comparison-with-other", "comparison"):
        shutil.copytree(run, study / name)
    for name in ("comparison-old", "comparison-with-none", "sweeps", ".hidden"):
        (study / name).mkdir()
    for name in ("dangling", ".dangling"):
        (study / name).symlink_to(study / "nowhere")
    (study / "linked").symlink_to(run)
    found = left_out(study)
    assert found == {
        "comparison-old": ("foreign", "there is no run.json in it"),
        "dangling": ("foreign", "a link to nothing"),
    }
    names = {"comparison-again", "comparison-with-other", "comparison", "linked"}
    assert names < set(load(study).finished["run"])


def test_a_cut_configuration_is_told(study: Path) -> None:
    run = run_of(study)
    text = (run / "config.yaml").read_text().splitlines(keepends=True)
    for end in range(0, len(text), 5):
        (run / "config.yaml").write_text("".join(text[:end]))
        found = load(study)
        edited = list(found.runs.loc[found.runs["edited"], "run"])
        assert [*found.left_out["run"], *edited] == [run.name]
        assert found.swept == ("estimator", "seed") or edited
        notes = compare(found).notes
        assert any(run.name in note for note in notes) == bool(edited)


def test_a_changed_configuration_is_what_is_compared(study: Path) -> None:
    """Its fingerprint is its own: two such runs are not one that was run twice."""
    for seed in (0, 1):
        edit(run_of(study, "none", seed) / "config.yaml", "lr: 0.001", "lr: 0.002")
    found = load(study)
    assert found.left_out.empty
    assert found.swept == ("estimator", "optimizer.lr", "seed")
    assert found.runs["fingerprint"].nunique() == len(found.runs)
    comparison = compare(found)
    assert sorted(len(group.runs) for group in comparison.groups) == [2, 2]
    assert "config.yaml of 2 runs is not what their run.json was made with" in comparison.notes[-1]


def test_a_configuration_may_say_its_paths(study: Path) -> None:
    run = train(study.parent, "seed=7")
    small = ("debug=fast", "model=mlp", "model.bits=512", f"paths.outputs={study.parent}")
    own = "+callbacks.keep._target_=pytorch_lightning.callbacks.ModelCheckpoint"
    cfg = compose(*small, "seed=7", own, "+callbacks.keep.dirpath='${paths.run}/kept'")
    Recorder(run.folder, cfg, from_step=0).finish(run.metrics, epochs=1, arithmetic={}, effect=None)
    assert f"dirpath: {cfg.paths.run}/kept\n" in (run.folder / "config.yaml").read_text()
    assert load(study).left_out.empty
    assert not load(study).runs["edited"].any()
    edit(run.folder / "config.yaml", "/kept", "/lost")
    assert list(load(study).runs["edited"]).count(True) == 1
