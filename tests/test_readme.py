"""The README keeps its word: its Python runs, its options exist, its pictures are there."""

from __future__ import annotations

import re
import shlex
from importlib import import_module
from pathlib import Path

import pytest

from conftest import REPOSITORY
from stelab.apps.main import every_option, literal
from stelab.engine.config import CONF_DIR
from stelab.engine.sweepers.plan import plan

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
PYTHON = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
COMMANDS = re.findall(
    r"stelab (train|gradients|status|compare|export|unpack|tensorboard) ([^\n`#|]*)", README
)


@pytest.mark.parametrize("block", PYTHON)
def test_python_blocks_run(block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(block, {})


@pytest.mark.parametrize(
    ("command", "arguments"), [(c, a) for c, a in COMMANDS if "=" in a and "NAME" not in a]
)
def test_commands_compose(command: str, arguments: str) -> None:
    words = shlex.split(re.sub(r"(seed=\d+,\d+)[\d,]*", r"\1", arguments))  # two are as many are
    texts = getattr(import_module(f"stelab.apps.{command}"), "TEXTS", ())
    overrides = [literal(every_option(word), texts) for word in words if word != "-m"]
    assert plan(command, overrides, multirun="-m" in words, config_dir=None).jobs


def named(group: str) -> tuple[set[str], set[str]]:
    """Return what the README's table says of a group in code, and the group's options."""
    (row,) = re.findall(rf"^\| `{group}=` \| (.*) \|$", README, flags=re.MULTILINE)
    options = {path.stem for path in Path(CONF_DIR, group).glob("*.yaml")}
    return set(re.findall(r"`(\w+)`", row)), options


@pytest.mark.parametrize(
    "group", ["trainer", "debug", "problem", "categorical", "quantizer", "experiment"]
)
def test_the_table_lists_every_option(group: str) -> None:
    names, options = named(group)
    assert options <= names


@pytest.mark.parametrize(
    "group", ["estimator", "threshold", "task", "model", "loss", "data", "callbacks", "logger"]
)
def test_the_table_lists_no_option_that_is_not_there(group: str) -> None:
    """Of the groups that CONTRIBUTING adds to it names some, and nothing has to be added here."""
    names, options = named(group)
    assert names
    assert names <= options


@pytest.mark.parametrize("group", ["sweep", "hydra/launcher"])
def test_every_sweep_and_launcher_is_told_of(group: str) -> None:
    options = {path.stem for path in Path(CONF_DIR, group).glob("*.yaml")} - {"grid"}
    assert options
    for option in options:
        assert re.search(rf"`(?:{group}=)?{option}`", README), option


def test_pictures_and_links_are_there() -> None:
    for target in re.findall(r"\]\(([^)h][^)]*)\)|<img src=\"([^\"]*)\"", README):
        target = "".join(target)
        assert (REPOSITORY / target).is_file(), target
