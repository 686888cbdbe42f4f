"""Every configuration in the tree composes, validates and builds; run ids say what they should."""

from __future__ import annotations

import copy
from functools import cache
from pathlib import Path

import pytest
import torch
from omegaconf import DictConfig, OmegaConf

import stelab
from stelab.engine.config import CONF_DIR
from stelab.engine.config.identity import fingerprint, fingerprint_of_resolved, run_id
from stelab.engine.config.validate import plain
from stelab.engine.errors import InputError
from stelab.engine.project import project
from stelab.lab.training import TaskModule, build_module

DEFAULTS = OmegaConf.load(CONF_DIR / "train.yaml").defaults
GROUPS = [g for entry in DEFAULTS[2:] for g in entry if "hydra/" not in g]  # after _self_, paths
OPTIONS = [
    f"{group}={path.stem}"
    for group in GROUPS
    for path in sorted(Path(CONF_DIR, group).glob("*.yaml"))
]


@pytest.mark.parametrize("option", OPTIONS)
def test_every_option_composes_and_builds(option: str) -> None:
    task = {
        "binary": "classify",
        "vae": "elbo",
        "tokenizer": "tokenize",
        "logits": "minimize",
    }
    fitting = [f"task={task[kind]}" for kind in task if option.startswith(f"model={kind}")]
    bits = "4" if "fsq" in option else "8"  # estimator=exact takes so few
    if option in ("model=grid", "experiment=fast", "experiment=best"):
        bits = "64"  # one a cell
    cfg = stelab.compose(option, *fitting, f"model.bits={bits}")
    with torch.device("meta"):
        module = build_module(cfg)
    assert isinstance(module, TaskModule)
    assert isinstance(stelab.build(cfg.data).batch_size, int)


def test_defaults_are_one_value_everywhere() -> None:
    cfg = stelab.compose("experiment=tutorial")
    assert cfg.optimizer.lr == 1e-3
    assert cfg.optimizer.betas == [0.5, 0.999]
    assert cfg.data.batch_size == 64
    assert cfg.data.val_size == 0
    assert cfg.trainer.max_epochs == 5
    assert cfg.model._target_ == "stelab.lab.models.tutorial"
    assert stelab.compose("experiment=tutorial", "optimizer.lr=0.01").optimizer.lr == 0.01


@cache
def ids(*overrides: str) -> str:
    return run_id(stelab.compose(*overrides))


def test_run_id_reads_well() -> None:
    name = ids("estimator=hardtanh_clip", "threshold.value=0.25", "seed=1")
    assert name.startswith("hardtanh_clip-fixed0.25-s1-")
    assert len(name.rpartition("-")[2]) == 8
    assert ids("threshold=learned").startswith("identity-learned-s0-")


@pytest.mark.parametrize(
    "override",
    [
        "paths.outputs=/elsewhere",
        "study=other",
        "rerun=true",
        "threads=3",
        "trainer.enable_progress_bar=false",
        "trainer.log_every_n_steps=1",
        "data.root=/elsewhere",
        "threshold.value=0",
        "trainer=auto",
    ],
)
def test_what_cannot_change_the_result_does_not_change_the_id(override: str) -> None:
    assert ids(override).rpartition("-")[2] == ids().rpartition("-")[2]


@pytest.mark.parametrize(
    "override",
    [
        "seed=1",
        "estimator=hardtanh_clip",
        "threshold.value=0.001",
        "model.signed=true",
        "loss.reduction=sum",
        "data=kmnist",
        "data.limit=100",
        "data.batch_size=32",
        "optimizer.lr=0.002",
        "trainer.max_epochs=6",
        "trainer=gpu",
        "trainer.precision=bf16-mixed",
        "trainer.step=compiled",
        "trainer.tf32=true",
        "trainer.channels_last=true",
        "scheduler=cosine",
    ],
)
def test_what_can_change_the_result_changes_the_id(override: str) -> None:
    assert ids(override).rpartition("-")[2] != ids().rpartition("-")[2]


# Of these commands before any of today's later keys was there.
FIRST_IDS = {
    "": "identity-fixed0-s0-409d12f3",
    "data=mnist5k": "identity-fixed0-s0-ceae8974",
    "data=mnist5k data.mean=0.5 data.std=0.5": "identity-fixed0-s0-ceae8974",
    "data=fashion_mnist seed=3": "identity-fixed0-s3-05f0e034",
    "data=kmnist model=mlp better=null": "identity-fixed0-s0-24a4abda",
    "experiment=tutorial": "identity-fixed0-s0-cf226f1b",
    "experiment=quickstart": "identity-fixed0-s0-5f55b057",
    "data=mnist5k model=mlp debug=fast tags=[a]": "identity-fixed0-s0-91b8d30a",
    "trainer.tf32=false threads=8": "identity-fixed0-s0-409d12f3",
    "data.val_size=0 monitor=train/loss": "identity-fixed0-s0-aac28b2d",
}


@pytest.mark.parametrize("command", FIRST_IDS)
def test_commands_of_older_runs_find_them(command: str) -> None:
    assert ids(*command.split()) == FIRST_IDS[command]


@pytest.mark.parametrize(
    ("command", "meaning"),
    [
        ("trainer.max_steps=${data.batch_size} data.batch_size=32", "32"),
        ("trainer.max_steps=${oc.select:seed,5} seed=9", "9"),
        ("trainer.max_steps=${threads} threads=8", "1"),  # which is no part of what a run is
        ("trainer.max_steps=${stelab.cpus:} threads=8", "1"),
        ("trainer.max_steps=${trainer.log_every_n_steps}", None),
    ],
)
def test_what_is_referred_to_counts_as_what_it_means(command: str, meaning: str | None) -> None:
    if meaning is None:
        with pytest.raises(InputError, match="cannot be resolved"):
            ids(*command.split())
        return
    first, *rest = command.split()
    assert ids(first, *rest) == ids(f"trainer.max_steps={meaning}", *rest)


def test_later_keys_count_where_they_say_something_new() -> None:
    config = plain(stelab.compose("data=mnist5k"))
    known = fingerprint_of_resolved(config)
    for key, implied in project().later_keys.items():
        *parents, last = key.split(".")
        for value, is_as_before in ((implied, True), ("something new", key == "tags")):
            changed = copy.deepcopy(config)
            node = changed
            for parent in parents:
                node = node[parent]
            node[last] = value
            assert (fingerprint_of_resolved(changed) == known) is is_as_before, (key, value)
            if is_as_before:
                node.pop(last)
                assert fingerprint_of_resolved(changed) == known, key


@pytest.mark.parametrize("override", ["data.mean=0", "data.std=1", "data.mean=[0.5]"])
def test_another_normalization_is_another_run(override: str) -> None:
    assert ids("data=mnist5k", override) != FIRST_IDS["data=mnist5k"]


def test_fingerprint_is_the_same_in_another_order() -> None:
    cfg = stelab.compose()
    shuffled = DictConfig({key: cfg._get_node(key) for key in reversed(list(cfg))})
    assert fingerprint(shuffled) == fingerprint(cfg)


def test_own_groups_come_from_config_dir(tmp_path: Path) -> None:
    (tmp_path / "estimator").mkdir()
    (tmp_path / "estimator" / "mine.yaml").write_text(
        "_target_: stelab.estimators.HardtanhClip\nbound: 0.5\n"
    )
    cfg = stelab.compose("estimator=mine", config_dir=str(tmp_path))
    assert stelab.build(cfg.model).binarizer.estimator.bound == 0.5
    assert run_id(cfg).startswith("mine-fixed0-s0-")


def test_compose_leaves_no_trace_in_hydra() -> None:
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.hydra_config import HydraConfig

    before = HydraConfig.instance().cfg  # a host's own
    stelab.compose()
    assert not GlobalHydra.instance().is_initialized()
    assert HydraConfig.instance().cfg is before
