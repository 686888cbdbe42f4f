"""Commands that train runs again: they compose the same fingerprint, and write the same bytes."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pandas as pd
import pytest
import yaml
from hydra.core.config_loader import ConfigLoader
from omegaconf import DictConfig, OmegaConf

from conftest import Cli, train
from stelab.engine.config import decompose
from stelab.engine.config.compose import compose_job, search
from stelab.engine.config.identity import fingerprint, fingerprint_of_resolved
from stelab.engine.config.validate import plain
from stelab.engine.studies.reproduce import with_commands

MORE = "+callbacks.more={_target_:stelab.lab.training.GradientMonitor,every_n_steps:5}"
COMMANDS = [
    # what was trained, and what is printed of it
    ([], "estimator=identity seed=0"),
    (["seed=7"], "estimator=identity seed=7"),
    (["estimator=none", "model=tutorial"], "estimator=none model=tutorial seed=0"),
    (["threshold.value=0.25"], "estimator=identity threshold.value=0.25 seed=0"),
    (["study=ablation"], "estimator=identity study=ablation seed=0"),
    (["study='2024'"], "estimator=identity 'study=\"2024\"' seed=0"),
    (["optimizer=adamw"], "estimator=identity optimizer=adamw seed=0"),
    (["optimizer=sgd", "optimizer.lr=1e-5"], "optimizer=sgd optimizer.lr=1e-05 "),
    (["+optimizer.eps=1e-7"], "estimator=identity +optimizer.eps=1e-07 seed=0"),
    (["~optimizer.fused"], "estimator=identity '~optimizer.fused' seed=0"),
    (["optimizer.betas=[0.5,0.999]"], "'optimizer.betas=[0.5,0.999]' "),
    (["scheduler=cosine"], "estimator=identity scheduler=cosine seed=0"),
    # T_max follows
    (["scheduler=cosine", "trainer.max_epochs=9"], "scheduler=cosine trainer.max_epochs=9 seed=0"),
    (["scheduler=cosine", "scheduler.T_max=7"], "scheduler=cosine scheduler.T_max=7 seed=0"),
    (["threshold=learned", "model.bits=64"], "estimator=identity threshold=learned model.bits=64 "),
    (["callbacks=basket", "seed=3"], "estimator=identity callbacks=basket seed=3"),
    (["~callbacks.code", "~callbacks.gradient"], "'~callbacks.code' '~callbacks.gradient' seed=0"),
    ([MORE], f"'{MORE}' seed=0"),
    (["data.seed=5"], "estimator=identity data.seed=5 seed=0"),
    (["trainer=cpu", "threads=2"], "estimator=identity threads=2 trainer=cpu seed=0"),
    (["trainer.precision=16-mixed"], "estimator=identity trainer.precision=16-mixed seed=0"),
    (["trainer.gradient_clip_val=1"], "trainer.gradient_clip_val=1 "),
    (["data.limit=100"], "data.limit=100 "),
    (["model.signed=true", "loss.reduction=sum"], "model.signed=true loss.reduction=sum "),
    (["estimator=reinforce_learned", "estimator.baseline.hidden=3"], "estimator.baseline.hidden=3"),
    (["experiment=tutorial"], "optimizer.fused=false study=tutorial seed=0"),
    (["debug=overfit", "seed=2"], "estimator=identity data=mnist5k data.val_size=0 data.limit=64"),
    # what cannot change the result is left out
    (["data.root=/data", "paths.outputs=/runs", "rerun=true"], "estimator=identity seed=0"),
]


def write_run(folder: Path, cfg: DictConfig) -> Path:
    """Write what a run leaves, as far as commands read it."""
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(plain(cfg))))
    record = {"status": "finished", "metrics": {}, "fingerprint": fingerprint(cfg)}
    (folder / "run.json").write_text(json.dumps(record))
    return folder


def identity(folder: Path) -> str:
    recorded: str = json.loads((folder / "run.json").read_text())["fingerprint"]
    return recorded


def commands(folders: list[Path]) -> list[str]:
    runs = pd.DataFrame({"folder": [str(folder) for folder in folders]})
    table = with_commands(runs)
    assert list(runs) == ["folder"]  # it is a new table
    assert list(table) == ["folder", "command"]
    return list(table["command"])


def composed(loader: ConfigLoader, command: str) -> str:
    """Return the fingerprint of what a command trains."""
    program, name, *overrides = shlex.split(command)
    assert (program, name) == ("stelab", "train")
    return fingerprint(compose_job(loader, "train", overrides))


def test_commands_are_short_and_make_the_fingerprint(tmp_path: Path) -> None:
    with search(None) as loader:
        folders = [
            write_run(tmp_path / str(i), compose_job(loader, "train", overrides))
            for i, (overrides, _) in enumerate(COMMANDS)
        ]
    found = commands(folders)
    with search(None) as loader:
        for (_, printed), command, folder in zip(COMMANDS, found, folders, strict=True):
            assert f" {printed.strip()} " in f"{command} "
            assert composed(loader, command) == identity(folder)


def test_seeds_that_do_not_move_everything(tmp_path: Path) -> None:
    with search(None) as loader:
        folders = [
            write_run(tmp_path / f"{i}{key}", compose_job(loader, "train", [f"seed={i}", *key]))
            for key in (["data.seed=1"], [])
            for i in range(4)
        ]
    found = commands(folders)
    assert found[1] == found[5] == "stelab train estimator=identity seed=1"
    assert found[3] == "stelab train estimator=identity data.seed=1 seed=3"
    assert found[7] == "stelab train estimator=identity seed=3"


def test_a_key_that_was_set_to_the_seed_does_not_follow_it(tmp_path: Path) -> None:
    basket = "+callbacks.b={_target_:stelab.lab.training.GradientBasket,estimators:{},bits:8,"
    basket += "every_n_steps:9,examples:4,samples:9,adapt:2,seed:%d}"
    with search(None) as loader:
        folders = [
            write_run(tmp_path / str(i), compose_job(loader, "train", [basket % i, f"seed={i}"]))
            for i in range(5)
        ]
    for i, command in enumerate(commands(folders)):
        assert command == f"stelab train estimator=identity '{basket % i}' seed={i}"


def test_hundreds_of_seeds_are_composed_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with search(None) as loader:
        first = compose_job(loader, "train", ["model=mlp", "optimizer.lr=0.01"])
    folders = [write_run(tmp_path / "0", first)]
    config = yaml.safe_load((folders[0] / "config.yaml").read_text())
    for seed in range(1, 200):
        config["seed"] = config["data"]["seed"] = seed
        folders.append(tmp_path / str(seed))
        folders[-1].mkdir()
        (folders[-1] / "config.yaml").write_text(json.dumps(config))  # is YAML too
        record = {"metrics": {}, "status": "finished"}
        record |= {"fingerprint": fingerprint_of_resolved(config)}
        (folders[-1] / "run.json").write_text(json.dumps(record))
    (folders[150] / "config.yaml").write_text(json.dumps(config))  # another run's
    calls = counted(monkeypatch)
    found = commands(folders)
    # The defaults, four optimizers, the model, two seeds.
    assert len(calls) <= 10
    same = "stelab train estimator=identity model=mlp optimizer.lr=0.01"
    assert found.pop(150) == f"{same} seed=199"
    assert found == [f"{same} seed={seed}" for seed in range(200) if seed != 150]


def counted(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Return a list that grows with each composition."""
    calls: list[object] = []

    def composed(*args: object) -> object:
        calls.append(args)
        return compose_job(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(decompose, "compose_job", composed)
    return calls


def write_settings(folder: Path, count: int, overrides: list[str]) -> list[Path]:
    """Write runs that differ in what nobody composes one by one: their learning rate."""
    with search(None) as loader:
        folders = [write_run(folder / "0", compose_job(loader, "train", overrides))]
    config = yaml.safe_load((folders[0] / "config.yaml").read_text())
    del config["checkpoint"]["keep"]  # which a run of before has not, and changes no result
    for i in range(1, count):
        config["optimizer"]["lr"] = (i + 0.5) / 1000
        folders.append(folder / str(i))
        folders[-1].mkdir()
        (folders[-1] / "config.yaml").write_text(json.dumps(config))
        record = {"metrics": {}, "status": "finished"}
        record |= {"fingerprint": fingerprint_of_resolved(config)}
        (folders[-1] / "run.json").write_text(json.dumps(record))
    return folders


def test_a_setting_needs_no_composition_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = ["estimator=relax", "threshold=learned", "scheduler=cosine", "optimizer.lr=0.2"]
    folders = write_settings(tmp_path, 200, overrides)
    calls = counted(monkeypatch)
    found = commands(folders)
    assert len(calls) <= 20  # the defaults, and the options of three groups
    same = "stelab train estimator=relax threshold=learned"
    rates = [0.2, *((i + 0.5) / 1000 for i in range(1, 200))]
    for command, rate in zip(found, rates, strict=True):
        assert command == f"{same} optimizer.lr={rate} scheduler=cosine seed=0"
    with search(None) as loader:
        for i in (0, 1, 150, 199):
            assert composed(loader, found[i]) == identity(folders[i])


def test_that_there_is_no_command_is_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with search(None) as loader:
        write_run(tmp_path / "run", compose_job(loader, "train", []))
    config = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    config["model"]["width"] = 3  # which this version does not know
    folders = []
    for seed in range(100):
        config["seed"] = config["data"]["seed"] = seed
        folders.append(tmp_path / str(seed))
        folders[-1].mkdir()
        (folders[-1] / "config.yaml").write_text(json.dumps(config))
        (folders[-1] / "run.json").write_text('{"metrics": {}, "status": "failed"}')
    calls = counted(monkeypatch)
    assert set(commands(folders)) == {
        "model.width is not a key here: see config.yaml",
    }
    assert len(calls) <= 15


DAMAGES = [
    ("estimator: identity", "estimator: scaled", "estimator=scaled is not among the installed"),
    ("threads: 1", "", "its configuration has no threads"),
    ("threads: 1", "threads: many", "threads must be a valid integer, got 'many'"),
    (
        "threads: 1",
        "threads: 2020-01-01",
        "2020-01-01 would be a timestamp, which no configuration",
    ),
    ("threads: 1", "threads: 1\nspeed: 1", "speed is not a key of a run"),
    ("bits: 512", "bits: 512\n  width: 3", "model.width is not a key here"),
    ("model: conv", "", "model=None is not among the installed groups"),
    ("threads: 1", "threads: ]", "is not a readable run"),
    ("study: default", "", "config.yaml: study must be a name, got None"),
    ("\nseed: 0", "", "config.yaml: seed must be an integer, got None"),
]


def test_where_there_is_no_command_a_sentence_says_why(tmp_path: Path) -> None:
    with search(None) as loader:
        cfg = compose_job(loader, "train", [])
    folders = [write_run(tmp_path / "whole", cfg)]
    for i, (old, new, _) in enumerate(DAMAGES):
        folders.append(write_run(tmp_path / str(i), cfg))
        text = (folders[-1] / "config.yaml").read_text()
        assert old in text
        (folders[-1] / "config.yaml").write_text(text.replace(old, new, 1))
    folders.append(tmp_path / "gone")
    whole, *sentences = commands(folders)
    assert whole == "stelab train estimator=identity seed=0"
    expected = [*(text for _, _, text in DAMAGES), "there is no run.json in it"]
    for sentence, text in zip(sentences, expected, strict=True):
        assert text in sentence
        assert sentence.endswith(": see config.yaml")
        assert "\n" not in sentence
        assert not sentence.startswith("stelab")


def test_a_changed_configuration_has_the_command_of_what_it_is(tmp_path: Path) -> None:
    with search(None) as loader:
        run = write_run(tmp_path / "run", compose_job(loader, "train", []))
    text = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(text.replace("threads: 1", "threads: 2"))
    assert commands([run]) == ["stelab train estimator=identity threads=2 seed=0"]


def test_without_runs_there_are_no_commands() -> None:
    assert commands([]) == []


def test_a_run_trained_again_is_the_same_bytes(tmp_path: Path, cli: Cli) -> None:
    estimator = ("estimator=gumbel_st", "estimator.temperature=0.5", "threshold=learned")
    others = ("scheduler=cosine", "optimizer.betas=[0.5,0.99]", "study='7'", "seed=3")
    run = train(tmp_path / "first", *estimator, *others)
    (command,) = commands([run.folder])
    result = cli(*shlex.split(command)[1:])
    assert result.returncode == 0, result.stderr
    again = tmp_path / "outputs" / "7" / run.name / "metrics.csv"
    assert again.read_bytes() == (run.folder / "metrics.csv").read_bytes()
