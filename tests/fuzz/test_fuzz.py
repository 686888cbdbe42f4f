"""Whatever a command line or a file holds: an end, one clear line, and nothing else touched."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import hostile
import overrides
import pytest
from harness import Findings, Outcome, Runner
from hypothesis import given, settings
from hypothesis import strategies as st

from zygote import Zygote

# Last on a command line, so that nothing of it takes long; and where it may write.
ENDINGS: dict[str, tuple[Sequence[str], Sequence[str]]] = {
    "train": (("debug=fast", "dry_run=true"), ()),
    "gradients": (("bits=3", "samples=10", "adapt=1"), ("outputs",)),
    "status": (("watch=false",), ()),
    "compare": (("output=outputs/c",), ("outputs/c",)),
    "export": (("output=outputs/x.tar.xz", "overwrite=true"), ("outputs/x.tar.xz",)),
    "unpack": ((), ("outputs",)),
    "tensorboard": (("serve=false",), ("outputs",)),
    "evaluate": ((), ("outputs",)),
    "encode": (("output=outputs/codes.npy", "overwrite=true"), ("outputs/codes.npy",)),
    "decode": (("output=outputs/images", "overwrite=true"), ("outputs/images",)),
}
SEEDS = st.integers(0, 2**32 - 1)
OF_FILES = ("data.test_size=4", "data.val_size=2", "model=mlp", "dry_run=true")
NPZ = ("data=npz", *OF_FILES)
FOLDER = ("data=image_folder", "data.size=[28,28]", "data.channels=1", *OF_FILES)


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory, zygote: Zygote) -> Runner:
    """Command lines in a folder of their own."""
    return Runner(tmp_path_factory.mktemp("fuzz") / "all", zygote)


@pytest.fixture(scope="session")
def healthy(run: Runner, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a study of two finished runs, ``debug``, and in codes.npy codes of the first.

    To read and to break, in copies.
    """
    small = ("debug=fast", "model=mlp", "model.bits=12", "data.limit=64")
    outcome = run("train", "-m", *small, "estimator=identity,none")
    assert outcome.code == 0, outcome.err
    outcome = run("encode", f"run=outputs/debug/{first(run.here / 'outputs' / 'debug')}")
    assert outcome.code == 0, outcome.err
    return Path(shutil.move(run.here, tmp_path_factory.mktemp("healthy") / "here"))


def first(study: Path) -> str:
    return min(path.parent.name for path in study.glob("*/run.json"))


@pytest.fixture
def study(run: Runner, healthy: Path) -> Path:
    """The healthy study as ``outputs/debug`` of the working folder, fresh."""
    shutil.rmtree(run.here, ignore_errors=True)
    shutil.copytree(healthy, run.here)
    return run.here / "outputs" / "debug"


def examples(count: int) -> settings:
    """Return so many times the examples of the profile."""
    return settings(max_examples=count * settings().max_examples)


@contextmanager
def artefact(run: Runner, kind: str, seed: int, study: Path) -> Iterator[Path]:
    """Make one, a run beside healthy ones in ``outputs/mixed``; afterwards it is gone."""
    folder = run.here / ("outputs/mixed" if kind == "run" else "stranger")
    if kind == "run":
        shutil.copytree(study, folder)
    try:
        healthy = min(study.glob("*/run.json")).parent
        yield hostile.make(kind, folder, seed, run=healthy, canary=run.canary)
    finally:
        shutil.rmtree(folder)


def begin(command: str, name: str) -> list[str]:
    """Return a command line that works, on a run of this name."""
    if command in ("evaluate", "encode", "decode"):
        return [command, f"run=outputs/debug/{name}"]
    if command == "unpack":
        return [command, "archive=debug.tar.xz"]
    if command in ("status", "compare", "export", "tensorboard"):
        return [command, "study=debug"]
    return [command]


@pytest.fixture
def name(study: Path) -> str:
    """The first of the healthy runs."""
    return first(study)


@pytest.mark.parametrize("command", ENDINGS)
def test_command_lines(run: Runner, name: str, command: str) -> None:
    findings = Findings()
    ending, writes = ENDINGS[command]

    @examples(10 if command == "train" else 4)
    @given(overrides.lines(command))
    def attempt(words: list[str]) -> None:
        outcome = run(*begin(command, name), *words, *ending)
        findings.add(outcome, outcome.broken(writes=writes))

    attempt()
    findings.raise_any()


def test_names_stay_inside_the_outputs_folder(run: Runner, study: Path) -> None:
    findings = Findings()
    keys = ("study", "names.estimator", "names.threshold", "names.model", "names.data")
    small = ("debug=fast", "model=mlp", "model.bits=4", "data.limit=16")

    @examples(3)
    @given(st.sampled_from(keys), st.sampled_from(hostile.TEXTS))
    def attempt(key: str, text: str) -> None:
        quoted = text.replace("\\", "\\\\").replace("'", "\\'").replace("\x00", "")
        typed = os.fsdecode(quoted.encode(errors="surrogatepass"))
        outcome = run("train", *small, f"{key}='{typed}'")
        findings.add(outcome, outcome.broken(writes=("outputs",)))

    attempt()
    findings.raise_any()


def test_own_groups(run: Runner, study: Path) -> None:
    findings = Findings()

    @examples(8)
    @given(SEEDS, st.sampled_from(["train", "gradients"]))
    def attempt(seed: int, command: str) -> None:
        with artefact(run, "yaml", seed, study) as path:
            # What one's own groups name is built, and may write.
            writes = (*ENDINGS[command][1], "../own")
            words = ("--config-dir", str(path), "estimator=broken", *ENDINGS[command][0])
            outcome = run(command, *words)
            own = run.folder / "own"
            shutil.rmtree(own) if own.is_dir() else own.unlink(missing_ok=True)
        findings.add(outcome, outcome.broken(writes=writes), origin=f"yaml {seed}: ")

    attempt()
    findings.raise_any()


def test_runs_of_strangers(run: Runner, study: Path, name: str) -> None:
    findings = Findings()
    ways = st.sampled_from(
        ["evaluate", "encode", "decode", "tensorboard", "embeddings", "gradients"]
    )

    @examples(8)
    @given(SEEDS, ways, st.booleans())
    def attempt(seed: int, way: str, report: bool) -> None:
        origin = f"run {seed}: "
        with artefact(run, "run", seed, study) as path:
            for command in ("status", "compare"):
                words = () if command == "status" else (f"report={str(report).lower()}",)
                outcome = run(command, "study=mixed", *words)
                broken = outcome.broken(writes=("outputs/mixed/comparison",), foreign=True)
                if outcome.code != 0:
                    broken.append(f"one bad folder stops {command}: {outcome.err[:200]!r}")
                elif name not in outcome.out and "identity" not in outcome.out:
                    broken.append("the healthy run is not shown")
                findings.add(outcome, broken, origin=origin)
            outcome = run(*reading(way, path.relative_to(run.here)))
            findings.add(outcome, judged(outcome, writes=("outputs",)), origin=origin)

    attempt()
    findings.raise_any()


def reading(way: str, path: Path) -> list[str]:
    """Return a command that reads a stranger's run."""
    quoted = "run='{}'".format(str(path).replace("\\", "\\\\").replace("'", "\\'"))
    if way == "gradients":
        return ["gradients", "problem=autoencoder", quoted, "samples=10", "adapt=1"]
    if way in ("tensorboard", "embeddings"):
        more = ["embeddings=true"] if way == "embeddings" else []
        return ["tensorboard", "study=mixed", "serve=false", *more]
    return [way, quoted, *ENDINGS[way][0]]


def judged(outcome: Outcome, *, writes: Sequence[str]) -> list[str]:
    """Return what is broken where a stranger's file was read; a metric that is no number too."""
    broken = outcome.broken(writes=writes, foreign=True)
    if outcome.code == 0 and outcome.argv[0] == "evaluate":
        if any(word in outcome.out.split() for word in ("nan", "inf", "-inf")):
            broken.append(f"exit code 0 with {outcome.out!r}")
    return broken


@pytest.mark.parametrize(
    ("kind", "command"),
    [
        ("codes", lambda run, path: ("decode", run, f"codes='{path}'", *ENDINGS["decode"][0])),
        ("images", lambda run, path: ("encode", run, f"images='{path}'", *ENDINGS["encode"][0])),
        ("npz", lambda run, path: ("train", f"data.path='{path}'", *NPZ)),
        ("folder", lambda run, path: ("train", f"data.folder='{path}'", *FOLDER)),
        ("idx", lambda run, path: ("train", f"data.root='{path}'", "data=kmnist", "dry_run=true")),
    ],
    ids=["codes", "images", "npz", "folder", "idx"],
)
def test_files_of_strangers(
    run: Runner, study: Path, name: str, kind: str, command: Callable[..., tuple[str, ...]]
) -> None:
    findings = Findings()

    @examples(4)
    @given(SEEDS)
    def attempt(seed: int) -> None:
        with artefact(run, kind, seed, study) as path:
            words = command(f"run=outputs/debug/{name}", path)
            outcome = run(*words)
        findings.add(outcome, judged(outcome, writes=("outputs",)), origin=f"{kind} {seed}: ")

    attempt()
    findings.raise_any()
