"""Run folders: written whole, read with reasons."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

import stelab
from stelab.engine.errors import InputError
from stelab.engine.files import link_atomically, write_atomically
from stelab.engine.studies import Run, read_finished, read_run
from stelab.engine.studies.record import git_state, record_death


def test_a_failed_write_leaves_the_old_content(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_atomically(path, "old")
    with pytest.raises(UnicodeEncodeError):
        write_atomically(path, "new \ud800")  # a lone surrogate has no encoding
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_bytes_and_text(tmp_path: Path) -> None:
    write_atomically(tmp_path / "deep" / "text", "ü")
    write_atomically(tmp_path / "deep" / "bytes", b"\x00\xff")
    assert (tmp_path / "deep" / "text").read_bytes() == "ü".encode()
    assert (tmp_path / "deep" / "bytes").read_bytes() == b"\x00\xff"


def test_a_link_is_a_file_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_links(*_: object) -> None:
        raise OSError("this file system has none")

    source, path = tmp_path / "source", tmp_path / "path"
    for link in (os.link, no_links):
        monkeypatch.setattr(os, "link", link)
        write_atomically(source, "first")
        link_atomically(source, path)
        write_atomically(source, "second")
        assert path.read_text() == "first"
        assert sorted(tmp_path.iterdir()) == [path, source]


def test_a_run_reads_back(trained: Run) -> None:
    run = read_run(trained.folder)
    assert run == trained
    assert run.config["names"]["estimator"] == "identity"
    assert run.config["model"]["binarizer"]["threshold"]["value"] == 0.0
    assert read_finished(trained.folder) == run


def test_a_job_that_dies_before_it_has_a_record_is_a_failed_run(tmp_path: Path) -> None:
    cfg = stelab.compose(f"paths.outputs={tmp_path}", "seed=3")
    folder = Path(cfg.paths.run)
    record_death(folder, cfg, "its worker process was ended by signal 9")
    run = read_run(folder)
    assert (run.status, run.reason) == ("failed", "its worker process was ended by signal 9")
    assert run.config["seed"] == 3
    record_death(folder, cfg, "and again")  # what is over stays what it was
    assert read_run(folder) == run


def test_without_git_a_record_says_nothing_of_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    known = git_state()
    git_state.cache_clear()
    with monkeypatch.context() as without:
        without.setenv("PATH", "")
        assert git_state() is None
    git_state.cache_clear()
    assert git_state() == known


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("run.json", None, "there is no run.json in it"),
        ("config.yaml", None, "there is no config.yaml in it"),
        ("run.json", '{"status": "fini', "is not a readable run: run.json is not JSON: Unterm"),
        ("run.json", "{}", "run.json: its status is 'None', which is none of stelab's"),
        ("config.yaml", "seed: 0", "is not a readable run: config.yaml is not one of stelab's"),
        ("run.json", '{"status": "running", "metrics": {}}', "must be a finished run"),
    ],
)
def test_a_broken_run_says_why(
    tmp_path: Path, name: str, content: str | None, expected: str
) -> None:
    (tmp_path / "config.yaml").write_text(
        "{seed: 0, study: s, names: {estimator: e}, trainer: {}}\n"
    )
    (tmp_path / "run.json").write_text(json.dumps({"status": "finished", "metrics": {}}))
    read_finished(tmp_path)
    if content is None:
        (tmp_path / name).unlink()
    else:
        (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=expected):
        read_finished(tmp_path)
