"""Studies as archives: the same tables, nothing private, and back to where they were."""

from __future__ import annotations

import json
import os
import platform
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from pandas.testing import assert_frame_equal

from conftest import train
from stelab.engine.archives import located, remove_unpacked, studies_in
from stelab.engine.comparison import against, compare
from stelab.engine.config.identity import fingerprint_of_resolved
from stelab.engine.errors import InputError
from stelab.engine.studies import load, read_run
from stelab.engine.studies.exchange import export, unpack
from stelab.engine.studies.run_format import is_as_recorded
from stelab.engine.studies.shared import shared_run, shared_sweep
from stelab.engine.studies.status import survey
from stelab.engine.studies.sweep import record_sweep


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study of three real runs."""
    outputs = tmp_path_factory.mktemp("private")
    for words in (["estimator=identity"], ["estimator=identity", "seed=1"], ["estimator=none"]):
        train(outputs, *words, "tags=[a/b]")
    study = outputs / "debug"
    names = sorted(path.name for path in study.iterdir())
    jobs = {name: [f"paths.outputs={outputs}", "seed=0"] for name in [*names, "none-fixed0-s7-x"]}
    record_sweep(study, f"stelab train -m paths.outputs={outputs} seed=0,1", jobs)
    return study


@pytest.fixture
def study(made: Path, tmp_path: Path) -> Path:
    """A copy of it to damage."""
    return shutil.copytree(made, tmp_path / "copy" / "debug")


@pytest.fixture
def archive(tmp_path: Path) -> Iterator[Path]:
    yield tmp_path / "debug.tar.xz"
    remove_unpacked()


def change(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_an_archive_has_the_tables_of_the_study(made: Path, archive: Path) -> None:
    moved = export([made], archive)
    assert (dict(moved.states), moved.left, list(moved.kept)) == ({"finished": 3}, [], [])
    ours, theirs = load(made), load(archive)
    assert list(theirs.runs["folder"]) == [f"{archive}/debug/{name}" for name in ours.runs["run"]]
    private = ["folder", "machine.host"]
    runs = ours.runs.drop(columns=private)
    assert_frame_equal(theirs.runs.drop(columns="folder"), runs, check_exact=True)
    assert_frame_equal(theirs.curves, ours.curves, check_exact=True)
    assert_frame_equal(theirs.left_out, ours.left_out)
    assert theirs.swept == ours.swept
    assert survey(archive / "debug") == survey(made)
    assert len(load(archive, made).runs) == 6  # two studies, which have one name


def test_tables_and_archives_are_compared_as_the_folder(made: Path, archive: Path) -> None:
    export([made], archive)
    ours = compare(load(made))
    (written := archive.with_name("written")).mkdir()
    ours.write(written)
    alone = shutil.copy(written / "runs.csv", archive.with_name("alone.csv"))
    for path in (archive, written / "runs.csv", written / "runs.parquet", alone):
        theirs = compare(load(path))
        assert_frame_equal(theirs.table, ours.table, check_exact=True, check_dtype=False)
        assert (theirs.notes, theirs.metrics, theirs.by) == (ours.notes, ours.metrics, ours.by)
        if path != alone:
            assert theirs.identical == ours.identical
            assert_frame_equal(
                theirs.mean_curves("val/mse"), ours.mean_curves("val/mse"), check_exact=True
            )
    both = load(made, alone)
    assert set(both.runs["study"]) == {"debug", "alone"}
    regression = against(
        compare(both.only(["alone"]), by=["estimator"]),
        compare(both.only(["debug"]), by=["estimator"]),
    )
    assert set(regression.table["verdict"]) == {"equal"}


def test_nothing_of_the_machine_is_in_it(made: Path, archive: Path) -> None:
    export([made], archive)
    files = [path for path in located(archive / "debug").rglob("*") if path.is_file()]
    assert len(files) == 3 * 3 + 1
    for path in files:
        text = path.read_text(encoding="utf-8")
        for private in (str(made.parent), platform.node(), os.path.expanduser("~"), '"pid"'):
            assert private not in text, path
    run = read_run(studies_in(archive)[0] / load(made).runs["run"][0])
    assert is_as_recorded(run)
    assert run.composition is not None
    assert run.config["logger"].keys() == read_run(made / run.name).config["logger"].keys()
    assert run.config["tags"] == ["a/b"]


def test_the_same_study_is_the_same_bytes(study: Path, archive: Path) -> None:
    export([study], archive)
    content = archive.read_bytes()
    shutil.rmtree(study / "comparison", ignore_errors=True)
    for path in study.glob("*/run.json"):
        os.utime(path, (1, 1))
        shutil.rmtree(path.parent / "tb")
    export([study], archive)
    assert archive.read_bytes() == content
    again = archive.with_name("again.tar.xz")
    export(studies_in(archive), again)
    assert again.read_bytes() == content


def test_what_is_no_readable_run_is_named_and_left_out(study: Path, archive: Path) -> None:
    first, second, third = sorted(path.parent for path in study.glob("*/run.json"))
    (first / "run.json").write_text("{")
    (study / "notes").mkdir()
    (study / "comparison").mkdir()
    (study / "sweeps" / "x.json").write_text("[]")
    error = f"Traceback\n  {study}/x.py\nOSError: disk full: '/home/me/data/a.csv'"
    change(second / "run.json", status="failed", error=error)
    (second / "metrics.csv").unlink()
    moved = export([study], archive)
    assert dict(moved.states) == {"failed": 1, "finished": 1}
    reasons = dict(moved.left)
    assert list(reasons) == [f"debug/{first.name}", "debug/notes", "debug/sweeps/x.json"]
    assert "run.json is not JSON" in reasons[f"debug/{first.name}"]
    assert reasons["debug/notes"] == "there is no run.json in it"
    states = {state.name: (state.state, state.note) for state in survey(archive / "debug")}
    assert states[second.name] == ("failed", "OSError: disk full: 'a.csv'")
    assert states[third.name][0] == "finished"
    assert states[first.name][0] == "missing"  # as its sweep says

    for path in study.glob("*/run.json"):
        path.write_text("{")
    with pytest.raises(InputError, match="there is no run to export"):
        export([study], archive)
    with pytest.raises(InputError, match="two are called debug"):
        export([study, study.parent / ".." / "copy" / "debug"], archive)
    assert survey(archive / "debug")  # the old one is there still
    assert not [path for path in archive.parent.iterdir() if path.name.startswith(".")]


def test_a_broken_run_of_an_archive_drops_only_that_run(made: Path, archive: Path) -> None:
    export([made], archive)
    folder = located(archive / "debug")
    broken = sorted(folder.glob("*/run.json"))[0]
    broken.write_text('{"status": "fini')
    found = load(archive)
    assert list(found.left_out["state"]) == ["unreadable", "missing"]
    assert str(folder) not in found.left_out["reason"][0]
    assert len(found.finished) == 2
    moved = unpack(studies_in(archive), archive.parent / "outputs")
    assert moved.states.total() == 2
    assert [name for name, _ in moved.left] == [f"debug/{broken.parent.name}"]


def test_runs_are_put_where_they_are_not(study: Path, archive: Path) -> None:
    export([study], archive)
    first, second, third = sorted(path.parent for path in study.glob("*/run.json"))
    shutil.rmtree(first)
    record = json.loads((second / "run.json").read_text())
    change(second / "run.json", metrics={**record["metrics"], "test/mse": 7.0, "time/x": 1.0})
    before = (second / "run.json").read_bytes()
    moved = unpack(studies_in(archive), study.parent)
    assert (dict(moved.states), moved.there) == ({"finished": 1}, 1)
    ((name, why),) = moved.left
    assert name == f"debug/{second.name}"
    assert why.startswith("is there, finished with other results: test/mse is 7.0 there, 0.")
    assert (second / "run.json").read_bytes() == before
    assert sorted(path.name for path in first.iterdir()) == [
        *("config.yaml", "metrics.csv", "run.json")
    ]
    assert is_as_recorded(read_run(first))

    change(third / "run.json", status="failed", error="no")
    moved = unpack(studies_in(archive), study.parent)
    assert moved.there == 1
    assert [why.partition(":")[0] for _, why in moved.left] == [
        "is there, finished with other results",
        "is there, failed, and finished in the archive",
    ]
    (study / "sweeps").rename(study / "elsewhere")
    (study / "sweeps").symlink_to(study / "elsewhere")
    with pytest.raises(InputError, match="must be a folder, but is a link"):
        unpack(studies_in(archive), study.parent)


def test_ids_outlive_what_lies_within_private_paths(study: Path) -> None:
    """As with ``data.folder: ${paths.datasets}/images``, whose ids are without the path."""
    run = read_run(sorted(study.glob("*/run.json"))[0].parent)
    text = (run.folder / "config.yaml").read_text()
    config = yaml.safe_load(text)
    config["paths"]["datasets"] = "/home/me/data"
    config["data"] |= {"folder": "/home/me/data/images", "root": "/home/me/data"}
    config["from_checkpoint"] = "/home/me/outputs/run#sha256=ab"
    config["trial"] = {"storage": "postgresql://me:secret@host/db", "study": "x", "number": 1}
    (run.folder / "config.yaml").write_text(yaml.safe_dump(config))
    masked = yaml.safe_load(yaml.safe_dump(config).replace("/home/me/data", ""))
    change(run.folder / "run.json", fingerprint=fingerprint_of_resolved(masked))
    read = read_run(run.folder)
    assert is_as_recorded(read)
    shared = shared_run(read)
    assert is_as_recorded(shared)
    assert shared.config["data"]["folder"] == "./datasets/images"
    assert shared.config["data"]["root"] == "data"
    assert shared.config["from_checkpoint"] == "run#sha256=ab"
    assert shared.config["trial"]["storage"] == ""


def test_what_was_typed_is_shared_without_folders() -> None:
    typed = "/home/me/bin/stelab train -m --config-dir /home/me/conf data.root=/data/x seed=0,1"
    words = ["data.folder=/home/me/images", "hydra.sweeper.storage=sqlite:////home/me/a.db"]
    words += [
        "from_checkpoint=/home/me/outputs/run",
        "+callbacks.x._target_=a.b",
        "monitor=val/mse",
    ]
    shared = shared_sweep({"command": typed, "jobs": {"run": words}})
    assert shared == {
        "command": "stelab train -m --config-dir conf data.root=x seed=0,1",
        "jobs": {
            "run": [
                "data.folder=/home/me/images",  # counts to a run's id
                "hydra.sweeper.storage=",
                "from_checkpoint=run",
                "+callbacks.x._target_=a.b",
                "monitor=val/mse",
            ]
        },
    }
    assert shared_sweep({"command": "it's", "jobs": {}}) == {"command": "", "jobs": {}}
