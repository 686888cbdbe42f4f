"""Commands that train runs again: they compose the same fingerprint, and write the same bytes."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hydra.core.config_loader import ConfigLoader
from omegaconf import DictConfig, OmegaConf

import stelab
from conftest import Cli, train
from stelab.engine.config.compose import compose_job, compose_whole, search
from stelab.engine.config.composition import recorded
from stelab.engine.config.identity import fingerprint
from stelab.engine.config.validate import plain
from stelab.engine.studies import command as module
from stelab.engine.studies.command import with_commands
from strangers import Payloads

COMMANDS: list[tuple[list[str], str | None]] = [
    # what was trained, and what is printed of it; None: the same
    ([], None),
    (["seed=7"], None),
    (["estimator=none", "model=tutorial"], None),
    (["threshold.value=0.25"], None),
    (["study='2024'"], "'study='\"'\"'2024'\"'\"''"),
    (["optimizer=sgd", "optimizer.lr=1e-5"], None),
    (["+optimizer.eps=1e-7"], None),
    (["~optimizer.fused"], "'~optimizer.fused'"),
    (["optimizer.betas=[0.5,0.999]"], "'optimizer.betas=[0.5,0.999]'"),
    (["scheduler=cosine", "trainer.max_epochs=9"], None),
    (["callbacks=basket", "seed=3"], None),
    (["data.seed=5"], None),
    (["debug=overfit", "seed=2"], None),
    (["experiment=tutorial"], None),
    # A sweep of one's own is no single run.
    (["experiment=quickstart", "seed=1"], "experiment=quickstart seed=1 hydra.mode=RUN"),
    (["sweep=ablation", "estimator=none"], "estimator=none"),
    # What cannot change the result is left out.
    (["data.root=/data", "paths.outputs=/runs", "rerun=true", "seed=1", "~logger.csv"], "seed=1"),
    (["hydra.verbose=true", "trial={storage:s,study:t,number:1}", "seed=1"], "seed=1"),
]


def write_run(folder: Path, cfg: DictConfig, **changes: Any) -> Path:
    """Write what a run leaves, as far as commands read it."""
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(plain(cfg))))
    record: dict[str, Any] = {"status": "finished", "metrics": {}, "fingerprint": fingerprint(cfg)}
    record |= {"format": 1, "composition": recorded(cfg), **changes}
    (folder / "run.json").write_text(json.dumps(record))
    return folder


def commands(folders: Sequence[Path]) -> list[str]:
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


def test_commands_are_what_was_typed_and_make_the_fingerprint(tmp_path: Path) -> None:
    with search(None) as loader:
        jobs = [compose_job(loader, "train", overrides) for overrides, _ in COMMANDS]
    folders = [write_run(tmp_path / str(i), cfg) for i, cfg in enumerate(jobs)]
    found = commands(folders)
    with search(None) as loader:
        for (overrides, printed), cfg, command in zip(COMMANDS, jobs, found, strict=True):
            expected = " ".join(overrides) if printed is None else printed
            assert command == f"stelab train {expected}".strip()
            assert composed(loader, command) == fingerprint(cfg)


def test_a_configuration_that_a_program_changed_has_no_command(tmp_path: Path) -> None:
    cfg = stelab.compose("estimator=none")
    whole = write_run(tmp_path / "whole", cfg)
    cfg.optimizer.lr = 0.5
    assert recorded(cfg) is None
    changed = write_run(tmp_path / "changed", cfg)
    made_otherwise = OmegaConf.create(plain(cfg))
    assert isinstance(made_otherwise, DictConfig)
    assert recorded(made_otherwise) is None
    assert commands([whole, changed]) == [
        "stelab train estimator=none",
        "no record says what made it: see config.yaml",
    ]


def test_each_choice_of_groups_is_composed_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with search(None) as loader:
        folders = [
            write_run(tmp_path / f"{model}{seed}", compose_job(loader, "train", overrides))
            for model in ("conv", "mlp")
            for seed in range(9)
            for overrides in [[f"model={model}", f"optimizer.lr=0.{seed + 1}", f"seed={seed}"]]
        ]
    calls: list[object] = []

    def counted(loader: ConfigLoader, command: str, overrides: Sequence[str]) -> DictConfig:
        calls.append(overrides)
        return compose_whole(loader, command, overrides)

    monkeypatch.setattr(module, "compose_whole", counted)
    found = commands(folders)
    assert found[9 + 4] == "stelab train model=mlp optimizer.lr=0.5 seed=4"
    assert len(calls) == 2


OWN = "which is no plain value or own option: see config.yaml"
STRANGE = [
    # what somebody wrote into run.json, and what stands where the command would
    ("optimizer._target_=os.system", OWN),
    ("+callbacks.x={_target_:os.system,command:date}", OWN),
    ("estimator=../../evil", OWN),
    ("estimator=[none]", OWN),
    ("study=${oc.env:HOME}", OWN),
    (r"study=$\{oc.env:HOME\}", OWN),  # which Hydra reads as the one before
    ("hydra.searchpath=[/tmp]", OWN),
    ("hydra/launcher=joblib", OWN),
    ("seed=1,2", OWN),
    ("estimator=glob(*)", OWN),
    ("monitor='a\u202eb'", OWN),
    ("study=../x", "study string should match pattern"),
    ("seed=many", "seed must be a valid integer"),
    ("seed", "'seed' is not an override"),
    ("no.key=1", "no is not a key here"),
    ("optimizer.lr=0.5", "the installed groups do not make its configuration: see config.yaml"),
    ("study=" + "x" * 1000, "more or longer overrides than a command takes: see config.yaml"),
]


def test_a_strangers_record_makes_no_command(tmp_path: Path) -> None:
    cfg = stelab.compose()
    folders = [
        write_run(tmp_path / str(i), cfg, composition={"overrides": [line]})
        for i, (line, _) in enumerate(STRANGE)
    ]
    folders.append(write_run(tmp_path / "many", cfg, composition={"overrides": ["seed=0"] * 201}))
    expected = [*(text for _, text in STRANGE), "more or longer overrides than a command takes"]
    for sentence, text in zip(commands(folders), expected, strict=True):
        assert text in sentence, sentence
        assert sentence.endswith(": see config.yaml")
        assert sentence.isprintable()
        assert not sentence.startswith("stelab")


@pytest.mark.parametrize("name", Payloads.names())
def test_no_command_is_made_of_a_payload(tmp_path: Path, name: str) -> None:
    payloads = Payloads(tmp_path / "payloads")
    written = json.dumps(payloads.nodes()[name]).replace('"', "'")
    lines = [f"optimizer={written}", f"+callbacks.x={written}", f"++model.binarizer={written}"]
    cfg = stelab.compose()
    folders = [
        write_run(tmp_path / str(i), cfg, composition={"overrides": [line]})
        for i, line in enumerate(lines)
    ]
    assert not any(command.startswith("stelab") for command in commands(folders))
    assert not payloads.left()


def test_where_there_is_no_command_a_sentence_says_why(tmp_path: Path) -> None:
    cfg = stelab.compose()
    old = write_run(tmp_path / "old", cfg)
    record = json.loads((old / "run.json").read_text())
    del record["format"], record["composition"]
    (old / "run.json").write_text(json.dumps(record))
    edited = write_run(tmp_path / "edited", cfg)
    text = (edited / "config.yaml").read_text()
    (edited / "config.yaml").write_text(text.replace("seed: 0", "seed: 1", 1))
    newer = write_run(tmp_path / "newer", cfg, format=2)
    wrong = write_run(tmp_path / "wrong", cfg, composition={"overrides": "seed=1"})
    (tmp_path / "groups").mkdir()
    mine = stelab.compose(config_dir=str(tmp_path / "groups"))
    own = write_run(tmp_path / "own", mine)
    named = json.loads((own / "run.json").read_text())["composition"]["config_dir"]
    assert named == str(tmp_path / "groups")
    sentences = commands([old, edited, newer, wrong, own, tmp_path / "gone"])
    expected = [
        "no record says what made it",
        "no record says what made it",
        "run.json is of format 2, which this stelab does not know",
        "run.json: composition.overrides is seed=1",
        "it was made with groups of a --config-dir, which run.json names",
        "there is no run.json in it",
    ]
    for sentence, words in zip(sentences, expected, strict=True):
        assert words in sentence
        assert sentence.endswith(": see config.yaml")


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
