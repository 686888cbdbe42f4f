"""The README keeps its word: its Python runs, its options exist, its pictures are there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from conftest import REPOSITORY
from stelab.config import CONF_DIR
from stelab.config.plan import plan

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")
PYTHON = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
TRAIN = re.findall(r"stelab train ([^\n`#|]*)", README)


@pytest.mark.parametrize("block", PYTHON)
def test_python_blocks_run(block: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    exec(block, {})


@pytest.mark.parametrize("arguments", [a for a in TRAIN if "=" in a and "NAME" not in a])
def test_commands_compose(arguments: str) -> None:
    words = shlex.split(arguments)
    multirun = "-m" in words
    overrides = [word for word in words if word != "-m"]
    assert plan("train", overrides, multirun=multirun, config_dir=None).jobs


@pytest.mark.parametrize("group", ["estimator", "threshold", "model", "data", "trainer", "debug"])
def test_the_table_lists_every_option(group: str) -> None:
    (row,) = re.findall(rf"^\| `{group}=` \| (.*) \|$", README, flags=re.MULTILINE)
    options = {path.stem for path in Path(CONF_DIR, group).glob("*.yaml")}
    assert options <= set(re.findall(r"`(\w+)`", row))


def test_pictures_and_links_are_there() -> None:
    for target in re.findall(r"\]\(([^)h][^)]*)\)", README):
        assert (REPOSITORY / target).is_file(), target
