"""What is printed of a comparison: exact cells and sentences."""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from typing import Any

import pandas as pd
import pytest

from made_study import Row, make_study, study_of
from stelab.engine.comparison import Comparison, Regression, against, compare
from stelab.engine.report.console import PlainConsole
from stelab.engine.report.numbers import number
from stelab.engine.report.printed_comparison import print_comparison, print_regression

NAMES = ("identity", "hardtanh_clip", "bernoulli_st")
GRID: list[dict[str, Any]] = [
    {"estimator": name, "threshold.value": value, "level": 0.0123 * (1 + i)}
    for i, name in enumerate(NAMES)
    for value in (0.0, 0.5)
]
Capture = pytest.CaptureFixture[str]
SETTINGS: list[dict[str, Any]] = [
    {"estimator": "identity", "level": 1},
    {"estimator": "hardtanh_clip", "level": 1},
    {"estimator": "none", "level": 2},
    {"estimator": "relu", "level": 3, "seeds": 1},
]
OLD = [1.0, 2.0, 3.5, 4.0]


def printed(comparison: Comparison, capsys: Capture) -> tuple[list[list[str]], list[str]]:
    print_comparison(comparison)
    return split(capsys.readouterr().out)


def split(output: str) -> tuple[list[list[str]], list[str]]:
    """Tell the cells of tables from the lines below; cells are two spaces apart."""
    lines = [line.rstrip() for line in output.splitlines() if line.strip()]
    cells = [re.split(r" {2,}", line.strip()) for line in lines if line.startswith(" ")]
    return cells, [line for line in lines if not line.startswith(" ")]


def group(estimator: str, values: list[float], study: str = "made") -> list[Row]:
    return [
        {"study": study, "estimator": estimator, "seed": seed, "test/mse": value}
        for seed, value in enumerate(values)
    ]


def terminal(width: int) -> PlainConsole:
    return PlainConsole(width=width, force_terminal=True, color_system=None, file=io.StringIO())


def text_of(console: PlainConsole) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def bounds(table: pd.DataFrame, columns: Sequence[str], *, sign: bool) -> set[str]:
    return {number(value, sign=sign) for name in columns for value in table[name].dropna()}


def judge(new: dict[str, list[float]], old: dict[str, list[float]]) -> Regression:
    rows = [row for name, values in new.items() for row in group(name, values, "new")]
    rows += [row for name, values in old.items() for row in group(name, values, "old")]
    both = study_of(rows)
    one, other = (compare(both.only([name]), by=["estimator"]) for name in ("new", "old"))
    return against(one, other)


def test_baseline_identical_star_selected_and_a_single_value(capsys: Capture) -> None:
    cells, lines = printed(compare(make_study(SETTINGS, spread=0.1)), capsys)
    level = "95 % interval"
    assert cells[0] == [
        *("estimator", "n", "test/mse", level),
        *("difference", f"its {level}", "d_z", "p (Holm)", "dead bits"),
    ]
    equal = ["3", "0.5500", "[0.4258, 0.6742]"]
    assert cells[2:] == [
        [
            *("identity", "3", "0.5500 (selected)", "[0.4258, 0.6742]"),
            *("baseline", "–", "–", "–", "0.0%"),
        ],
        ["hardtanh_clip", *equal, "0", "[0, 0]", "–", "–", "0.0%"],
        [
            *("none", "3", "1.100", "[0.8516, 1.348]"),
            *("+0.5500 *", "[+0.4258, +0.6742]", "+11.00", "0.003", "0.0%"),
        ],
        [
            *("relu", "1", "1.500", "n = 1, no interval"),
            *("+1.000", "n = 1, no interval", "–", "–", "0.0%"),
        ],
    ]
    assert lines == [
        "identity = hardtanh_clip: the same losses and codes in every epoch",
        "Best test/mse is selected: the lowest of 3 means, so chance favours it.",
        "Differences to estimator=identity, paired by seed; * p < 0.05 after Holm's correction "
        "for 1 test; intervals are not corrected.",
        "t tests and intervals of 3 pairs take differences for normally distributed, which so few "
        "cannot show: read p with caution below n = 5.",
    ]


def test_without_replicates_there_are_no_columns_of_intervals(capsys: Capture) -> None:
    cells, lines = printed(compare(make_study(SETTINGS, seeds=1)), capsys)
    assert cells[0] == ["estimator", "n", "test/mse", "difference", "dead bits"]
    assert cells[2:4] == [
        ["identity", "1", "0.5000 (selected)", "baseline", "0.0%"],
        ["hardtanh_clip", "1", "0.5000", "0", "0.0%"],
    ]
    assert lines[-1] == "n = 1, no interval: more values of seed give one."


def test_groups_without_a_common_replicate_have_no_pair(capsys: Capture) -> None:
    alone: Row = {"estimator": "none", "seed": 2, "test/mse": 2.5}
    cells, _ = printed(compare(study_of([*group("identity", [1.0, 3.0]), alone])), capsys)
    assert cells[3] == [
        *("none", "1", "2.500", "n = 1, no interval"),
        *("–", "no pair", "–", "–"),
    ]


def test_without_a_baseline_nothing_is_compared(capsys: Capture) -> None:
    rows = [*group("relu", [1.0, 3.0]), *group("none", [2.0, 4.0])]
    cells, lines = printed(compare(study_of(rows), better="higher"), capsys)
    assert cells[0] == ["estimator", "n", "test/mse", "95 % interval"]
    assert cells[2][:3] == ["none", "2", "3.000 (selected)"]
    assert lines == [
        "Best test/mse is selected: the highest of 2 means, so chance favours it.",
        "No baseline: baseline=KEY=VALUE compares the groups with one.",
    ]
    cells, lines = printed(compare(make_study([{}])), capsys)
    assert cells[2] == ["all runs", "3", "1.000", "[-0.2421, 2.242]", "0.0%"]
    assert lines == []


def test_rows_of_a_regression(capsys: Capture) -> None:
    worse = [1.1, 2.3, 3.6, 4.4]
    regression = judge(
        {"none": worse, "identity": OLD, "relu": [5.0]},
        {"none": OLD, "identity": OLD, "relu": [4.0], "arm": OLD},
    )
    print_regression(regression, "new against old", confidence=0.9)
    cells, lines = split(capsys.readouterr().out)
    assert cells[0] == ["new against old"]
    assert cells[1] == [
        *("setting", "metric", "verdict", "pairs"),
        *("old", "new", "difference", "interval", "p"),
    ]
    assert cells[3:] == [
        ["identity", "test/mse", "equal", "4", "2.625", "2.625", "0", "[0, 0]", "–"],
        [
            *("none", "test/mse", "no difference shown", "4", "2.625", "2.850"),
            *("+0.2250", "[-0.01368, +0.4637]", "0.058"),
        ],
        [
            *("relu", "test/mse", "not judged: n = 1, no interval", "1", "4.000", "5.000"),
            *("+1.000", "n = 1, no interval", "–"),
        ],
    ]
    assert lines == [
        "2 of 3 rows judged.",
        "Each interval is taken by itself: of 2 unchanged rows about 0.1 would be called worse by "
        "chance.",
        "arm: only in against",
    ]


def test_chance_is_told_where_there_is_some(capsys: Capture) -> None:
    names = [f"e{i}" for i in range(30)]
    regression = judge(dict.fromkeys(names, OLD), dict.fromkeys(names, OLD))
    print_regression(regression, "new against old", confidence=0.95)
    _, lines = split(capsys.readouterr().out)
    assert lines == [
        "30 of 30 rows judged.",
        "Each interval is taken by itself: of 30 unchanged rows about 0.8 would be called worse "
        "by chance.",
    ]
    print_regression(regression, "new against old", confidence=0.999)
    assert split(capsys.readouterr().out)[1] == ["30 of 30 rows judged."]


def test_a_terminal_of_80_columns_loses_no_name_and_no_number() -> None:
    comparison = compare(make_study(GRID, spread=0.1))
    print_comparison(comparison, to=(console := terminal(80)))
    text = text_of(console)
    assert max(map(len, text.splitlines())) <= 80
    table = comparison.table
    levels = bounds(table, ("mean", "low", "high"), sign=False)
    others = bounds(table, ("difference", "difference_low", "difference_high"), sign=True)
    for word in (*NAMES, "threshold.value", *levels, *others, "p (Holm)", "(selected)", "baseline"):
        assert word in text
    cells, _ = split(text)
    assert cells[:2] == [
        ["estimator", "test/mse", "difference"],
        ["threshold.value", "n", "95 % interval", "its 95 % interval", "p (Holm)"],
    ]


@pytest.mark.parametrize(
    ("width", "lost"),
    [(150, ()), (140, ("dead bits",)), (128, ("dead bits", "d_z"))],
)
def test_what_matters_least_gives_way_first(width: int, lost: tuple[str, ...]) -> None:
    print_comparison(compare(make_study(GRID, spread=0.1)), to=(console := terminal(width)))
    cells, _ = split(text_of(console))
    columns = ("estimator", "threshold.value", "n", "test/mse", "95 % interval", "difference")
    rest = ("its 95 % interval", "d_z", "p (Holm)", "dead bits")
    assert cells[0] == [name for name in (*columns, *rest) if name not in lost]


def test_a_terminal_too_narrow_for_any_table_breaks_its_lines() -> None:
    comparison = compare(make_study(GRID, spread=0.1))
    print_comparison(comparison, to=(console := terminal(30)))
    for word in bounds(comparison.table, ("mean", "low", "high"), sign=False):
        assert word in text_of(console)
    assert "identity" in text_of(console) and "bernoulli_st" in text_of(console)


def test_a_regression_in_80_columns_loses_no_verdict_and_no_number() -> None:
    names = [f"{name}, threshold.value=0.5" for name in NAMES]
    values = [[1.1, 2.3, 3.6, 4.4], OLD, [5.0]]
    regression = judge(dict(zip(names, values, strict=True)), dict.fromkeys(names, OLD))
    print_regression(regression, "a against b", confidence=0.9, to=(c := terminal(80)))
    text = text_of(c)
    assert max(map(len, text.splitlines())) <= 80
    others = ("difference", "difference_low", "difference_high")
    numbers = bounds(regression.table, ("old", "new"), sign=False)
    numbers |= bounds(regression.table, others, sign=True)
    words = ("no difference shown", "equal", "not judged: n = 1", "0.058", "test/mse")
    for word in (*NAMES, *numbers, *words):
        assert word in text
