"""``stelab export`` and ``unpack`` as processes: a study goes elsewhere, and goes on there."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from conftest import Cli
from stelab.engine.archives import write_archive

SWEEP = ("train", "-m", "debug=fast", "model=mlp", "model.bits=16", "study=small")


def test_a_study_is_shared_and_continued(cli: Cli, tmp_path: Path) -> None:
    assert cli(*SWEEP, "seed=0,1", "data.limit=64").returncode == 0
    (tmp_path / "outputs" / "small" / "notes").mkdir()
    result = cli("export", "study=small")
    assert result.returncode == 0, result.stderr
    left_out, told = result.stdout.splitlines()
    assert left_out == "small/notes is left out: there is no run.json in it"
    assert told.startswith("outputs/small.tar.xz: 2 runs (2 finished), ")
    archive = tmp_path / "outputs" / "small.tar.xz"
    content = archive.read_bytes()
    refused = cli("export", "study=small")
    assert refused.returncode == 2
    assert "outputs/small.tar.xz exists already" in refused.stderr
    assert cli("export", "study=small", "overwrite=true").returncode == 0
    assert archive.read_bytes() == content

    folder = cli("compare", "study=small", "report=false")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shared = shutil.copy(archive, elsewhere / "small.tar.xz")
    shutil.rmtree(tmp_path / "outputs")
    result = cli("compare", "study=small.tar.xz", "report=false", cwd=elsewhere)
    assert result.returncode == 0, result.stderr
    assert result.stdout == folder.stdout.replace(
        "notes  foreign: there is no run.json in it\n", ""
    )
    result = cli("compare", f"study={shared}")
    assert result.returncode == 0, result.stderr
    assert "No reconstructions" in result.stdout
    report = elsewhere / "small-comparison" / "report.html"
    page = report.read_text(encoding="utf-8")
    assert f"Report:      {report}\n" in result.stdout
    assert "stelab train debug=fast model=mlp model.bits=16 study=small seed=0" in page
    status = cli("status", "study=./small.tar.xz", cwd=elsewhere)
    assert status.stdout.startswith("small.tar.xz/small: 2 runs: 2 finished\n")
    assert not (tmp_path / "outputs").exists()

    result = cli("unpack", f"archive={shared}")
    assert result.returncode == 0, result.stderr
    assert result.stdout == "outputs: 2 runs (2 finished) unpacked, 0 there already\n"
    result = cli(*SWEEP, "seed=0,1,2", "data.limit=64")
    assert result.returncode == 0, result.stderr
    assert "3 jobs, 2 finished already\n" in result.stdout
    assert result.stdout.count("(finished already: rerun=true runs it again)") == 2
    result = cli("compare", "study=small", f"against={shared}", "by=model")
    assert result.returncode == 0, result.stderr
    assert " equal " in result.stdout
    result = cli("unpack", f"archive={shared}")
    assert result.stdout == "outputs: 0 runs unpacked, 2 there already\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["export", "study=nope"], "outputs/nope is not there"),
        (["export", "study=nope", "output=a.zip"], "output must end in .tar.xz, got a.zip"),
        (["unpack", "archive=nope.tar.xz"], "archive must be a file .tar.xz of stelab export"),
        (["unpack", "archive=no.tar.xz"], "no.tar.xz cannot be read as an archive of studies"),
        (["compare", "study=no.tar.xz"], "no.tar.xz cannot be read as an archive of studies"),
        (["status", "study=no.tar.xz"], "no.tar.xz cannot be read as an archive of studies"),
        (["tensorboard", "study=whole.tar.xz"], "there are no event files to show"),
        (["unpack"], "archive must be given: archive=..."),
    ],
)
def test_mistakes(cli: Cli, tmp_path: Path, words: list[str], message: str) -> None:
    (tmp_path / "no.tar.xz").write_text("nothing of the kind")
    with (tmp_path / "whole.tar.xz").open("wb") as file:
        write_archive(file, [("study/run/run.json", b"{}")])
    result = cli(*words)
    assert result.returncode == 2
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert result.stdout == ""
    assert not (tmp_path / "outputs").exists()
