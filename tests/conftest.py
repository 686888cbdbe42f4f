"""Shared fixtures: the real MNIST, trained runs, and a check that no test leaks global state."""

from __future__ import annotations

import copy
import gc
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, settings
from omegaconf import DictConfig

import stelab
from stelab.engine.studies import Run
from waiting import PATIENCE
from zygote import Fork, Zygote

REPOSITORY = Path(__file__).resolve().parents[1]
collect_ignore = [] if torch.cuda.is_available() else ["gpu"]  # the rest needs none
OF_LIBRARIES = ("PY", "TORCH", "_TORCH", "KMP_")

# tests/fuzz: scripts/test tries the same few examples each time; --hypothesis-profile=long others,
# of everything 66 times as many.
_COMMON = settings(database=None, deadline=None, suppress_health_check=list(HealthCheck))
settings.register_profile("short", _COMMON, max_examples=1, derandomize=True)
settings.register_profile("long", _COMMON, max_examples=66)
settings.load_profile("short")


def pytest_configure() -> None:
    """Give each process one thread, also for `threads=auto`; let those they start take Ctrl-C.

    OpenMP's threads of several busy processes wait for each other on a core that another one has,
    which took ten times as long. A shell's background job ignores Ctrl-C.
    """
    gc.disable()  # until all is collected
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_finish() -> None:
    """Let the garbage collector pass by what was imported and collected."""
    freeze()
    gc.enable()


def freeze() -> None:
    """Let the garbage collector pass by what is there: each training ends with a collection."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def mnist_root() -> Path:
    """The folder that holds MNIST/raw; CI must have it."""
    root = Path(os.environ.get("STELAB_DATASETS", REPOSITORY.parent / "shared" / "datasets"))
    if not (root / "MNIST" / "raw" / "train-images-idx3-ubyte").is_file():
        message = f"the real MNIST is not in {root} (set STELAB_DATASETS=FOLDER)"
        if os.environ.get("CI"):
            pytest.fail(message)
        pytest.skip(message)
    return root


@pytest.fixture(autouse=True)
def no_leaks() -> Iterator[None]:
    """Fail a test that changes the process's environment or torch's global switches."""

    def switches() -> set[tuple[str, object]]:
        return {
            # PyTest sets one of its own; torch sets PYTORCH_*, TORCH* and _TORCH*, sklearn KMP_*.
            *((k, v) for k, v in os.environ.items() if not k.startswith(OF_LIBRARIES)),
            ("default dtype", torch.get_default_dtype()),
            ("deterministic", torch.are_deterministic_algorithms_enabled()),
            ("matmul precision", torch.get_float32_matmul_precision()),
            ("threads", torch.get_num_threads()),
        }

    before = switches()
    torch.default_generator.manual_seed(0)  # the CPU's: torch.manual_seed formats a stack for each
    yield
    assert switches() ^ before == set()


Cli = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def zygote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zygote]:
    """The process of which `cli` makes forks, one for all workers of pytest-xdist."""
    folder = tmp_path_factory.getbasetemp()
    made = Zygote(os.environ, folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder)
    yield made
    made.close()


Start = Callable[..., Fork]


@pytest.fixture
def start(tmp_path: Path, zygote: Zygote) -> Iterator[Start]:
    """Start ``stelab ARGS...`` in an empty folder, as a fork of a process that has imported it."""
    started: list[Fork] = []

    def run(
        *arguments: str,
        cwd: Path = tmp_path,
        stderr: int | None = None,
        code: str | None = None,
        **environment: str,
    ) -> Fork:
        how: dict[str, Any] = {"stderr": stderr, "code": code}
        environment = {**os.environ, **environment}
        started.append(zygote.start(*arguments, cwd=cwd, environment=environment, **how))
        return started[-1]

    yield run
    for fork in started:
        fork.kill()
        fork.wait()


@pytest.fixture
def cli(start: Start) -> Cli:
    """Run ``stelab ARGS...`` in an empty folder, as `start` does, to its end."""

    def run(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
        fork = start(*arguments, **options)
        out, err = fork.communicate(timeout=PATIENCE)
        return subprocess.CompletedProcess(["stelab", *arguments], fork.wait(), out, err)

    return run


@pytest.fixture
def cli_process(tmp_path: Path) -> Cli:
    """Run ``stelab ARGS...`` in an empty folder, as a process of its own from the start."""

    def run(
        *arguments: str, cwd: Path = tmp_path, **environment: str
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "stelab", *arguments],
            cwd=cwd,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )

    return run


def train(outputs: Path, *overrides: str) -> Run:
    """Train a small network for one short epoch on real digits."""
    cfg = copy.deepcopy(_composed(*overrides))
    cfg.paths.outputs = str(outputs)
    run = stelab.train(cfg)
    freeze()  # what it imported, and a little that it left
    return run


@cache
def _composed(*overrides: str) -> DictConfig:
    """Compose what `train` trains once for all tests: it takes as long as a short epoch."""
    return stelab.compose("debug=fast", "model=mlp", "model.bits=512", *overrides)


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A finished run of the convolutional network, for tests that read one."""
    return train(tmp_path_factory.mktemp("outputs"), "model=conv")


@pytest.fixture(scope="session")
def installed_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel and install it, without its dependencies, in a folder of its own."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    build = ["wheel", "--no-deps", "--no-build-isolation", "-w", str(folder), str(REPOSITORY)]
    subprocess.run([*pip, *build], check=True, capture_output=True)
    (wheel,) = folder.glob("stelab-*.whl")
    site = folder / "site"
    subprocess.run(
        [*pip, "install", "--no-deps", "--target", str(site), str(wheel)],
        check=True,
        capture_output=True,
    )
    return site
