"""Text is shown as text in the terminal: no markup, no emoji, nothing that a terminal obeys."""

from __future__ import annotations

import io
import json
from operator import itemgetter
from pathlib import Path

import pytest

from made_study import make_study
from stelab.engine.comparison import compare
from stelab.engine.report.console import Column, PlainConsole, print_table
from stelab.engine.report.printed_comparison import print_comparison
from stelab.engine.report.status_table import print_states, status_table
from stelab.engine.studies.status import survey

EVIL = "see [/x] of [model.bits] [red]:smile: \x1b[2J\u202e\x07"
SHOWN = r"see [/x] of [model.bits] [red]:smile: \x1b[2J\u202e\x07"


def terminal(width: int = 300) -> PlainConsole:
    return PlainConsole(width=width, force_terminal=True, color_system=None, file=io.StringIO())


def text_of(console: PlainConsole) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_cells_headings_titles_and_sentences_are_shown_as_they_stand() -> None:
    to = terminal()
    columns = [Column(EVIL, itemgetter(0)), Column("b", itemgetter(1))]
    print_table(columns, [(EVIL, "1"), ((EVIL, "red"), "2")], to, title=EVIL)
    to.say(EVIL, colour="red")
    assert text_of(to).count(SHOWN) == 5
    assert "\x1b" not in text_of(to)


def test_narrow_tables_too() -> None:
    to = terminal(60)
    columns = [Column("a", itemgetter(0), least=12), Column("b", itemgetter(1), turn=1, below=True)]
    print_table(columns, [(EVIL, EVIL), ((EVIL, "red"), EVIL)], to)
    shown = text_of(to)
    assert "\x1b" not in shown
    assert max(map(len, shown.splitlines())) <= 60
    assert "".join(shown.split()).count("\\u202e") == 4


def test_status_of_an_error_with_markup_and_escapes(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    record = {"status": "failed", "metrics": {}, "error": EVIL}
    (tmp_path / "run" / "run.json").write_text(json.dumps(record))
    to = terminal()
    to.print(status_table(tmp_path, survey(tmp_path), to, driven=False), crop=False)
    assert SHOWN in text_of(to)


def test_what_is_left_out(capsys: pytest.CaptureFixture[str]) -> None:
    lines = [("a", "failed", EVIL), *((f"m{i}", "missing", "") for i in range(3))]
    print_states(lines, settings={"a": "model.bits=8 seed=0"})
    assert capsys.readouterr().out == (
        f"a model.bits=8 seed=0  failed: {SHOWN}\n3 missing: the same command runs them\n"
    )


def test_settings_of_runs_in_a_comparison() -> None:
    to = terminal()
    print_comparison(compare(make_study([{"estimator": EVIL}, {}])), to=to)
    assert text_of(to).count(SHOWN) >= 1
    assert "\x1b" not in text_of(to)
