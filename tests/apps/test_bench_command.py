"""``stelab bench``: mistakes, and all its parts with the least of everything."""

from __future__ import annotations

import io
import json
import re
import resource
import sys
import time
from contextlib import redirect_stdout
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

import stelab
from conftest import Cli
from stelab.apps import bench
from stelab.apps.main import main
from stelab.engine.errors import InputError
from stelab.lab.bench import launchers, profile, start, steps, studies
from stelab.lab.bench.page import PARTS
from stelab.lab.bench.turns import Values

SMALL = (
    *("repetitions=1", "seconds=0.05", "settings=['model=mlp data=mnist5k']"),
    *("threads=[1]", "jobs=1", "planned=2", "runs=[12]"),
)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("parts=[]", "parts must be one or several, all different, got []"),
        ("threads=[2,2]", "threads must be one or several, all different, got [2, 2]"),
        ("settings=['model=mpl']", "settings: model=mpl: model=mpl does not exist"),
        ("settings=['model=\"mlp']", "No closing quotation"),
        ("settings=['task=classify']", "task must be reconstruct, but is Classify"),
        ("settings=['model.image_shape=[3,32,32]']", "1x28x28, but have shape (3, 32, 32)"),
        ("fast=trainer.precision=16-mixed", "must be 32-true or bf16-mixed, got 16-mixed"),
    ],
)
def test_mistakes_are_told_before_anything_is_measured(
    override: str, message: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with pytest.raises(SystemExit) as end:
        main(["bench", f"output={tmp_path}/out", override])
    assert end.value.code == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.out == ""
    assert not list(tmp_path.iterdir())


def test_an_earlier_page_stays(tmp_path: Path) -> None:
    (tmp_path / "bench.md").write_text("mine")
    with pytest.raises(InputError, match="exists already: give another output, or overwrite=true"):
        bench.start(stelab.compose(f"output={tmp_path}", command="bench"))
    assert (tmp_path / "bench.md").read_text() == "mine"


def run_here(*arguments: str) -> tuple[Values, str]:
    """Do in this process what would take a process each; what they say of time means nothing."""
    out, begun = io.StringIO(), time.perf_counter()
    with redirect_stdout(out):
        match arguments:
            case ["-m", "stelab", *words]:
                main(words)
            case ["-m", module, *words]:
                import_module(module).main(*words)
            case ["-c", code, *words]:
                before, sys.argv = sys.argv, ["-c", *words]
                try:
                    exec(code, {})
                finally:
                    sys.argv = before
    seconds = time.perf_counter() - begun
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": seconds, "cpu_s": seconds, "peak_mib": peak}, out.getvalue()


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (bench, steps, profile, start, launchers, studies):
        monkeypatch.setattr(module, "run_python", run_here)
    monkeypatch.setattr(start, "MORE", 1)


@pytest.mark.usefixtures("here")
def test_parts_become_a_page_and_raw_values(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    chosen = ("parts=[steps,profile,start,studies]", f"output={tmp_path}/out")
    bench.start(stelab.compose(*SMALL, *chosen, command="bench"))
    raw = json.loads((tmp_path / "out" / "bench.json").read_text())
    samples = raw["samples"]
    names = {part: [s["name"] for s in samples if s["part"] == part] for part in PARTS}
    once = {part: [*dict.fromkeys(of)] for part, of in names.items()}
    assert all(len(of) == len(once[part]) for part, of in names.items())
    loops = ["peak", "tutorial's loop", "plain loop", "stelab", "stelab, fast"]
    assert once["steps"] == loops
    assert once["launchers"] == []
    assert once["profile"] == ["pieces"]
    assert once["studies"] == ["load", "status", "compare"]
    assert {"stelab train debug=fast", "2 jobs planned"} < {*once["start"]}
    assert raw["machine"]["processor"] and raw["versions"]["torch"]
    assert raw["configuration"]["planned"] == 2

    page = (tmp_path / "out" / "bench.md").read_text()
    assert page.startswith(f"# stelab on {raw['machine']['processor']}, ")
    assert raw["machine"]["gpus"] or "Nothing was run on a GPU." in page
    tax = [a / b - 1 for a, b in zip(*(speeds(samples, n) for n in loops[2:4]), strict=True)]
    row = re.search(r"^\| stelab \|.*$", page, flags=re.MULTILINE)
    assert row and f" | {100 * tax[0]:,.1f} % | " in row[0]
    pieces = next(s["values"] for s in samples if s["part"] == "profile")
    finite = 100 * pieces["finite stelab"] / pieces["step plain"]
    assert re.search(rf"^\| whether loss .* \| – \| {finite:,.1f} % \|$", page, flags=re.MULTILINE)
    tables = [line for line in page.splitlines() if line.startswith("|")]
    missing = [line for line in tables if "–" in line]
    assert [line.split("|")[1].split()[0] for line in missing] == ["whether", "the"]
    assert not re.search(r"\bnan\b", page)
    assert capsys.readouterr().out.count(" of 1: ") == len(samples)


@pytest.mark.usefixtures("here")
def test_launchers_are_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(launchers, "SHORT", "trainer.max_epochs=3 data.limit=128")
    chosen = ("parts=[launchers]", "launchers=[alone,serial,joblib,stacked]", "jobs=2")
    setting = "settings=['model=mlp data=mnist5k trainer.max_epochs=1']"
    bench.start(stelab.compose(*SMALL, *chosen, setting, f"output={tmp_path}/out", command="bench"))
    page = (tmp_path / "out" / "bench.md").read_text()
    head, row = (
        re.split(r" *\| *", line)
        for line in page.splitlines()
        if "| alone" in line or "| `m" in line
    )
    assert head[2:-1] == [
        *("alone", "serial", "joblib", "stacked", "joblib beside serial", "stacked beside serial"),
        *("joblib beside alone, time", "stacked beside alone, time"),
        *(f"{name}, cores busy" for name in ("alone", "serial", "joblib", "stacked")),
    ]
    assert all(re.fullmatch(r"[\d,]+", cell) for cell in row[2:6])
    assert all(re.fullmatch(r"[\d.]+×", cell) for cell in row[6:10])
    assert all(float(cell) > 0 for cell in row[10:-1])
    samples = json.loads((tmp_path / "out" / "bench.json").read_text())["samples"]
    rates = {s["name"]: s["values"]["jobs_per_hour"] * s["values"]["seconds"] for s in samples}
    assert {name: round(rate / 3600) for name, rate in rates.items()} == {
        **{"alone": 1, "serial": 2},
        **{"joblib": 2, "stacked": 2},
    }


def speeds(samples: list[dict[str, Any]], name: str) -> list[float]:
    ours = [s for s in samples if s["name"] == name and s["part"] == "steps"]
    by_repetition = sorted(ours, key=lambda s: s["repetition"])
    return [s["values"]["images_per_s"] for s in by_repetition]


def test_it_measures_processes(cli: Cli, tmp_path: Path) -> None:
    result = cli("bench", "parts=[studies]", "runs=[3]", "repetitions=1")
    assert result.returncode == 0, result.stderr
    assert result.stderr == ""
    page = (tmp_path / "outputs" / "bench" / "bench.md").read_text()
    assert re.search(r"^\| 3 \| [\d.]+, \d+ MiB \| [\d.]+, \d+ MiB \| ", page, flags=re.MULTILINE)
    assert {path.name for path in (tmp_path / "outputs").iterdir()} == {"bench"}
