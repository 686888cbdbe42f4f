"""Runs of strangers: read, never executed, never resolved, and written nowhere but where asked."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import stelab
from conftest import train
from stelab.engine.errors import InputError
from stelab.engine.report.board.view import folder_names
from stelab.engine.studies import Run, read_run
from stelab.engine.studies.record import RunFolder
from stelab.engine.studies.sweep import jobs_of
from stelab.engine.trust import packages, rebuild
from stelab.lab.training.checkpoint_file import SealedCheckpointIO
from stelab.lab.training.restore import evaluate, load_data, restore
from stelab.lab.training.resume import rewind
from strangers import SECRET, Payloads, edited

BUILT = {
    "model": ("model", "model.binarizer", "model.binarizer.estimator", "model.extra"),
    "loss": ("loss", "loss.extra"),
    "data": ("data", "data.extra"),
}
# What reading a run never builds.
UNBUILT = (
    *("optimizer", "scheduler", "estimator", "threshold", "logger.csv", "callbacks.code"),
    *("callbacks.new", "trainer.profiler"),
)
COMMANDS = ("evaluate", "encode", "decode", "gradients", "tensorboard", "compare", "status")
NAMES = list(Payloads.names())


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(tmp_path_factory.mktemp("outputs"), "model.bits=4", "model.hidden=8")


@pytest.fixture
def payloads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Payloads:
    payloads = Payloads(tmp_path / "payloads")
    monkeypatch.syspath_prepend(str(payloads.path))
    return payloads


@pytest.mark.parametrize("name", NAMES)
def test_a_payload_is_refused_wherever_it_would_be_built(
    run: Run, payloads: Payloads, tmp_path: Path, name: str
) -> None:
    node = payloads.nodes()[name]
    for group, keys in BUILT.items():
        for key in keys:
            stranger = edited(run, tmp_path / key, {key: node})
            with pytest.raises(InputError) as error:
                rebuild(stranger, group)
            (line,) = str(error.value).splitlines()
            assert str(stranger.folder) in line and f"{group}." in line
            assert "trust=PACKAGE" in line
    assert not payloads.left()


def call(command: str, run: Run, root: Path) -> str:
    """Do what a command does with a run, or with its study; return what it prints."""
    one = [f"run={run.folder}"]
    study = [f"study={run.folder.parent.name}", f"paths.outputs={run.folder.parent.parent}"]
    np.save(root / "codes.npy", np.zeros((3, 1), np.uint8))
    gradients = ["problem=autoencoder", "bits=2", "samples=9", "adapt=1", f"paths.outputs={root}"]
    arguments = {
        "evaluate": one,
        "encode": [*one, f"output={root}/new.npy", "overwrite=true"],
        "decode": [*one, f"codes={root}/codes.npy", f"output={root}/images", "overwrite=true"],
        "gradients": [*one, *gradients],
        "tensorboard": [*study, "embeddings=true", "serve=false"],
        "compare": study,
        "status": study,
    }[command]
    cfg = stelab.compose(*arguments, command=command)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        import_module(f"stelab.apps.{command}").start(cfg)
    return printed.getvalue()


def written(folder: Path) -> str:
    """Return the names of all files and the content of those that are texts."""
    texts = (".csv", ".html", ".json", ".svg", ".tsv")
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return "".join(
        f"{path}\n{path.read_text(errors='replace') if path.suffix in texts else ''}"
        for path in paths
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_what_a_command_does_not_need_is_not_built(
    run: Run, payloads: Payloads, tmp_path: Path, command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(SECRET, "the secret itself")
    poison: dict[str, Any] = {key: payloads.nodes()["os.system"] for key in UNBUILT}
    poison |= {"optimizer.lr": f"${{oc.env:{SECRET}}}", "threshold.more": f"${{oc.env:{SECRET}}}"}
    stranger = edited(run, tmp_path / "outputs" / "study" / run.name, poison)
    printed = call(command, stranger, tmp_path)
    assert not payloads.left()
    assert "the secret itself" not in printed + written(tmp_path / "outputs")


@pytest.mark.parametrize("command", [name for name in COMMANDS if name != "status"])
def test_what_a_command_needs_is_refused(
    run: Run, payloads: Payloads, tmp_path: Path, command: str
) -> None:
    for name in ("os.system", "torch.load", "empty", "secret"):
        folder = tmp_path / name / "study" / run.name
        stranger = edited(run, folder, {"model.binarizer.estimator": payloads.nodes()[name]})
        if command == "compare":
            printed = call(command, stranger, tmp_path)
            assert "No reconstructions: " in printed and "trust=PACKAGE" in printed
            assert (folder.parent / "comparison" / "report.html").exists()
            continue
        with pytest.raises(InputError, match=r"estimator\._target_.*trust=PACKAGE"):
            call(command, stranger, tmp_path)
    assert not payloads.left()


def test_of_a_refused_group_only_the_pictures_are_missing(
    run: Run, payloads: Payloads, tmp_path: Path
) -> None:
    study = tmp_path / "outputs" / "study"
    none = train(tmp_path, "estimator=none", "model.bits=4", "model.hidden=8")
    edited(none, study / none.name, {"model.binarizer.estimator._target_": "os.system"})
    ours = edited(run, study / run.name, {})
    printed = call("compare", ours, tmp_path)
    assert "No reconstructions of none" in printed
    assert (study / "comparison" / "figures" / "reconstructions.png").exists()
    assert "os.system" in (study / "comparison" / "report.html").read_text()
    assert "No codes of none" in call("tensorboard", ours, tmp_path)


def test_it_is_refused_before_torch_is_imported(
    run: Run, payloads: Payloads, tmp_path: Path
) -> None:
    stranger = edited(run, tmp_path / "run", {"loss": payloads.nodes()["os.system"]})
    code = (
        "import sys; from stelab.apps.main import main\n"
        f"sys.argv[1:] = ['evaluate', 'run={stranger.folder}']\n"
        "try: main()\nfinally: print('torch' in sys.modules)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert result.returncode == 2
    assert result.stdout == "False\n"
    assert len(result.stderr.splitlines()) == 1 and "os.system" in result.stderr


def test_only_what_a_trusted_package_defines_is_trusted(
    run: Run, payloads: Payloads, tmp_path: Path
) -> None:
    (payloads.path / "mine.py").write_text(
        "from os import system\nimport torch\nfrom torch import load\n"
        "class Loss(torch.nn.Module):\n    pass\n"
    )
    ours = edited(run, tmp_path / "ours", {"loss": {"_target_": "mine.Loss"}})
    assert type(rebuild(ours, "loss", trust=("mine",))).__name__ == "Loss"
    for target in ("mine.system", "mine.load", "mine.torch.load", "mines.Loss"):
        stranger = edited(run, tmp_path / target, {"loss": {"_target_": target}})
        with pytest.raises(InputError, match="trust=PACKAGE"):
            rebuild(stranger, "loss", trust=("mine",))
    number = edited(run, tmp_path / "number", {"loss": {"_target_": "stelab.philox.ROUNDS"}})
    with pytest.raises(InputError, match="is no class"):
        rebuild(number, "loss", trust=())
    stranger = edited(run, tmp_path / "ours-too", {"loss": payloads.nodes()["write"]})
    with pytest.raises(InputError, match="is no Module"):
        rebuild(stranger, "loss", trust=("stelab", "torch"))
    assert not payloads.left()


@pytest.mark.parametrize("name", ["os", "builtins", "a b", "../a", "mine,subprocess"])
def test_packages_of_python_and_no_packages_are_not_trusted(name: str) -> None:
    with pytest.raises(InputError, match="trust must name packages"):
        packages(name)


# What takes memory or time, or makes another network than the checkpoint's.
BOMBS: dict[str, Any] = {
    "wide": {"model.bits": 10**12},
    "wider": {"model.bits": 10**30},
    "hidden": {"model.hidden": 10**12},
    "layer": {"model": {"_target_": "torch.nn.Linear", "in_features": 10**6, "out_features": 1}},
    "no layer": {"model.binarizer.estimator": 5},
    "text": {"model.bits": "${oc.env:HOME}"},
    "two thresholds": {"model.binarizer.threshold": {"_target_": "stelab.thresholds.Threshold"}},
    "other": {"model.norm": "none"},
    "nothing": {"model": None},
    "a list": {"model": [1]},
    "no target": {"model": {"bits": 4}},
    "another task's": {"task": {"_target_": "stelab.lab.tasks.Elbo", "bounds": []}},
    "escape": {"model.\x1b[31mred": 1},
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_network_that_is_none_is_one_line(run: Run, tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError) as error:
        restore(edited(run, tmp_path / "run", BOMBS[name]), checkpoint="last")
    (line,) = str(error.value).splitlines()
    assert "\x1b" not in line and len(line) < 600


def test_a_configuration_without_end_is_one_line(run: Run, tmp_path: Path) -> None:
    stranger = edited(run, tmp_path / "run", {})
    cycle: list[Any] = []
    cycle += [cycle, cycle]
    deep: dict[str, Any] = {}
    for _ in range(3000):
        deep = {"a": deep}
    for value, message in ((cycle, "at most 5000 entries"), (deep, "nested too deep")):
        stranger.config["model"] = {**run.config["model"], "more": value}
        with pytest.raises(InputError, match=message):
            restore(stranger, checkpoint="last")


def test_a_checkpoint_cannot_claim_what_it_does_not_hold(run: Run, tmp_path: Path) -> None:
    bits = 3 * 10**9
    stranger = edited(run, tmp_path / "run", {"model.bits": bits})
    with torch.device("meta"):
        state = stelab.build(stranger_model(stranger)).state_dict()
    claimed = {
        f"model.{k}": torch.zeros((), dtype=v.dtype).expand(v.shape) for k, v in state.items()
    }
    path = stranger.folder / "checkpoints" / "last.ckpt"
    path.unlink()
    SealedCheckpointIO().save_checkpoint({"state_dict": claimed}, path)
    assert path.stat().st_size < 100_000
    with pytest.raises(InputError, match="too small to hold"):
        restore(stranger, checkpoint="last")


def stranger_model(run: Run) -> dict[str, Any]:
    model: dict[str, Any] = run.config["model"]
    return model


DATA = {"val_size": 5, "split_seed": 0, "limit": None, "batch_size": 1, "seed": 0}


def test_nothing_is_downloaded_to_where_a_run_says(run: Run, tmp_path: Path) -> None:
    root = tmp_path / "there"
    data = {"_target_": "stelab.lab.data.MNIST", "root": str(root), **DATA}
    with pytest.raises(InputError, match=r"not downloaded to there: give data="):
        load_data(edited(run, tmp_path / "run", {"data": data}))
    assert not root.exists()


@pytest.mark.parametrize(
    "change", [{"data.split_seed": 10**30}, {"data.val_size": 10**12}, {"data.batch_size": 0}]
)
def test_a_dataset_that_is_none_is_one_line(
    run: Run, tmp_path: Path, change: dict[str, Any]
) -> None:
    with pytest.raises(InputError, match=r"^[^\n]*$"):
        load_data(edited(run, tmp_path / "run", change))


@pytest.mark.parametrize("name", ["a/../../../x", "..", ".hidden", "a\\b", "a\nb", "x" * 101])
@pytest.mark.parametrize("key", ["names.estimator", "names.threshold", "study"])
def test_names_lead_out_of_no_folder(key: str, name: str) -> None:
    with pytest.raises(InputError, match=key):
        stelab.compose(f'{key}="{name}"')


def test_a_measurement_stays_in_its_study() -> None:
    with pytest.raises(InputError, match=r"names\.problem"):
        stelab.compose("names.problem=../../x", command="gradients")


def test_a_sweeps_list_leads_out_of_no_folder(tmp_path: Path) -> None:
    for name in ("../other", "/etc", "..", "a/b", "x" * 256):
        path = tmp_path / "list.json"
        path.write_text(f'{{"jobs": {{"{name}": []}}}}')
        with pytest.raises(InputError, match="cannot be the name of a run"):
            jobs_of(path)


def test_folders_of_a_view_are_names() -> None:
    labels = ["..", "a/../b", "x\x1b[2J", "\ud800", "ä" * 300, "same", "same"]
    names = folder_names(labels, ["../1"] * 5 + ["1", "y" * 300])
    assert all(Path(name).name == name and len(name.encode()) < 255 for name in names)
    assert len(set(names)) == len(labels)


def test_links_in_a_run_are_not_written_through(run: Run, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "file").write_text("mine")
    stranger, module = edited(run, tmp_path / "run", {}), restore(run, checkpoint="last")
    figure = stranger.folder / "figures" / "loss.png"
    figure.unlink()
    figure.symlink_to(elsewhere / "file")
    evaluate(stranger, checkpoint="last", split="test")
    assert not figure.is_symlink()
    os.rename(figure.parent, tmp_path / "away")
    figure.parent.symlink_to(elsewhere)
    with pytest.raises(InputError, match="figures must be a folder, but is a link"):
        evaluate(stranger, checkpoint="last", split="test")
    figure.parent.unlink()
    os.rename(stranger.folder / "tb", tmp_path / "tb-away")
    (stranger.folder / "tb").symlink_to(elsewhere)
    with pytest.raises(InputError, match="tb must be a folder, but is a link"):
        rewind(RunFolder(stranger.folder), module)
    RunFolder(stranger.folder).empty()
    assert not list(stranger.folder.iterdir())
    assert [path.read_text() for path in elsewhere.iterdir()] == ["mine"]


def test_an_event_file_that_is_a_link_is_not_cut(run: Run, tmp_path: Path) -> None:
    stranger = edited(run, tmp_path / "run", {})
    event = next(path for path in (stranger.folder / "tb").rglob("*") if path.is_file())
    (tmp_path / "mine").write_text("x" * 10**6)
    event.unlink()
    event.symlink_to(tmp_path / "mine")
    rewind(RunFolder(stranger.folder), restore(run, checkpoint="last"))
    assert (tmp_path / "mine").stat().st_size == 10**6


def test_a_report_is_written_through_no_link(run: Run, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.write_text("mine")
    stranger = edited(run, tmp_path / "outputs" / "study" / run.name, {})
    comparison = stranger.folder.parent / "comparison"
    (comparison / "figures").mkdir(parents=True)
    for name in ("runs.csv", "curves.parquet", "report.html", "figures/reconstructions.svg"):
        (comparison / name).symlink_to(mine)
    call("compare", stranger, tmp_path)
    assert mine.read_text() == "mine"
    assert (comparison / "runs.csv").read_text().startswith("study,run")


def test_a_run_that_lacks_its_metrics_is_not_finished(run: Run, tmp_path: Path) -> None:
    from stelab.engine.studies.record import finished_run

    stranger = edited(run, tmp_path / "run", {})
    cfg = stelab.compose("monitor=train/loss", f"paths.run={stranger.folder}")
    assert finished_run(cfg) is not None
    cfg = stelab.compose("monitor=val/mse", f"paths.run={stranger.folder}")
    assert finished_run(cfg) is not None
    record = stranger.folder / "run.json"
    text = record.read_text()
    record.unlink()
    record.write_text(text.replace('"val/mse"', '"val/other"'))
    assert finished_run(cfg) is None
    assert read_run(stranger.folder).status == "finished"
