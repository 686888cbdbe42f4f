"""What TensorBoard shows of a study: read back from its event files, and from its server."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import stats
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout
from tensorboard.plugins.custom_scalar.metadata import CONFIG_SUMMARY_TAG
from tensorboard.plugins.hparams import api_pb2, metadata, plugin_data_pb2

import stelab
from conftest import train
from stelab.engine.errors import InputError
from stelab.engine.report.board.summaries import Settings, experiment, pictures
from stelab.engine.report.board.view import View, folder_names, read_view
from stelab.engine.report.board.writing import FIRST, LAST, link_events, write_anew, write_view
from stelab.engine.studies.record import Run, read_run
from stelab.engine.studies.sweep import record_sweep
from stelab.lab.training.restore import load_data, restore
from waiting import wait_until

IDENTITY, NONE = "identity, threshold.value=0.5", "none, threshold.value=0"
STUDY = "study, 5 of 7 runs finished"


def read(*studies: Path, **changes: Any) -> View:
    options: dict[str, Any] = {"by": None, "where": None, "replicates": ["seed"]}
    return read_view(studies, **{**options, "embeddings": False, **changes})


def copy_as(run: Run, *, seed: int, status: str) -> Path:
    """Make another run of a finished one."""
    folder = run.folder.with_name(f"{run.name.rpartition('-s')[0]}-s{seed}-0000000{seed}")
    shutil.copytree(run.folder, folder)
    config = (folder / "config.yaml").read_text()
    config = re.sub(r"(?m)^(  )?seed: 0$", rf"\g<1>seed: {seed}", config)
    (folder / "config.yaml").write_text(config)
    changes: dict[str, Any] = {"status": status, "metrics": {}, "fingerprint": None}
    (folder / "run.json").write_text(json.dumps({**run.record, **changes}))
    min(
        (folder / "tb").glob("events*"), key=lambda path: path.stat().st_size
    ).unlink()  # the test's
    return folder


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five finished runs, a failed one and one that was killed; two pairs are identical."""
    outputs = tmp_path_factory.mktemp("outputs")
    for estimator, value, seed in (
        *(("identity", 0.5, 0), ("identity", 0.5, 1), ("hardtanh_clip", 0.5, 0)),
        *(("hardtanh_clip", 0.5, 1), ("none", 0.0, 0)),
    ):
        settings = (f"estimator={estimator}", f"threshold.value={value}", f"seed={seed}")
        run = train(outputs, *settings, "trainer.max_epochs=2")
    copy_as(run, seed=1, status="failed")
    copy_as(run, seed=2, status="running")
    return run.folder.parent


@pytest.fixture(scope="module")
def view(study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The study's view, written."""
    folder = study / "comparison" / "tensorboard"
    write_view(read(study), folder)
    return folder


def events(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder), size_guidance={"tensors": 0, "scalars": 0}).Reload()


def curve(folder: Path, tag: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in events(folder).Scalars(tag)]


def plugin_data(folder: Path, tag: str) -> Any:
    """Return the HParams plugin's message in a run."""
    content = events(folder).SummaryMetadata(tag).plugin_data.content
    return plugin_data_pb2.HParamsPluginData.FromString(content)


def test_runs_have_the_names_of_what_was_swept(view: Path) -> None:
    assert sorted(path.name for path in view.iterdir()) == [
        "hardtanh_clip, threshold.value=0.5, seed=0",
        "hardtanh_clip, threshold.value=0.5, seed=1",
        "identity, threshold.value=0.5, seed=0",
        "identity, threshold.value=0.5, seed=1",
        "mean of identity = hardtanh_clip, threshold.value=0.5 (n = 2)",
        "mean of none, threshold.value=0 (n = 1, no interval)",
        "none, threshold.value=0, seed=0",
        "none, threshold.value=0, seed=1",
        "none, threshold.value=0, seed=2",
        "study, 5 of 7 runs finished",
    ]


def test_names_are_names_of_folders() -> None:
    assert folder_names(["a/b: c?", "plain, x=0.5"], ["1", "2"]) == ["a_b_ c_", "plain, x=0.5"]
    assert folder_names(["a/b", "a_b", "c"], ["1", "2", "3"]) == ["a_b (1)", "a_b (2)", "c"]
    assert folder_names(["..", "\x1b[2J", "\ud800"], ["1"] * 3) == ["_..", "_x1b[2J", "_ud800"]
    first, second = folder_names(["é" * 300, "é" * 301], ["1", "2"])
    assert (first, second) == ("é" * 98 + "… (1)", "é" * 98 + "… (2)")


def test_event_files_are_links_that_a_moved_study_keeps(view: Path, tmp_path: Path) -> None:
    study = view.parents[1]
    moved = tmp_path / "elsewhere"
    shutil.copytree(study, moved, symlinks=True)
    run = read(study).runs["identity, threshold.value=0.5, seed=0"]
    shown = moved / "comparison" / "tensorboard" / "identity, threshold.value=0.5, seed=0"
    links = [path for path in shown.iterdir() if path.is_symlink()]
    assert {link.resolve() for link in links} == {
        moved.resolve() / run.folder.name / "tb" / path.name
        for path in (run.folder / "tb").glob("events*")
    }
    assert {path.name for path in shown.iterdir()} - {link.name for link in links} == {FIRST, LAST}


def test_links_follow_the_files_that_a_run_has(tmp_path: Path) -> None:
    tb, folder = tmp_path / "run" / "tb", tmp_path / "view"
    tb.mkdir(parents=True)
    (tb / "events.out.tfevents.1.a").write_bytes(b"old")
    link_events(tmp_path / "run", folder)
    (tb / "events.out.tfevents.1.a").rename(tb / "events.out.tfevents.2.a")  # rerun=true
    (tb / "hparams.yaml").write_text("{}")
    link_events(tmp_path / "run", folder)
    link_events(tmp_path / "run", folder)
    assert [path.name for path in folder.iterdir()] == ["events.out.tfevents.2.a"]
    with (tb / "events.out.tfevents.2.a").open("ab") as file:
        file.write(b" and new")
    assert (folder / "events.out.tfevents.2.a").read_bytes() == b"old and new"


def test_where_there_are_no_links_it_copies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*arguments: object) -> None:
        raise OSError("no links here")

    (tmp_path / "run" / "tb").mkdir(parents=True)
    (tmp_path / "run" / "tb" / "events.out.tfevents.1.a").write_bytes(b"events")
    monkeypatch.setattr(Path, "symlink_to", refuse)
    link_events(tmp_path / "run", tmp_path / "view")
    copy = tmp_path / "view" / "events.out.tfevents.1.a"
    assert copy.read_bytes() == b"events" and not copy.is_symlink()


def test_settings_have_typed_domains(view: Path) -> None:
    experiment = plugin_data(view / STUDY, metadata.EXPERIMENT_TAG).experiment
    domains = {
        info.name: (info.type, list(info.domain_discrete)) for info in experiment.hparam_infos
    }
    assert domains == {
        "estimator": (api_pb2.DATA_TYPE_STRING, ["hardtanh_clip", "identity", "none"]),
        "threshold.value": (api_pb2.DATA_TYPE_FLOAT64, [0.0, 0.5]),
        "seed": (api_pb2.DATA_TYPE_FLOAT64, [0.0, 1.0, 2.0]),
    }
    metrics = [info.name.tag for info in experiment.metric_infos]
    assert metrics[:3] == ["test/mse", "val/mse", "train/mse"]
    assert "code/entropy" in metrics and len(set(metrics)) == len(metrics)


def test_many_numbers_are_an_interval() -> None:
    runs: list[Settings] = [{"optimizer.lr": 10.0**-i} for i in range(11)]
    content = experiment(runs, ["test/mse"]).value[0].metadata.plugin_data.content
    (info,) = plugin_data_pb2.HParamsPluginData.FromString(content).experiment.hparam_infos
    assert (info.domain_interval.min_value, info.domain_interval.max_value) == (1e-10, 1.0)


def test_a_run_says_its_settings_and_how_it_ended(view: Path, study: Path) -> None:
    name = "none, threshold.value=0, seed=1"
    start = plugin_data(view / name, metadata.SESSION_START_INFO_TAG).session_start_info
    assert {
        key: value.string_value or value.number_value for key, value in start.hparams.items()
    } == {
        "estimator": "none",
        "threshold.value": 0.0,
        "seed": 1.0,
    }
    assert start.group_name == read(study).runs[name].folder.name
    status = {
        seed: plugin_data(
            view / f"none, threshold.value=0, seed={seed}", tag
        ).session_end_info.status
        for seed, tag in ((0, metadata.SESSION_END_INFO_TAG), (1, metadata.SESSION_END_INFO_TAG))
    }
    assert status == {0: api_pb2.STATUS_SUCCESS, 1: api_pb2.STATUS_FAILURE}
    assert not (view / "none, threshold.value=0, seed=2" / LAST).exists()  # it may go on


def test_means_are_of_the_replicates_at_the_steps_of_their_curves(view: Path) -> None:
    mean = view / "mean of identity = hardtanh_clip, threshold.value=0.5 (n = 2)"
    for tag in ("val/mse", "train/mse", "code/entropy"):
        curves = [curve(view / f"identity, threshold.value=0.5, seed={i}", tag) for i in (0, 1)]
        steps = [step for step, _ in curves[0]]
        values = np.array([[value for _, value in points] for points in curves])
        half = stats.t.ppf(0.975, 1) * values.std(axis=0, ddof=1) / np.sqrt(2)
        for part, expected in {"mean": 0.0, "lower": -half, "upper": half}.items():
            found = curve(mean, f"{part}/{tag}")
            assert [step for step, _ in found] == steps == [1, 3]
            assert [y for _, y in found] == pytest.approx(values.mean(axis=0) + expected, rel=1e-5)


def test_one_replicate_has_a_band_without_width(view: Path) -> None:
    mean = view / "mean of none, threshold.value=0 (n = 1, no interval)"
    for part in ("mean", "lower", "upper"):
        own = curve(view / "none, threshold.value=0, seed=0", "val/mse")
        assert curve(mean, f"{part}/val/mse") == own


def test_the_page_of_custom_scalars(view: Path) -> None:
    (event,) = events(view / STUDY).Tensors(CONFIG_SUMMARY_TAG)
    layout = Layout.FromString(event.tensor_proto.string_val[0])
    found = {c.title: ([chart.title for chart in c.chart], c.closed) for c in layout.category}
    both, kind = ["val/mse", "train/mse"], "means with 95 % intervals"
    assert found[f"mse: {kind}"] == (both, False)
    assert found["mse: all runs"] == (both, False)
    assert found[f"loss: {kind}"] == (["val/loss", "train/loss"], True)
    assert list(found)[3:] == [f"code: {kind}", f"estimator: {kind}"]
    (series,) = layout.category[0].chart[0].margin.series
    band = (series.lower, series.value, series.upper)
    assert band == ("lower/val/mse", "mean/val/mse", "upper/val/mse")


def test_figures_are_images(study: Path, tmp_path: Path) -> None:
    figures = study / "comparison" / "figures"
    figures.mkdir(parents=True)
    drawn = read(study).runs["identity, threshold.value=0.5, seed=0"].folder / "figures"
    shutil.copy(drawn / "loss.png", figures / "curves.png")
    write_view(read(study), tmp_path / "view")
    shutil.rmtree(figures)
    run = events(tmp_path / "view" / "identity, threshold.value=0.5, seed=0")
    for name in ("loss", "reconstructions"):
        (image,) = run.Images(f"figures/{name}")
        assert image.encoded_image_string == (drawn / f"{name}.png").read_bytes()
    (image,) = events(tmp_path / "view" / STUDY).Images("figures/curves")
    assert (image.width, image.height) == (576, 384)


def test_a_figure_that_is_none_is_left_out_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Image.new("L", (3, 2)).save(tmp_path / "whole.png")
    content = (tmp_path / "whole.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(content[:-20])
    (tmp_path / "no.png").write_bytes(b"no image")
    (tmp_path / "folder.png").mkdir()
    (shown,) = pictures(tmp_path)
    assert shown.value[0].tag == "figures/whole"
    assert (shown.value[0].image.width, shown.value[0].image.height) == (3, 2)
    cut, folder, no = (record.getMessage() for record in caplog.records)
    for line, name in ((cut, "cut"), (no, "no")):
        assert line == f"{tmp_path / name}.png is not shown: it is no whole PNG file"
    assert folder.startswith(f"{tmp_path}/folder.png is not shown: ")


def test_codes_of_test_images_stand_in_the_projector(study: Path, tmp_path: Path) -> None:
    write_view(read(study, embeddings=True), tmp_path)
    configs = {path.parent.name for path in tmp_path.glob("*/projector_config.pbtxt")}
    assert configs == {
        "hardtanh_clip, threshold.value=0.5, seed=0",
        "identity, threshold.value=0.5, seed=0",
        "none, threshold.value=0, seed=0",
    }
    name = "identity, threshold.value=0.5, seed=0"
    run = read_run(read(study).runs[name].folder)
    data = load_data(run)
    with torch.no_grad():
        bits = restore(run, checkpoint="last").model.encode(data.images("test"))
    table = np.loadtxt(tmp_path / name / "00000" / "codes" / "tensors.tsv")
    assert np.array_equal(table, bits.numpy())
    labels = np.loadtxt(tmp_path / name / "00000" / "codes" / "metadata.tsv")
    assert labels.shape == (128,) and set(labels) == set(range(10))
    known = data.labels("test")
    assert known is not None and labels.tolist() == known.tolist()
    assert (tmp_path / name / "00000" / "codes" / "sprite.png").stat().st_size > 10_000


def test_the_classes_of_the_real_test_images(mnist_root: Path) -> None:
    config = stelab.compose("data=mnist", f"data.root={mnist_root}", "data.limit=10")
    data = stelab.build(config.data)
    assert data.labels("test").tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]


def test_a_study_without_a_finished_run_opens(study: Path, tmp_path: Path) -> None:
    (unfinished,) = study.glob("none-*-s2-*")
    shutil.copytree(unfinished, tmp_path / "young" / unfinished.name)
    view = read(tmp_path / "young")
    assert view.comparison is None
    write_view(view, tmp_path / "view")
    shown = {path.name for path in (tmp_path / "view").iterdir()}
    assert shown == {"seed=2", "study, 0 of 1 runs finished"}
    assert len(curve(tmp_path / "view" / "seed=2", "val/mse")) == 2


def test_a_study_that_has_not_begun_is_told(tmp_path: Path) -> None:
    record_sweep(tmp_path, "stelab train ...", {"a": ["seed=0"]})
    with pytest.raises(InputError, match="^no run of the study has begun$"):
        read(tmp_path)


def test_a_view_is_put_in_the_place_of_the_old_one_or_nowhere(study: Path, tmp_path: Path) -> None:
    view, folder = read(study), tmp_path / "view"
    for _ in range(2):
        write_anew(view, folder)
        assert {*view.runs} < {path.name for path in folder.iterdir()}
        (folder / "left").touch()
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="^the view cannot be written to .*/file: "):
        write_anew(view, tmp_path / "file")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "view"]


def test_a_view_is_brought_up_to_date(study: Path, tmp_path: Path) -> None:
    """A study of one run gets another one, which gives both longer names; then that one ends."""
    young, folder = tmp_path / "young", tmp_path / "view"
    (first,), (second,) = study.glob("none-*-s0-*"), study.glob("identity-*-s0-*")
    shutil.copytree(first, young / first.name)
    write_view(read(young), folder)
    one = "study, 1 of 1 runs finished"
    assert {path.name for path in folder.iterdir()} == {
        *("seed=0", "mean of all runs (n = 1, no interval)", one)
    }
    record = read_run(second).record
    shutil.copytree(second, young / second.name)
    path = young / second.name / "run.json"
    path.write_text(json.dumps({**record, "status": "running", "metrics": {}}))
    write_view(read(young), folder)
    names = {f"{NONE}, seed=0", f"{IDENTITY}, seed=0"}
    assert {path.name for path in folder.iterdir()} == {
        *names,
        f"mean of {NONE} (n = 1, no interval)",
        "study, 1 of 2 runs finished",
    }
    assert not (folder / f"{IDENTITY}, seed=0" / LAST).exists()
    path.write_text(json.dumps(record))
    write_view(read(young), folder)
    assert (folder / f"{IDENTITY}, seed=0" / LAST).exists()
    assert {path.name for path in folder.iterdir()} == {
        *names,
        f"mean of {IDENTITY} (n = 1, no interval)",
        f"mean of {NONE} (n = 1, no interval)",
        "study, 2 of 2 runs finished",
    }
    originals = [young / run / "tb" for run in (first.name, second.name)]
    assert all(path.is_file() for tb in originals for path in tb.glob("events*"))


def test_only_runs_that_are_asked_for(study: Path) -> None:
    view = read(study, where="estimator=none seed=0,2", by=["threshold.value"])
    assert list(view.runs) == ["none, threshold.value=0, seed=0", "none, threshold.value=0, seed=2"]
    assert view.comparison is not None
    assert [group.label for group in view.comparison.groups] == ["threshold.value=0"]


def test_several_studies_side_by_side(study: Path, tmp_path: Path) -> None:
    (run,) = study.glob("identity-*-s0-*")
    for name in ("a", "b"):
        shutil.copytree(run, tmp_path / name / run.name)
    view = read(tmp_path / "a", tmp_path / "b", by=["study"])
    assert list(view.runs) == ["study=a, seed=0", "study=b, seed=0"]
    assert [shown.name for shown in view.runs.values()] == [f"a/{run.name}", f"b/{run.name}"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"where": "estimator=identit"}, "did you mean 'identity'"),
        ({"where": "estimator=none threshold.value=0.5"}, "no run meets all of"),
        ({"by": ["estimatr"]}, "estimatr is not a setting .*did you mean 'estimator'"),
        ({"replicates": ["split"]}, "split is not a setting"),
        ({"replicates": []}, "replicates must name a key"),
    ],
)
def test_mistakes_are_told(study: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(study, **options)


@contextmanager
def server(folder: Path, *options: str) -> Iterator[str]:
    """Run TensorBoard itself on a folder."""
    command = [sys.executable, "-m", "tensorboard.main", "--logdir", str(folder), "--port=0"]
    process = subprocess.Popen([*command, *options], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        yield next(found[0] for line in process.stderr if (found := re.search(r"http://\S+", line)))
    finally:
        process.terminate()
        process.stderr.close()
        process.wait()


def ask(url: str, **query: Any) -> Any:
    if query:
        url += "?" + urllib.parse.urlencode(query)
    with urllib.request.urlopen(url) as response:
        return json.load(response)


@pytest.mark.parametrize("fast", ["true", "false"])
def test_both_loaders_show_it_and_follow_a_running_run(view: Path, study: Path, fast: str) -> None:
    running = "none, threshold.value=0, seed=2"
    (path,) = read(study).runs[running].folder.glob("tb/events*")
    content = path.read_bytes()
    half = content.rindex(b"val/mse") - 200  # the second epoch is to come
    path.write_bytes(content[:half])
    with server(view, f"--load_fast={fast}", "--reload_interval=1") as url:
        names = {path.name for path in view.iterdir()}
        wait_until(lambda: set(ask(f"{url}data/runs")) == names)

        def steps() -> list[int]:
            shown = ask(f"{url}data/plugin/scalars/scalars", run=running, tag="val/mse")
            return [step for _, step, _ in shown]

        assert steps() == [1]
        with path.open("ab") as file:
            file.write(content[half:])
        wait_until(lambda: steps() == [1, 3])
        request = {"colParams": [{"metric": {"tag": "test/mse"}}], "sliceSize": 99}
        request["allowedStatuses"] = [f"STATUS_{s}" for s in ("SUCCESS", "FAILURE", "UNKNOWN")]
        groups = ask(f"{url}data/plugin/hparams/session_groups", request=json.dumps(request))
        shown = {group["sessions"][0]["name"]: group for group in groups["sessionGroups"]}
        assert set(shown) == set(read(study).runs)
        for name, run in read(study).runs.items():
            assert shown[name]["hparams"]["estimator"] == run.settings["estimator"]
            if run.status == "finished":
                assert shown[name]["sessions"][0]["status"] == "STATUS_SUCCESS"
                (value,) = [
                    m["value"]
                    for m in shown[name]["metricValues"]
                    if m["name"]["tag"] == "test/mse"
                ]
                assert value == pytest.approx(read_run(run.folder).metrics["test/mse"])
        categories = ask(f"{url}data/plugin/custom_scalars/layout")["category"]
        assert categories[0]["title"] == "mse: means with 95 % intervals"
        images = ask(f"{url}data/plugin/images/tags")
        assert "figures/reconstructions" in images["identity, threshold.value=0.5, seed=0"]
