"""`stelab tensorboard` as a process, and what a browser shows of it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from browser import Chromium
from browser import chromium as chromium
from conftest import Cli, Start, train
from stelab.engine.report.board.server import traces
from stelab.engine.studies import Run
from waiting import PATIENCE, wait_until


@dataclass(frozen=True)
class Served:
    process: subprocess.Popen[str]
    url: str
    addresses: dict[str, str]


@contextmanager
def serve(outputs: Path, *arguments: str) -> Iterator[Served]:
    """Run the command, from the moment at which it says that it is ready."""
    command = [sys.executable, "-m", "stelab", "tensorboard", "study=debug", "port=0"]
    command += [f"paths.outputs={outputs}", *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        first = process.stdout.readline().split()[0]
        lines = (process.stdout.readline().strip().partition(": ") for _ in range(3))
        others = {name: address for name, _, address in lines}
        yield Served(process, first.partition("#")[0], {"first": first, **others})
    finally:
        process.kill()
        process.communicate()


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Run]:
    outputs = tmp_path_factory.mktemp("outputs")
    jobs = (("identity", 0), ("none", 0), ("none", 1))
    return [
        train(outputs, f"estimator={name}", f"seed={seed}", "trainer.max_epochs=2")
        for name, seed in jobs
    ]


@pytest.fixture(scope="module")
def outputs(runs: list[Run]) -> Path:
    return runs[0].folder.parents[1]


@pytest.fixture
def copied(outputs: Path, tmp_path: Path) -> Path:
    """The study again, where `cli` looks for it, without a view."""
    folder = tmp_path / "outputs" / "debug"
    shutil.copytree(outputs / "debug", folder, ignore=shutil.ignore_patterns("comparison"))
    return folder


@pytest.fixture(scope="module")
def served(outputs: Path) -> Iterator[Served]:
    with serve(outputs) as served:
        yield served


def test_hparams_in_a_browser(served: Served, runs: list[Run], chromium: Chromium) -> None:
    with chromium.open(served.addresses["table"]) as tab:
        cells = tab.page.locator("tf-hparams-table-view vaadin-grid-cell-content")
        for text in ("estimator", "seed", "test/mse", "identity", "none"):
            expect(cells.get_by_text(text, exact=True).first).to_be_visible()
        for run in runs:
            expect(cells.get_by_text(run.name, exact=True)).to_be_visible()
            expect(cells.get_by_text(f"{run.metrics['test/mse']:#.5g}").first).to_be_visible()
        domains = tab.page.locator("tf-hparams-query-pane")
        for text in ("identity", "none", "1.0000"):  # the values to choose from
            expect(domains.get_by_role("checkbox", name=text)).to_be_visible()


def test_the_means_of_groups_in_a_browser(served: Served, chromium: Chromium) -> None:
    with chromium.open(served.addresses["means"]) as tab:
        page = tab.page
        expect(page.get_by_text("mse: means with 95 % intervals")).to_be_visible()
        chart = page.locator("tf-custom-scalar-margin-chart-card").filter(has_text="val/mse")
        expect(chart.get_by_text("Matches (2)")).to_be_visible()
        chart.locator(".toggle-matches-button").click()
        for mean in ("mean of identity (n = 1, no interval)", "mean of none (n = 2)"):
            expect(page.locator("tf-runs-selector").get_by_text(mean)).to_be_visible()
            expect(chart.get_by_text(f"mean/val/mse ({mean})")).to_be_visible()


def test_the_first_link_opens_the_overlaid_losses(
    served: Served, runs: list[Run], chromium: Chromium
) -> None:
    with chromium.open(served.addresses["first"]) as tab:
        chart = tab.page.locator("tf-custom-scalar-multi-line-chart-card").filter(
            has_text="val/mse"
        )
        expect(chart).to_be_visible()
        chart.locator(".toggle-matches-button").click()
        for name in ("identity, seed=0", "none, seed=0", "none, seed=1"):
            expect(chart.get_by_text(f"val/mse ({name})")).to_be_visible()
        expect(chart.locator("path.line")).to_have_count(5)  # three runs, two means


def test_curves_of_all_runs_in_a_browser(
    served: Served, runs: list[Run], chromium: Chromium
) -> None:
    address = served.addresses["all curves"].replace("#", "&tagFilter=%5Eval%2Fmse#")
    with chromium.open(address) as tab:
        card = tab.page.locator("card-view").filter(has_text="val/mse")
        rows = card.locator("tb-data-table-content-row")
        expect(rows).to_have_count(3)
        for name, run in zip(
            ("identity, seed=0", "none, seed=0", "none, seed=1"), runs, strict=True
        ):
            row = rows.filter(has_text=name)
            expect(row).to_contain_text(f"{run.metrics['val/mse']:.4g}")
        colours = [
            button.evaluate("button => getComputedStyle(button).backgroundColor")
            for name in ("identity, seed=0", "none, seed=0", "none, seed=1")
            for button in [swatch(tab.page, name)]
        ]
        assert colours[1] == colours[2] != colours[0]  # a colour a group


def swatch(page: Page, run: str) -> Locator:
    """Return the button with a run's colour."""
    row = page.locator("runs-data-table tb-data-table-content-row").filter(has_text=run)
    return row.filter(has_not_text="mean").locator(".run-color-swatch")


def shown(url: str) -> list[str]:
    with urllib.request.urlopen(f"{url}data/runs") as response:
        names: list[str] = json.load(response)
    return names


def test_what_begins_meanwhile_is_taken_in(served: Served, outputs: Path) -> None:
    assert "hardtanh_clip, seed=0" not in shown(served.url)
    train(outputs, "estimator=hardtanh_clip", "seed=0", "trainer.max_epochs=2")
    expected = {"hardtanh_clip, seed=0", "mean of identity = hardtanh_clip (n = 1, no interval)"}
    wait_until(lambda: expected <= set(shown(served.url)))


def test_a_port_in_use_is_told_before_anything_is_written(
    served: Served, copied: Path, cli: Cli
) -> None:
    port = served.url.rpartition(":")[2].strip("/")
    result = cli("tensorboard", "study=debug", f"port={port}")
    assert result.returncode == 2
    assert (
        f"cannot listen at localhost:{port} (Address already in use): give another port="
        in result.stderr
    )
    assert not (copied / "comparison").exists()


def test_ctrl_c_ends_it(served: Served) -> None:
    served.process.send_signal(signal.SIGINT)
    assert served.process.wait(PATIENCE) == 0


def test_sigterm_ends_it(outputs: Path) -> None:
    with serve(outputs) as served:
        served.process.terminate()
        assert served.process.wait(PATIENCE) == 0


def test_serve_false_only_writes(copied: Path, cli: Cli) -> None:
    result = cli("tensorboard", "study=debug", "serve=false", "where=estimator=none seed=0,1")
    folder = Path("outputs/debug/comparison/tensorboard")
    assert (result.returncode, result.stderr, result.stdout) == (0, "", f"{folder}\n")
    assert {path.name for path in (copied / "comparison" / "tensorboard").iterdir()} == {
        *("none, seed=0", "none, seed=1", "mean of all runs (n = 2)", "study, 2 of 2 runs finished")
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["study=debg"], "debg is not there"),
        (["where=estimator=identit"], "no run has estimator=identit; did you mean 'identity'?"),
        (["by=estimator,sed"], "sed is not a setting in which these runs differ"),
        (["port=70000"], "port must be less than 65536, got 70000"),
        (["host=192.0.2.1"], "cannot listen at 192.0.2.1:0"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_mistakes_write_nothing(copied: Path, cli: Cli, arguments: list[str], message: str) -> None:
    result = cli("tensorboard", "study=debug", "port=0", *arguments)
    assert result.returncode == 2
    assert message in result.stderr and len(result.stderr.splitlines()) == 1
    assert not (copied / "comparison").exists()


WRITER = """
import sys
from pathlib import Path
from stelab.engine.report.board.view import read_view
from stelab.engine.report.board.writing import write_anew

study = Path(sys.argv[1])
view = read_view([study], by=None, where=None, replicates=["seed"], embeddings=False)
for _ in range(15):
    write_anew(view, study / "comparison" / "tensorboard")
"""


def test_two_at_once_do_not_break_each_other(copied: Path, start: Start) -> None:
    processes = [start(str(copied), code=WRITER) for _ in range(2)]
    assert [process.communicate()[1] for process in processes] == ["", ""]
    assert [process.returncode for process in processes] == [0, 0]
    assert [path.name for path in (copied / "comparison").iterdir()] == ["tensorboard"]
    links = [path for path in copied.glob("comparison/*/*seed=*/*") if path.is_symlink()]
    assert len(links) >= 3 and all(link.exists() for link in links)


def test_where_nothing_can_be_written_it_says_so(copied: Path, cli: Cli) -> None:
    (copied / "comparison").touch()
    result = cli("tensorboard", "study=debug", "serve=false")
    assert result.returncode == 2
    message = f"{copied / 'comparison'} must be a folder to write to, but is none"
    assert message in result.stderr and len(result.stderr.splitlines()) == 1


def test_a_run_that_cannot_be_read_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = tmp_path / "study"
    (study / "run").mkdir(parents=True)
    (study / "other").mkdir()
    (study / "run").chmod(0)
    monkeypatch.chdir(study)  # pytest's folders are closed to others
    user = os.geteuid()
    if user == 0:  # who can read all
        os.seteuid(65534)
    try:
        other, run = traces([Path()])
    finally:
        os.seteuid(user)
        (study / "run").chmod(0o755)
    assert other == ("other", "missing", [])
    assert "Permission denied" in str(run)
