"""Results are what their runs gave: pages, tables and pictures are computed from them again."""

from __future__ import annotations

import json
import math
import re
import shutil
import statistics
import subprocess
import tarfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from checkouts import borrow_environment
from conftest import REPOSITORY
from pictures import TOLERANCE, difference
from results.measured import ARCHIVE, Runs, judge
from results.orders import Order, orders_table, word
from results.page import Experiment, draw, hours, page, read_experiments, tidy
from results.pictures import DPI
from results.published import About, Published, read_left_out, read_published, written
from results.rates import CRITERIA, at_an_end, choose, with_rates, write_rates

DOCS, RESULTS = REPOSITORY / "docs", REPOSITORY / "results"
STALE = "docs/results.md is stale: run scripts/write_results"
EXPERIMENTS = {experiment.name: experiment for experiment in read_experiments(REPOSITORY)}


@pytest.fixture(params=EXPERIMENTS)
def experiment(request: pytest.FixtureRequest) -> Experiment:
    return EXPERIMENTS[request.param]


def test_the_page_is_up_to_date() -> None:
    text = page([*EXPERIMENTS.values()], read_left_out(REPOSITORY))
    assert (DOCS / "results.md").read_text(encoding="utf-8") == text, STALE


def test_pictures_are_up_to_date_and_no_others_there(tmp_path: Path) -> None:
    drawn = {name: draw(experiment) for name, experiment in EXPERIMENTS.items()}
    there = {path.stem for path in (DOCS / "results").glob("*")}
    assert there == {name for name, figure in drawn.items() if figure}, STALE
    for name, figure in drawn.items():
        if figure is None:
            continue
        figure.savefig(tmp_path / "fresh.png", dpi=DPI)
        with (
            Image.open(tmp_path / "fresh.png") as fresh,
            Image.open(DOCS / "results" / f"{name}.png") as kept,
        ):
            assert difference(fresh, kept) < TOLERANCE, STALE
            assert set(kept.info) == {"dpi"}


def test_the_tidy_table_is_up_to_date(experiment: Experiment) -> None:
    if experiment.runs is not None:
        kept = (RESULTS / experiment.name / "runs.csv").read_text(encoding="utf-8")
        assert kept == tidy(experiment.runs), STALE


def test_an_experiment_is_one_that_stelab_trains_and_says_what_was_published(
    experiment: Experiment,
) -> None:
    text = (REPOSITORY / "conf" / "experiment" / f"{experiment.name}.yaml").read_text("utf-8")
    head = "".join(line for line in text.splitlines(keepends=True) if line.startswith("#"))
    assert f"stelab train experiment={experiment.name}" in head
    numbers = {*re.findall(r"\d+(?:\.\d+)?", head)}
    means = (p for p in experiment.published if p.seed is None and not math.isnan(p.value))
    assert not [p for p in means if not {f"{p.value:g}", f"{p.value:.2f}"} & numbers]


def test_means_are_those_of_the_records_in_the_archive(experiment: Experiment) -> None:
    """Without stelab's reader: of run.json and config.yaml as they lie in the archive."""
    archive = RESULTS / experiment.name / ARCHIVE
    if experiment.runs is None:
        return
    with tarfile.open(archive) as tar:
        texts = {e.name: tar.extractfile(e).read() for e in tar if e.isfile()}  # type: ignore[union-attr]
    runs = [
        (yaml.safe_load(text), json.loads(texts[name.replace("config.yaml", "run.json")]))
        for name, text in texts.items()
        if name.endswith("/config.yaml")
    ]
    checked = 0
    for published in experiment.published:
        if published.epoch is not None:
            continue
        choices: dict[object, list[float]] = {}
        for config, record in runs:
            if (
                record["status"] == "finished"
                and all(_value(config, key) == value for key, value in published.setting.items())
                and published.seed in (None, config["seed"])
            ):
                choice = published.best_of and _value(config, published.best_of)
                choices.setdefault(choice, []).append(record["metrics"][published.metric])
        values = min(choices.values(), key=statistics.mean, default=[])
        verdict = judge(published, experiment.runs)
        assert verdict.ours.n == len(values)
        if values:
            checked += 1
            assert math.isclose(verdict.ours.mean, statistics.mean(values), rel_tol=1e-12)
        if len(values) > 1:
            assert math.isclose(verdict.ours.std, statistics.stdev(values), rel_tol=1e-9)
    assert checked


def _value(config: dict[str, object], key: str) -> object:
    """Return the value of a dotted key, or the option of a group."""
    names = config["names"]
    assert isinstance(names, dict)
    if key in names:
        return names[key]
    node: object = config
    for part in key.split("."):
        node = node.get(part) if isinstance(node, dict) else None
    return f"[{','.join(map(str, node))}]" if isinstance(node, list) else node


PUBLISHED = Published(
    setting={"estimator": "identity", "optimizer.lr": 0.1},
    metric="test/mse",
    value=2.0,
    sd=1.0,
    n=3,
    digits=1,
    within=0.5,
    seed=None,
    epoch=None,
    best_of=None,
    source="somebody",
)


def runs(*values: float, estimator: str = "identity") -> Runs:
    table = pd.DataFrame(
        {
            "run": [f"run{i}" for i in range(len(values))],
            "seed": range(len(values)),
            "names.estimator": estimator,
            "optimizer.lr": 0.1,
            "test/mse": values,
        }
    )
    curves = pd.concat([table.assign(epoch=epoch) for epoch in (1, 2)])
    curves["test/mse"] += curves["epoch"]
    return Runs(table, [*table], curves)


def test_a_verdict_is_of_the_mean() -> None:
    verdict = judge(PUBLISHED, runs(2.0, 2.4, 2.8))
    assert (verdict.word, verdict.ours.n) == ("reproduced", 3)
    assert math.isclose(verdict.difference, 0.4)
    # Welch, by hand: standard error of 0.4 / sqrt 3 and 1 / sqrt 3, 2.62 degrees of freedom.
    assert np.isclose(verdict.high - verdict.difference, 3.4566 * math.sqrt(1.16 / 3), rtol=1e-3)
    assert math.isclose(verdict.difference - verdict.low, verdict.high - verdict.difference)
    assert judge(PUBLISHED, runs(3.0, 3.4, 3.8)).word == "differs"
    assert judge(PUBLISHED, runs(1.0)).word == "differs"
    assert math.isnan(judge(PUBLISHED, runs(2.0)).low)


def test_a_published_number_has_the_digits_that_it_was_published_with(tmp_path: Path) -> None:
    lines = [
        "estimator,seed,epoch,metric,value,sd,n,within,source",
        *(f"identity,,,test/mse,{value},,1,0.5,somebody" for value in ("2", "2.50")),
    ]
    (tmp_path / "published.csv").write_text("\n".join(lines), encoding="utf-8")
    about = About(title="It", text="", unit="nats", digits=4, curves=[], notes=[])
    experiment = Experiment("it", about, read_published(tmp_path), None)
    cells = [
        line.split(" | ")[2] for line in page([experiment], []).splitlines() if "test/" in line
    ]
    assert cells == ["2 (n = 1)", "2.50 (n = 1)"]


def test_what_is_missing_is_told() -> None:
    assert judge(PUBLISHED, None).word == "not run"
    assert judge(PUBLISHED, runs(2.0, estimator="none")).word == "not run"
    assert judge(replace(PUBLISHED, setting={"no.key": 3.0}), runs(2.0)).word == "not run"
    unknown = judge(replace(PUBLISHED, value=math.nan), runs(2.0, 3.0))
    assert (unknown.word, unknown.ours.mean) == ("measured", 2.5)
    assert math.isnan(unknown.difference)


def test_a_number_may_be_of_one_seed_and_an_epoch() -> None:
    of_seed = replace(PUBLISHED, seed=1)
    assert judge(of_seed, runs(2.0, 7.0, 9.0)).ours.mean == 7
    assert judge(replace(of_seed, epoch=2), runs(2.0, 7.0, 9.0)).ours.mean == 9
    assert judge(replace(of_seed, epoch=3), runs(2.0, 7.0, 9.0)).word == "not run"


def test_a_number_may_be_of_the_value_of_a_key_that_suits_best() -> None:
    table = runs(4.0, 3.0, 2.0, 6.0)
    table.table["optimizer.lr"] = [0.1, 0.1, 0.2, 0.2]
    of_best = replace(PUBLISHED, setting={"estimator": "identity"}, best_of="optimizer.lr")
    verdict = judge(of_best, table)
    assert (verdict.ours.n, verdict.ours.mean) == (2, 3.5)
    assert judge(replace(of_best, setting={"estimator": "none"}), table).word == "not run"


def test_numbers_of_settings_are_short() -> None:
    assert [written(v) for v in (0.0005, 8.0, "st")] == ["0.0005", "8", "st"]


def made_order(first: str, *others: str) -> Order:
    names = (first, *others)
    own: dict[str, dict[str, str | float]]
    own = {name: {"metric": "test/mse", "estimator": name} for name in names}
    return Order("Of all", {"optimizer.lr": 0.1}, own)


def both(first: Runs, second: Runs) -> Runs:
    return replace(first, table=pd.concat([first.table, second.table]))


def test_an_order_is_of_paired_seeds() -> None:
    order = made_order("identity", "none")
    # Each seed 1 above its own, though they overlap; a seed without a partner does not count.
    pairs = both(runs(1.0, 5.0, 9.0, 0.0), runs(2.0, 6.0, 10.1, estimator="none"))
    ((first, second, difference),) = order.steps(pairs)
    assert (first, second, difference.pairs) == ("identity", "none", 3)
    assert difference.mean == pytest.approx(3.1 / 3)
    assert word(difference) == "in order"
    ((*_, reverse),) = made_order("none", "identity").steps(pairs)
    assert word(reverse) == "the other way round"
    ((*_, one),) = order.steps(both(runs(1.0), runs(2.0, estimator="none")))
    assert (one.pairs, word(one)) == (1, "undecided")
    for nothing in (None, runs(1.0), replace(pairs, table=pairs.table.drop(columns="test/mse"))):
        ((*_, none),) = order.steps(nothing)
        assert (none.pairs, word(none)) == (0, "not run")
    rows = orders_table([order], pairs, digits=2).splitlines()
    assert rows[-1].startswith("| identity | none | +1.03 [+0.")
    assert rows[-1].endswith("] | 3 | in order |")
    with pytest.raises(ValueError, match=r"identity of 'Of all' has several .* seeds \[0\]"):
        list(order.steps(both(runs(1.0), runs(1.0))))


def test_rates_are_chosen_by_validation_alone() -> None:
    table = pd.DataFrame(
        {
            "names.estimator": ["identity"] * 3 + ["none"] * 2,
            "optimizer.lr": [1e-3, 3e-4, 3e-3, 1e-3, 3e-4],
            "val/mse": [0.1, 0.2, 0.3, 0.5, 0.4],
            "test/mse": [0.3, 0.2, 0.1, 0.4, 0.5],
        }
    )
    tried = Runs(table, [*table], table)
    assert choose(tried, "val/mse") == {"identity": 1e-3, "none": 3e-4}
    assert choose(tried, "val/mse", -1) == {"identity": 3e-3, "none": 1e-3}
    assert at_an_end(tried, "val/mse") == ["none"]
    text = "# Head.\nhydra:\n  sweeper:\n    rows:   # written\n      - {estimator: old}\n"
    assert with_rates(
        "it", text, choose(tried, "val/mse"), others=["", ", threshold: learned"]
    ) == (
        "# Head.\nhydra:\n  sweeper:\n    rows:   # written\n"
        "      - {estimator: identity, optimizer.lr: 0.001}\n"
        "      - {estimator: identity, optimizer.lr: 0.001, threshold: learned}\n"
        "      - {estimator: none, optimizer.lr: 0.0003}\n"
        "      - {estimator: none, optimizer.lr: 0.0003, threshold: learned}\n"
    )


def test_hours_are_those_in_which_something_was_trained() -> None:
    """Of two beside each other, one within the other, and one much later."""
    times = [("01:00", "02:00"), ("01:30", "02:30"), ("01:40", "01:50"), ("07:00", "07:15")]
    table = pd.DataFrame(times, columns=["timings.started", "timings.ended"])
    assert hours("2026-01-01T" + table + ":00Z") == 1.75


@pytest.mark.parametrize("name", CRITERIA)
def test_an_experiment_has_the_rates_that_were_chosen(tmp_path: Path, name: str) -> None:
    experiment = Path("conf", "experiment", f"{name}.yaml")
    (tmp_path / experiment.parent).mkdir(parents=True)
    (tmp_path / "results").symlink_to(RESULTS)
    for other in CRITERIA:
        shutil.copy(REPOSITORY / experiment.with_stem(other), tmp_path / experiment.parent)
    write_rates(tmp_path)
    assert (REPOSITORY / experiment).read_text() == (tmp_path / experiment).read_text(), STALE


def test_a_study_is_continued_from_its_archive_and_reproduced(tmp_path: Path) -> None:
    shutil.copytree(REPOSITORY / "scripts", tmp_path / "scripts")
    for name in ("conf", "src", "pyproject.toml"):
        (tmp_path / name).symlink_to(REPOSITORY / name)
    (tmp_path / "results").mkdir()
    shutil.copy(RESULTS / "left_out.yaml", tmp_path / "results")
    borrow_environment(tmp_path)

    def script(name: str, *overrides: str) -> subprocess.CompletedProcess[str]:
        command = [str(tmp_path / "scripts" / name), "quickstart", "debug=fast", "model=mlp"]
        return subprocess.run([*command, *overrides], capture_output=True, text=True)

    missing = script("reproduce_results.sh")
    assert (missing.returncode, missing.stdout) == (2, "")
    assert "nothing is stored of quickstart" in missing.stderr
    few = ("estimator=none", "threshold.value=0")
    first = script("continue_results.sh", *few, "seed=0")
    assert first.returncode == 0, first.stderr
    shutil.rmtree(tmp_path / "outputs")
    second = script("continue_results.sh", *few, "seed=0,1")
    assert second.returncode == 0, second.stderr
    attempts = [json.loads(p.read_text())["timings"] for p in tmp_path.glob("outputs/*/*/run.json")]
    assert len(attempts) == 2
    assert "0 finished already" in first.stdout
    assert "1 finished already" in second.stdout
    again = script("reproduce_results.sh", *few, "seed=0")
    assert again.returncode == 0, again.stderr
    assert "against" in again.stdout
