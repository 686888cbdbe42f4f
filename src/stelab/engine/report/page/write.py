"""Write the report: one HTML file, with its style, its script and its figures in it."""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from stelab.engine.comparison import Comparison, statistics
from stelab.engine.comparison.conditions import written
from stelab.engine.files import write_atomically
from stelab.engine.project import project
from stelab.engine.report import numbers
from stelab.engine.report.drawing import Drawn
from stelab.engine.report.page.contents import (
    Links,
    conclude,
    coverage,
    environment,
    left_out_rows,
    result_rows,
    run_rows,
)

_HERE = Path(__file__).parent


def write_report(
    comparison: Comparison,
    folder: Path,
    figures: Sequence[Drawn],
    *,
    command: str,
    missing: Sequence[str] = (),
) -> Path:
    """Write ``report.html`` beside the tables and the figures of a comparison; return its path.

    Args:
        comparison: What is reported.
        folder: Where its tables lie already.
        figures: Those in ``figures/``, in their order on the page.
        command: The command line that makes this report.
        missing: Sentences on figures that could not be drawn.
    """
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
    """Return the page: the same for the same arguments.

    Each figure comes with its SVG; `links` say where the folders of runs are, seen from the page.
    """
    study = comparison.study
    script = (_HERE / "report.js").read_text(encoding="utf-8")
    tests = comparison.table.groupby("metric", sort=False)["p"].count()
    jinja = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    jinja.globals["numbers"] = numbers
    jinja.tests["missing"] = pd.isna
    results = {metric: result_rows(comparison, metric) for metric in comparison.metrics}
    return jinja.get_template("report.html.j2").render(
        comparison=comparison,
        project=project(),
        statistics=statistics,
        written=written,
        **conclude(comparison, results[comparison.metric]),
        tests_by_metric=[f"{count} of {metric}" for metric, count in tests.items()],
        studies=", ".join(sorted({*study.runs["study"], *study.left_out["study"]})),
        results=results,
        figures=[(figure, inline(svg, label=figure.title)) for figure, svg in figures],
        swept={key: ", ".join(written(study.runs[key])) for key in study.swept},
        coverage=coverage(comparison) if len(comparison.by) == 2 else None,
        runs=run_rows(comparison, links),
        left_out=left_out_rows(comparison, links),
        notes=[*(f"{same}." for same in comparison.identical), *comparison.notes, *missing],
        environment=environment(comparison.runs, comparison.replicates),
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
    for table in (study.runs, study.left_out):
        for name, run in zip(table["study"], table["run"], strict=True):
            if name in parents and (parents[name] / run).is_dir():
                relative = os.path.relpath(parents[name] / run, folder)
                links[name, run] = quote(Path(relative).as_posix()) + "/"
    return links
