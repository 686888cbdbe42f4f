"""Write the report: one HTML file, with its style, its script and its figures in it."""

from __future__ import annotations

import base64
import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from stelab.engine.comparison import Comparison
from stelab.engine.files import write_atomically
from stelab.engine.report.drawing import Drawn
from stelab.engine.report.page.conclusion import conclusions, headline, notes
from stelab.engine.report.page.grid import coverage_table, key_table
from stelab.engine.report.page.methods import environment_table, method_sentences
from stelab.engine.report.page.runs import left_out_table, run_table
from stelab.engine.report.results import result_table

_HERE = Path(__file__).parent


def write_report(
    comparison: Comparison,
    folder: Path,
    figures: Sequence[Drawn],
    *,
    command: str,
    missing: Sequence[str] = (),
) -> Path:
    """Write ``report.html``.

    Args:
        comparison: What is reported; its tables and figures lie in `folder` already.
        folder: Where to.
        figures: Those in ``figures/``, in their order on the page.
        command: The command line that makes this report.
        missing: Sentences on figures that could not be drawn.

    Returns:
        The path of the report.
    """
    read = [
        (figure, (folder / "figures" / f"{figure.name}.svg").read_text(encoding="utf-8"))
        for figure in figures
    ]
    links = dict(_links(comparison, folder))
    path = folder / "report.html"
    page = render(comparison, read, command=command, missing=missing, links=links)
    write_atomically(path, page)
    return path


def render(
    comparison: Comparison,
    figures: Sequence[tuple[Drawn, str]],
    *,
    command: str,
    missing: Sequence[str],
    links: Mapping[tuple[str, str], str],
) -> str:
    """Return the page: the same for the same arguments.

    Args:
        comparison: What is reported.
        figures: Each with its SVG.
        command: As in `write_report`.
        missing: As in `write_report`.
        links: Where the folder of each ``(study, run)`` is, seen from the report.
    """
    study = comparison.study
    script = (_HERE / "report.js").read_text(encoding="utf-8")
    environment = Environment(
        loader=FileSystemLoader(_HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("report.html.j2").render(
        comparison=comparison,
        headline=headline(comparison),
        conclusions=conclusions(comparison),
        methods=method_sentences(comparison),
        studies=", ".join(sorted({*study.runs["study"], *study.left_out["study"]})),
        results=[result_table(comparison, metric) for metric in comparison.metrics],
        figures=[(figure, inline(svg, label=figure.title)) for figure, svg in figures],
        keys=key_table(comparison),
        coverage=coverage_table(comparison),
        runs=run_table(comparison, links),
        left_out=left_out_table(comparison, links),
        notes=[*notes(comparison), *missing],
        environment=environment_table(comparison),
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


def _links(comparison: Comparison, folder: Path) -> Iterator[tuple[tuple[str, str], str]]:
    """Yield where the folders of runs are that exist, seen from `folder`."""
    study = comparison.study
    parents = {row["study"]: Path(row["folder"]).parent for _, row in study.runs.iterrows()}
    for table in (study.runs, study.left_out):
        for name, run in zip(table["study"], table["run"], strict=True):
            if name in parents and (parents[name] / run).is_dir():
                relative = os.path.relpath(parents[name] / run, folder)
                yield (name, run), quote(Path(relative).as_posix()) + "/"
