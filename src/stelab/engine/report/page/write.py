"""The report of a comparison: one HTML file, with its style, its script and its figures in it."""

import base64
import hashlib
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from stelab.engine.comparison import Comparison, statistics
from stelab.engine.comparison.conditions import order, select_where, write_value, written
from stelab.engine.comparison.groups import label, written_replicate
from stelab.engine.files import write_atomically
from stelab.engine.project import project
from stelab.engine.report import numbers
from stelab.engine.report.drawing import Drawn

_HERE = Path(__file__).parent

Links = Mapping[tuple[str, str], str]  # where the folders of runs are, by study and name
Row = dict[str, Any]


def write_report(
    comparison: Comparison,
    folder: Path,
    figures: Sequence[Drawn],
    *,
    command: str,
    missing: Sequence[str] = (),
) -> Path:
    """Write ``report.html`` beside the tables, with `figures` of the folder; return its path."""
    drawings = [
        (figure, (folder / "figures" / f"{figure.name}.svg").read_text(encoding="utf-8"))
        for figure in figures
    ]
    path, links = folder / "report.html", _links(comparison, folder)
    page = render(comparison, drawings, command=command, missing=missing, links=links)
    write_atomically(path, page)
    return path


def render(
    comparison: Comparison,
    figures: Sequence[tuple[Drawn, str]],
    *,
    command: str,
    missing: Sequence[str],
    links: Links,
) -> str:
    """Return the page, the same for the same arguments; each figure comes with its SVG."""
    study = comparison.study
    script = (_HERE / "report.js").read_text(encoding="utf-8")
    tests = comparison.table.groupby("metric", sort=False)["p"].count()
    jinja = Environment(loader=FileSystemLoader(_HERE), autoescape=True, undefined=StrictUndefined)
    jinja.trim_blocks = jinja.lstrip_blocks = True
    jinja.globals["numbers"] = numbers
    jinja.tests["missing"] = pd.isna
    results = {metric: _result_rows(comparison, metric) for metric in comparison.metrics}
    return jinja.get_template("report.html.j2").render(
        comparison=comparison,
        project=project(),
        statistics=statistics,
        written=written,
        **_conclude(comparison, results[comparison.metric]),
        tests_by_metric=[f"{count} of {metric}" for metric, count in tests.items()],
        studies=", ".join(sorted({*study.runs["study"], *study.left_out["study"]})),
        results=results,
        figures=[(figure, inline(svg, label=figure.title)) for figure, svg in figures],
        swept={key: ", ".join(written(study.runs[key])) for key in study.swept},
        coverage=_coverage(comparison) if len(comparison.by) == 2 else None,
        runs=_run_rows(comparison, links),
        left_out=_left_out_rows(comparison, links),
        notes=[*(f"{same}." for same in comparison.identical), *comparison.notes, *missing],
        environment=_environment(comparison.runs, comparison.replicates),
        command=command,
        style=Markup((_HERE / "report.css").read_text(encoding="utf-8")),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )


def inline(svg: str, *, label: str) -> Markup:
    """Return a figure's SVG as an element of the page, named for those who cannot see it."""
    element = re.sub("<metadata>.*?</metadata>", "", svg[svg.index("<svg ") :], flags=re.DOTALL)
    named = Markup('<svg role="img" aria-label="{}" ').format(label)
    return named + Markup(element.removeprefix("<svg "))


def _links(comparison: Comparison, folder: Path) -> Links:
    """Return where the folders of runs are that exist, seen from `folder`."""
    study = comparison.study
    parents = {row["study"]: Path(row["folder"]).parent for _, row in study.runs.iterrows()}
    links = {}
    for name, run in [*_keys(study.runs), *_keys(study.left_out)]:
        if name in parents and (parents[name] / run).is_dir():
            relative = os.path.relpath(parents[name] / run, folder)
            links[name, run] = quote(Path(relative).as_posix()) + "/"
    return links


def _result_rows(comparison: Comparison, metric: str) -> list[Row]:
    """Return a metric's rows with `compared`, `verdict`, and in what `identical` groups differ."""
    rows: list[Row] = comparison.rows(metric).to_dict("records")
    settings = {group.label: group.settings for group in comparison.groups}
    for row in rows:
        name = row["group"]
        improves = (row["difference"] < 0) == (comparison.better_of(metric) == "lower")
        row["compared"] = row["baseline"] not in ("", name)
        row["verdict"] = ("better" if improves else "worse") if row["significant"] else ""
        row["identical"] = ", ".join(
            label({key: v for key, v in settings[other].items() if v != settings[name][key]})
            for same in comparison.identical
            for other in same.labels
            if name in same.labels and other != name
        )
    return rows


def _run_rows(comparison: Comparison, links: Links) -> list[Row]:
    """Return the runs that can be read, each with its state and where its folder is."""
    left_out = comparison.study.left_out
    states = _finished_states(comparison)
    states |= dict(zip(_keys(left_out), left_out["state"], strict=True))
    runs = comparison.study.runs.sort_values(["study", "run"], kind="stable")
    return _linked(runs.assign(state=[states[key] for key in _keys(runs)]), links)


def _left_out_rows(comparison: Comparison, links: Links) -> list[Row]:
    """Return what is not compared, what has not begun last, and where it is."""
    left_out = comparison.study.left_out.sort_values(
        ["state", "study", "run"], key=lambda column: column.where(column != "missing", "~")
    )
    return _linked(left_out, links)


def _linked(runs: pd.DataFrame, links: Links) -> list[Row]:
    hrefs = [links.get(key, "") for key in _keys(runs)]
    return runs.assign(href=hrefs).to_dict("records")


def _finished_states(comparison: Comparison) -> dict[tuple[str, str], str]:
    """Map the study and name of finished runs to whether they are compared, or why not."""
    finished = _keys(comparison.study.finished)
    asked = {*_keys(select_where(comparison.study.runs, comparison.where))}
    reasons = "left out by where", "its configuration was run again"
    states = {key: f"finished, but {reasons[key in asked]}" for key in finished}
    return states | dict.fromkeys(_keys(comparison.runs), "compared")


def _keys(runs: pd.DataFrame) -> list[tuple[str, str]]:
    return list(zip(runs["study"], runs["run"], strict=True))


def _coverage(comparison: Comparison) -> dict[str, Any]:
    """Return how many replicates each pair of values of two keys has, and which it lacks."""
    expected = _replicates(comparison, comparison.study.runs)
    cells = {}
    for group in comparison.groups:
        replicates = _replicates(comparison, group.runs)
        absent = ", ".join(name for name in expected if name not in replicates)
        cells[tuple(group.settings.values())] = (len(replicates), absent)
    rows, columns = (
        sorted({group.settings[key] for group in comparison.groups}, key=order)
        for key in comparison.by
    )
    return {"expected": len(expected), "cells": cells, "rows": rows, "columns": columns}


def _replicates(comparison: Comparison, runs: pd.DataFrame) -> list[str]:
    """Write the replicates of runs, in their order."""
    keys = list(comparison.replicates)
    distinct = runs.dropna(subset=keys).drop_duplicates(keys).sort_values(keys)
    return [written_replicate(row, keys) for _, row in distinct.iterrows()]


def _environment(runs: pd.DataFrame, replicates: tuple[str, ...]) -> dict[str, str]:
    """Return the versions, machines, commits and replicates of runs, counted where they differ."""
    texts = {}
    for key, values in runs.dropna(axis="columns", how="all").items():
        if not (key.startswith(("versions.", "machine.", "git.")) or key in replicates):
            continue
        unordered = Counter(map(write_value, values.dropna()))
        counts = {name: unordered[name] for name in written(values)}
        if absent := int(values.isna().sum()):
            counts["none"] = absent
        several = [f"{name} ({numbers.counted(count, 'run')})" for name, count in counts.items()]
        texts[key] = ", ".join(several if len(counts) > 1 else counts)
    return texts


def _conclude(comparison: Comparison, rows: list[Row]) -> dict[str, Any]:
    """Return what the template's sentences name, of the first metric's rows."""
    best, *others = rows
    line = comparison.line_of
    apart = [row for row in others if line[row["group"]] != line[best["group"]]]
    second = next((row for row in apart if not pd.isna(row["mean"])), {})
    pairs = ((best, second), (second, best)) if second else ()
    named = [word.partition("=")[0] for word in comparison.baseline.split()]
    compared = [row for row in rows if row["compared"]]
    verdicts = Counter(_verdict(row) for row in compared)
    return {
        "best": best,
        "second": second,
        "is_tested": any(a["baseline"] == b["group"] and not pd.isna(a["p"]) for a, b in pairs),
        "held": [key for key in comparison.by if key not in named],
        "compared": numbers.counted(len(compared), "group") if compared else "",
        "verdicts": numbers.count_kinds(verdicts),
        "tests": sum(not pd.isna(row["p"]) for row in compared),
        "states": Counter(_finished_states(comparison).values()),
        "states_left_out": Counter(comparison.study.left_out["state"]),
    }


def _verdict(row: Row) -> str:
    """Say what became of a group that has another one as baseline."""
    if row["significant"]:
        return str(row["verdict"])
    if not pd.isna(row["p"]):
        return "without a significant difference"
    equal = row["pairs"] and row["difference"] == row["difference_low"] == 0
    return "equal in every pair" if equal else "not testable"
