"""First weights from another run's checkpoint, and tags."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch

import stelab
from conftest import Cli, train
from stelab import Binarizer
from stelab.engine.config.identity import fingerprint, fingerprint_of_resolved
from stelab.engine.errors import InputError
from stelab.engine.studies import Run
from stelab.lab.training.building import build_module
from stelab.lab.training.checkpoint_file import read_checkpoint, write_sealed


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return train(tmp_path_factory.mktemp("source"), "threshold=learned", "estimator=ede")


def small(*overrides: str) -> tuple[str, ...]:
    return ("debug=fast", "model=mlp", "model.bits=512", *overrides)


def test_weights_are_taken_and_schedules_start_anew(source: Run) -> None:
    cfg = stelab.compose(
        *small("threshold=learned", "estimator=ede", f"from_checkpoint={source.folder}")
    )
    ours = build_module(cfg).state_dict()
    theirs = read_checkpoint(source.folder / "checkpoints" / "last.ckpt")["state_dict"]
    for name, value in theirs.items():
        if name.endswith("progress"):
            assert (ours[name], value) == (0.0, 1.0)
        else:
            assert torch.equal(ours[name], value), name


def test_another_binary_layer_starts_as_configured(source: Run) -> None:
    cfg = stelab.compose(*small("threshold.value=0.5", f"from_checkpoint={source.folder}"))
    module = build_module(cfg)
    layer = module.model.binarizer
    assert isinstance(layer, Binarizer) and layer.threshold.value == 0.5
    theirs = read_checkpoint(source.folder / "checkpoints" / "last.ckpt")["state_dict"]
    ours = module.state_dict()
    assert all(torch.equal(ours[n], theirs[n]) for n in ours if n.startswith("model.encoder"))


def test_a_run_is_what_it_started_from(source: Run, tmp_path: Path) -> None:
    copy, other = tmp_path / "copy", tmp_path / "other.ckpt"
    shutil.copytree(source.folder, copy)
    shutil.copy(source.folder / "checkpoints" / "last.ckpt", other)
    ours = [stelab.compose(*small(f"from_checkpoint={p}")) for p in (source.folder, copy, other)]
    assert len({Path(cfg.paths.run).name for cfg in ours}) == 1
    assert fingerprint(ours[0]) != fingerprint(stelab.compose(*small()))
    other.write_bytes(other.read_bytes() + b" ")
    assert fingerprint(stelab.compose(*small(f"from_checkpoint={other}"))) != fingerprint(ours[0])


def test_a_warm_run_is_better_and_is_found_again(source: Run, tmp_path: Path) -> None:
    file = Path(shutil.copy(source.folder / "checkpoints" / "last.ckpt", tmp_path / "start.ckpt"))
    start = f"from_checkpoint={file}"
    cold, warm = train(tmp_path), train(tmp_path, start)
    assert warm.metrics["val/loss"] < cold.metrics["val/loss"]
    assert train(tmp_path, start) == warm
    assert warm.config["from_checkpoint"].startswith(f"{file}#sha256=")
    assert fingerprint_of_resolved(warm.config) == warm.record["fingerprint"]
    pinned = f"from_checkpoint='{warm.config['from_checkpoint']}'"
    assert train(tmp_path, pinned) == warm
    file.unlink()  # which a finished run needs no more
    assert train(tmp_path, pinned) == warm


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["from_checkpoint=nowhere"], "from_checkpoint must be a run's folder or a checkpoint, b"),
        (["from_checkpoint=."], "from_checkpoint must be a run's folder or a checkpoint, but "),
        (["model.bits=8", "from_checkpoint=RUN"], "does not fit this network: model.encoder"),
        (["from_checkpoint=RUN#sha256=0"], "holds something else than when it was recorded"),
        (["from_checkpoint=RUN/run.json"], "run.json"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_does_not_fit_is_told_at_once(
    overrides: list[str], expected: str, source: Run, cli: Cli, tmp_path: Path
) -> None:
    given = [f"'{o}'" if "#" in o else o for o in overrides]
    key, _, value = given[-1].partition("=")
    if given[-1].startswith("'"):
        key, _, value = given[-1].strip("'").partition("=")
        value = f"'{value}'"
    given[-1] = f"{key}={value.replace('RUN', str(source.folder))}"
    result = cli("train", *small(*given))
    assert (result.returncode, len(result.stderr.splitlines())) == (2, 1), result.stderr
    assert expected in result.stderr
    assert not (tmp_path / "outputs").exists()


def test_weights_that_are_not_finite_are_told(source: Run, tmp_path: Path) -> None:
    content = read_checkpoint(source.folder / "checkpoints" / "last.ckpt")
    name = "model.encoder.1.weight"
    state = {**content["state_dict"], name: content["state_dict"][name] * torch.nan}
    write_sealed({**content, "state_dict": state}, tmp_path / "last.ckpt")
    cfg = stelab.compose(*small(f"from_checkpoint={tmp_path}/last.ckpt"))
    with pytest.raises(InputError, match=rf"^from_checkpoint: .*: {name} is not finite everywhere"):
        build_module(cfg)


def test_tags_are_recorded_and_change_nothing(tmp_path: Path) -> None:
    run = train(tmp_path, "tags=[first, paper: fig 2]")
    assert json.loads((run.folder / "run.json").read_text())["tags"] == ["first", "paper: fig 2"]
    assert train(tmp_path) == run
    study = stelab.studies.load(tmp_path / "debug")
    assert list(study.runs["tags"]) == ["first, paper: fig 2"]
    with pytest.raises(InputError, match="tags.0 must"):
        train(tmp_path, "tags=[3]")
