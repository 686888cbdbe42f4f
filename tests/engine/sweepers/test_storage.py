"""A study in a journal: continued by another process, and refused where it is damaged."""

from __future__ import annotations

import os
from pathlib import Path

import optuna
import pytest

from conftest import Cli
from stelab.engine.errors import InputError
from stelab.engine.sweepers.trials import open_storage


def study(url: str) -> optuna.Study:
    return optuna.create_study(storage=open_storage(url), study_name="s", load_if_exists=True)


def test_a_journal_is_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = study(f"journal:///{tmp_path}/a.log")
    trial = first.ask({"x": optuna.distributions.FloatDistribution(0, 1)})
    trial.report(0.5, 0)
    first.tell(trial, 0.25)
    monkeypatch.chdir(tmp_path)
    (found,) = study("journal:///a.log").trials  # as SQLAlchemy's URLs, from here
    assert (found.value, found.params, found.intermediate_values) == (0.25, trial.params, {0: 0.5})


def test_other_storages_are_optunas(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/a.db"
    assert open_storage(url) == url


@pytest.mark.parametrize(
    "content",
    [b"\x00\xff\n", b"[1]\n[2]\n", b"{}\n{}\n", b'{"op_code": 99}\n', b'{"op_code": 0', b"\n\n"],
)
def test_a_damaged_journal_is_refused(tmp_path: Path, content: bytes) -> None:
    whole = tmp_path / "whole.log"
    study(f"journal:///{whole}")
    path = tmp_path / "a.log"
    path.write_bytes(whole.read_bytes() + content + (b"" if content[-1:] != b"\n" else b"{}\n"))
    before = path.read_bytes()
    with pytest.raises(InputError, match=r"^hydra.sweeper.storage cannot be opened: .*") as caught:
        open_storage(f"journal:///{path}")
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == before


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name in ("folder", "pipe", "absent/a.log"):
        with pytest.raises(InputError, match="cannot be opened"):
            open_storage(f"journal:///{tmp_path}/{name}")


def test_the_command_says_so_in_one_line(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text("no journal")
    search = ("sweep=optuna", "debug=fast", "model=mlp", "optimizer.lr=interval(1e-4,1e-1)")
    result = cli("train", *search, "hydra.sweeper.storage='journal:///a.log'")
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith("stelab: hydra.sweeper.storage cannot be opened: journal:///a.log: ")
