"""Which groups a figure shows, and how they are told apart."""

from __future__ import annotations

from made_study import make_study
from stelab.engine.comparison import compare
from stelab.engine.report.group_styles import shown_styles, tell_not_shown, tell_same, tell_single


def test_estimators_have_colours_and_thresholds_dashes() -> None:
    settings = [
        {"estimator": name, "threshold.value": value}
        for name in ("identity", "none")
        for value in (0.0, 0.5)
    ]
    one, two, three, four = shown_styles(compare(make_study(settings)))
    assert (one.colour, one.marker) == (two.colour, two.marker) == ("#0072B2", "o")
    assert (three.colour, three.marker) == (four.colour, four.marker) == ("#D55E00", "s")
    assert (one.dashes, one.fill) == (three.dashes, three.fill) == ("-", "full")
    assert (two.dashes, two.fill) == (four.dashes, four.fill) == ("--", "none")


def test_no_two_lines_look_the_same() -> None:
    settings = [{"estimator": f"e{i:02}"} for i in range(14)]
    lines = shown_styles(compare(make_study(settings)))
    assert len({(line.colour, line.dashes) for line in lines}) == 14
    assert len({(line.marker, line.fill) for line in lines}) == 14


def test_of_many_groups_the_best_and_the_baseline_are_shown() -> None:
    settings = [{"estimator": f"e{i:02}"} for i in range(29)]
    comparison = compare(make_study([*settings, {"estimator": "identity"}]))
    lines = shown_styles(comparison)
    assert [line.label for line in lines] == [*(f"e{i:02}" for i in range(12)), "identity"]
    assert [line.name() for line in lines if line.is_baseline] == ["identity (baseline)"]
    assert tell_not_shown(comparison) == (
        "Shown are the best 12 and the baseline; 17 more are not shown."
    )
    without = compare(make_study(settings))
    assert tell_not_shown(without) == "Shown are the best 12; 17 more are not shown."
    assert tell_not_shown(compare(make_study(settings[:14]))) == ""


def test_identical_groups_are_one_line_with_the_reason() -> None:
    settings = [
        {"estimator": "identity", "level": 1},
        {"estimator": "hardtanh_clip", "level": 1},
        {"estimator": "none", "level": 2},
    ]
    comparison = compare(make_study(settings))
    lines = shown_styles(comparison)
    assert [line.name() for line in lines] == ["identity = hardtanh_clip (baseline)", "none"]
    assert tell_same(comparison, lines, "line") == (
        "Groups that are the same, number by number, are one line "
        "(identity = hardtanh_clip: the same losses and codes in every epoch)."
    )
    assert tell_same(comparison, lines[1:], "line") == ""


def test_long_names_are_folded() -> None:
    (line,) = shown_styles(compare(make_study([{"estimator": "x" * 70}]), by=["estimator"]))
    assert line.name() == f"{'x' * 58}\n{'x' * 12}"
    (line,) = shown_styles(compare(make_study([{"estimator": "x" * 9999}]), by=["estimator"]))
    assert line.name().endswith("x\n…") and line.name().count("\n") == 7


def test_single_values_are_named_or_counted() -> None:
    assert tell_single([], 3, "band") == ""
    assert tell_single(["a", "b"], 3, "band") == "No band where n = 1: a; b."
    assert tell_single(["a"] * 7, 9, "bar") == "No bar where n = 1: 7 of 9."
    assert tell_single(["a"] * 9, 9, "bar") == "No bar where n = 1."
