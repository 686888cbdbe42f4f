"""Before the first job a batch passes every network: what does not fit is one line."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
import torch

import stelab
from conftest import Cli
from stelab.engine.config import CONF_DIR
from stelab.engine.errors import InputError
from stelab.engine.studies import read_run
from stelab.lab.training.building import build_module
from stelab.lab.training.check import check, require_fit

NETWORKS = '''
import torch
from torch import nn
from stelab.lab.models import Autoencoder

def network(*, binarizer, hidden=32, width=32, code=16, end=nn.Unflatten(1, (1, 28, 28)), first=()):
    encoder = nn.Sequential(nn.Flatten(), *first, nn.Linear(784, hidden), nn.Linear(width, 16))
    decoder = nn.Sequential(nn.Linear(16, 784), end)
    return Autoencoder(
        encoder=encoder, binarizer=binarizer, decoder=decoder, code_shape=(code,), signed=False
    )

def matrices(*, binarizer):
    made = network(binarizer=binarizer)
    for layer in made.modules():
        if isinstance(layer, nn.Linear):
            layer.bias = None
    return made

def flat(*, binarizer):
    return network(binarizer=binarizer, end=nn.Identity())

class Scaled(nn.Module):
    """Computes with numbers, which the meta device has none of."""
    def forward(self, x):
        assert x.abs().max().item() > 0
        return x * float(x.std())

def scaled(*, binarizer):
    return network(binarizer=binarizer, first=[Scaled()])

def initialized(*, binarizer, width=32):
    return network(binarizer=binarizer, width=width, first=[Numbers()])

class Numbers(nn.Identity):
    def __init__(self):
        super().__init__()
        self.scale = torch.ones(3).mean().item()

class Raises(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.kind = kind
    def forward(self, x):
        raise self.kind("not today")

def gives_up(*, binarizer):
    return network(binarizer=binarizer, first=[Raises(RuntimeError)])

def refuses(*, binarizer):
    return network(binarizer=binarizer, first=[Raises(ValueError)])

class Unpacks(nn.Module):
    def forward(self, x):
        batch, channels = x.shape
        assert channels == 3
        return x

def unpacks(*, binarizer):
    return network(binarizer=binarizer, first=[Unpacks()])

def backend(graph, inputs):
    raise RuntimeError("the check compiles")

def compiled(*, binarizer):
    layer = torch.compile(nn.Linear(784, 784), backend=backend)
    return network(binarizer=binarizer, first=[layer])

def no_network(*, binarizer):
    return nn.Linear(3, 3)
'''


@pytest.fixture
def networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module of networks that no other test has imported; its name."""
    name = f"networks_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text(NETWORKS)
    monkeypatch.syspath_prepend(tmp_path)
    return name


PLAIN = ("~optimizer.betas", "~optimizer.fused")
FAST = ("data=mnist5k", "data.limit=128", "trainer=cpu", "trainer.max_epochs=1")


def checked(tmp_path: Path, networks: str, target: str, *overrides: str) -> None:
    """Check one job whose model is that target, of 16 bits, on real digits."""
    folder = tmp_path / "conf" / "model"
    folder.mkdir(parents=True, exist_ok=True)
    binarizer = "{_target_: stelab.Binarizer, threshold: '${threshold}', estimator: '${estimator}'}"
    (folder / "own.yaml").write_text(f"_target_: {networks}.{target}\nbinarizer: {binarizer}\n")
    lines = (*FAST, "model=own", *overrides)
    cfg = stelab.compose(*lines, config_dir=str(tmp_path / "conf"))
    check([cfg])


@pytest.mark.parametrize(
    ("target", "overrides", "expected"),
    [
        ("network", [], None),
        (
            "network",
            ["+model.hidden=20"],
            "model.encoder.2 fails on images of shape (2, 1, 28, 28)",
        ),
        ("network", ["+model.width=8"], "mat1 and mat2 shapes cannot be multiplied"),
        ("network", ["+model.code=8"], "code_shape (8,), but makes codes of shape (2, 16)"),
        ("flat", [], "it is given, (2, 1, 28, 28), but makes (2, 784)"),
        ("network", ["threshold=learned", "threshold.channels=3"], "is learned for 3 channels"),
        ("network", ["loss={_target_:torch.nn.L1Loss,reduction:none}"], None),
        ("network", ["loss={_target_:torch.nn.L1Loss,reduction:mean}"], "set loss.reduction=none"),
        ("network", ["loss={_target_:builtins.dict}"], "loss must take (output, target)"),
        ("scaled", [], None),
        ("initialized", [], None),
        ("initialized", ["+model.width=8"], "model.encoder.3 fails"),
        ("compiled", [], None),
        ("network", ["+callbacks.x._target_=builtins.dict"], "must be a pytorch_lightning.callb"),
        ("network", ["+logger.x._target_=builtins.dict"], "must be a pytorch_lightning.loggers"),
        ("network", ["data._target_=builtins.dict"], "data must be a stelab.lab.data.datamodule."),
        ("network", ["scheduler._target_=builtins.dict"], "scheduler must be a torch.optim.lr_sc"),
        ("network", ["optimizer._target_=builtins.dict"], "optimizer must be a torch.optim.optim"),
        ("network", ["optimizer._target_=torch.optim.Muon", *PLAIN], "Muon only supports 2D"),
        ("matrices", ["optimizer._target_=torch.optim.Muon", *PLAIN], None),
        ("gives_up", [], None),  # a job may fail: training tells
        ("refuses", [], "model.encoder.1 fails on images of shape (2, 1, 28, 28): ValueError: not"),
        ("unpacks", [], "model.encoder.1 fails on images of shape (2, 1, 28, 28): AssertionError"),
        (
            "no_network",
            [],
            "model must be a stelab.lab.models.autoencoder.Autoencoder, but is a Linear",
        ),
        (
            "network",
            ["estimator._target_=torch.nn.ReLU"],
            "must be a stelab.estimators.base.Estimator",
        ),
    ],
    ids=str,
)
def test_what_does_not_fit_is_told(
    target: str, overrides: list[str], expected: str | None, tmp_path: Path, networks: str
) -> None:
    state = torch.get_rng_state()
    if expected is None:
        checked(tmp_path, networks, target, *overrides)
    else:
        with pytest.raises(InputError) as error:
            checked(tmp_path, networks, target, *overrides)
        assert expected in str(error.value)
        assert len(str(error.value).splitlines()) == 1
    assert torch.equal(torch.get_rng_state(), state)


ESTIMATORS = sorted(path.stem for path in (CONF_DIR / "estimator").glob("*.yaml"))
THRESHOLDS = sorted(path.stem for path in (CONF_DIR / "threshold").glob("*.yaml"))


@pytest.mark.parametrize(
    "choice",
    [
        *(f"estimator={name} model=mlp model.bits=8" for name in ESTIMATORS),
        *(f"threshold={name} model=conv" for name in THRESHOLDS),
        "model=tutorial",
    ],
)
def test_all_that_is_shipped_passes_without_numbers(choice: str) -> None:
    cfg = stelab.compose(*choice.split())
    with torch.device("meta"), warnings.catch_warnings():
        require_fit(build_module(cfg), {"images": torch.empty(2, 1, 28, 28)})


def test_a_sweep_names_the_job(cli: Cli, tmp_path: Path, networks: str) -> None:
    (tmp_path / "conf" / "model").mkdir(parents=True)
    (tmp_path / "conf" / "model" / "own.yaml").write_text(
        f"_target_: {networks}.network\nwidth: 32\nbinarizer: "
        "{_target_: stelab.Binarizer, threshold: '${threshold}', estimator: '${estimator}'}\n"
    )
    sweep = ("train", "-m", "--config-dir", "conf", *FAST, "model=own")
    result = cli(*sweep, "model.width=32,30", "seed=0,1", PYTHONPATH=str(tmp_path))
    assert result.returncode == 2
    mistake, where = result.stderr.splitlines()
    assert mistake.startswith("stelab: model.encoder.2 fails on images of shape (2, 1, 28, 28): ")
    assert where.startswith("  in 2 of 4 jobs, the first: ") and "model.width=30" in where
    assert not (tmp_path / "outputs").exists()

    result = cli(*sweep, "model.width=32", PYTHONPATH=str(tmp_path))
    assert result.returncode == 0, result.stderr
    (folder,) = (tmp_path / "outputs" / "default").glob("identity-*")
    assert read_run(folder).status == "finished"
