"""CONTRIBUTING keeps its word: what it prints, written into a copy of the checkout, passes."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from checkouts import borrow_environment
from conftest import REPOSITORY, Cli
from waiting import PATIENCE

TEXT = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")
RECIPES = dict(re.findall(r"(?ms)^### A new (\w+: \w+ files)$(.*?)(?=^##)", TEXT))
FILE = re.compile(r"(?ms)^`([\w/]+\.\w+)`[^\n]*:\n\n```\w+\n(.*?)```$")
FILES = [file for recipe in RECIPES.values() for file in FILE.findall(recipe)]
OPTIONS = {Path(path).parent.name: Path(path).stem for path, _ in FILES if "conf/" in path}
COMMANDS = re.findall(r"(?m)^scripts/draw_atlas .*", "".join(RECIPES.values()))


def test_every_recipe_prints_as_many_files_as_it_says() -> None:
    counted = {
        f"{title.partition(':')[0]}: {('no', 'one', 'two', 'three')[len(FILE.findall(text))]} files"
        for title, text in RECIPES.items()
    }
    assert counted == set(RECIPES)
    groups = ["estimator", "threshold", "task", "model", "loss", "data", "callbacks", "logger"]
    assert list(OPTIONS) == groups


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Copy the checkout and write what is printed; its environment is this process's."""
    folder = tmp_path_factory.mktemp("copy") / "stelab"
    hidden = shutil.ignore_patterns(".*", "__pycache__", "outputs")
    shutil.copytree(REPOSITORY, folder, ignore=hidden)
    for path, text in FILES:
        there = (folder / path).read_text(encoding="utf-8") if (folder / path).exists() else ""
        if text not in there:
            (folder / path).write_text(f"{there}\n\n{text}".lstrip(), encoding="utf-8")
    if (REPOSITORY / ".mypy_cache").exists():  # a minute faster
        shutil.copytree(REPOSITORY / ".mypy_cache", folder / ".mypy_cache")
    borrow_environment(folder)
    return folder


def call(checkout: Path, *command: str) -> str:
    """Run a command of a checkout, whose package is found before the installed one."""
    path = os.pathsep.join([f"{checkout}/src", os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        command,
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": path, "PYTEST_ADDOPTS": ""},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


# Of the copy's tests those of what was added, and those that look at everything there is.
TESTS = [
    *("estimators", "thresholds", "lab/models", "lab/data", "lab/tasks/test_losses.py"),
    *("lab/tasks/test_task_contract.py", "lab/tasks/test_sparse.py"),
    *("lab/training/test_absolute_error.py", "lab/training/test_weight_norm.py"),
    *("lab/training/test_json_lines.py", "engine/config/test_compose.py"),
    *("engine/test_trust.py", "scripts", "apps/test_main.py", "test_readme.py"),
]
ABOUT_ALL = ["test_the_page", "test_every_estimator_has", "test_every_group", "test_the_table"]
ABOUT_ALL += ["test_train_help"]


def test_what_is_printed_passes_every_check(checkout: Path) -> None:
    for command in COMMANDS:
        call(checkout, *command.split())
    names = " or ".join((*OPTIONS.values(), *ABOUT_ALL))
    tests = [f"tests/{test}" for test in TESTS]
    printed = call(checkout, "scripts/test", "-n0", "-v", "-k", names, *tests)
    for path, _ in FILES:
        assert not path.startswith("tests/") or f"{path}::" in printed
    for group, name in OPTIONS.items():
        assert re.search(
            rf"test_every_option_composes_and_builds\[{group}={name}\] PASSED", printed
        )
        others = re.findall(rf"\[.*{name}.*\] PASSED", printed)
        assert len(others) > 1 or group in ("callbacks", "logger")  # each has its own test alone
    assert "test_the_picture_is_up_to_date[scaled] PASSED" in printed


def test_the_same_files_do_outside_of_the_repository(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "code" / "mine").mkdir(parents=True)
    for path, text in FILES:
        if path.startswith("conf/"):
            target = tmp_path / "groups" / path.removeprefix("conf/")
            text = re.sub(
                r"(?m)_target_: stelab\.(?!binarizer).*?(\w+\.\w+)$", r"_target_: mine.\1", text
            )
        else:
            target = tmp_path / "code" / "mine" / Path(path).name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text)
    losses = tmp_path / "code" / "mine" / "losses.py"  # printed without the imports of its file
    losses.write_text(f"from torch import Tensor, nn\n\n\n{losses.read_text()}")
    environment = {"PYTHONPATH": str(tmp_path / "code")}
    options = [f"{group}={name}" for group, name in OPTIONS.items()]
    trained = cli("train", "--config-dir", "groups", *options, "debug=fast", **environment)
    assert trained.returncode == 0, trained.stderr
    (run,) = tmp_path.glob("outputs/debug/scaled-batch_mean-*")
    evaluated = cli("evaluate", f"run={run}", "trust=mine", **environment)
    assert evaluated.returncode == 0, evaluated.stderr
    assert evaluated.stdout.startswith("test/loss ")
