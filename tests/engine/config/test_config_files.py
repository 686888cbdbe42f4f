"""YAML files of strangers: whatever they hold, one line names the file and what is wrong."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import stelab
from stelab.engine.config.files import BYTES, NODES
from stelab.engine.errors import InputError

TARGET = "_target_: stelab.estimators.HardtanhClip\n"
LEVELS = zip("abcdef", "bcdefg", strict=True)
BOMB = "".join(f"{b}: &{b} [{','.join([f'*{a}'] * 10)}]\n" for a, b in LEVELS)
FILES: dict[str, tuple[str | bytes, str]] = {
    "tab": (TARGET + "bound:\n\t- 1\n", "mine.yaml:3: found character '\\t'"),
    "duplicate": (TARGET + "bound: 1\nbound: 2\n", "mine.yaml:3: found duplicate key bound"),
    "unclosed": (TARGET + "bound: [1, 2\n", "mine.yaml:3: expected ',' or ']'"),
    "itself": ("# \ndefaults:\n  - mine\n", "mine.yaml:2: its defaults lead back to itself"),
    "deep": (TARGET + "bound: " + "[" * 2000, "mine.yaml: something is nested too deeply"),
    "nested": (TARGET + "bound: " + "[" * 60 + "]" * 60, "mine.yaml: tables and lists are nested"),
    "bomb": ("a: &a [x, x]\n" + BOMB, f"mine.yaml: it has more than {NODES} entries"),
    "cycle": (TARGET + "bound: &b [*b]\n", "mine.yaml: tables and lists are nested"),
    "latin": (TARGET.encode() + b"# caf\xe9\n", "mine.yaml:2: this is no UTF-8 text"),
    "control": (TARGET + "bound: \0", "mine.yaml:2: YAML has no character 0x0"),
    "large": (TARGET + "#" * BYTES, "mine.yaml is too large"),
    "empty": ("", "estimator must have a _target_"),
    "list": ("- 1\n", "mine.yaml: it must hold a table (key: value), got a list"),
    "no target": ("bound: 1.0\n", "estimator must have a _target_"),
    "tag": ("!!python/object/apply:os.getcwd []\n", "mine.yaml:1: could not determine"),
    "set": (TARGET + "bound: !!set {a}\n", "mine.yaml: Value 'set' is not a supported"),
    "digits": (TARGET + "bound: " + "9" * 5000, "mine.yaml: Exceeds the limit"),
    "interpolation": (TARGET + "bound: ${a\n", "mine.yaml: no viable alternative"),
    "unknown key": (TARGET + "bound: ${nope}\n", "estimator.bound: its value cannot be resolved"),
    "defaults": ("defaults: x\n", "Invalid defaults list in 'estimator/mine'"),
    "launcher": (
        "defaults:\n  - override /hydra/launcher: joblib\n",
        "mine.yaml: its defaults cannot choose hydra/launcher, which would have no effect: say",
    ),
    "package": ("# @package _global_\nhydra: 5\n", "'estimator=mine' cannot be applied: In "),
}


@pytest.mark.parametrize("name", FILES)
def test_what_is_wrong_with_a_file_is_said_in_a_line(name: str, tmp_path: Path) -> None:
    content, expected = FILES[name]
    group = tmp_path / "estimator"
    group.mkdir()
    (group / "mine.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError) as error:
        stelab.compose("estimator=mine", config_dir=str(tmp_path))
    assert expected in str(error.value)
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize("kind", ["folder", "pipe", "device", "link to itself"])
def test_what_is_no_file_is_not_read(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "estimator" / "mine.yaml"
    path.parent.mkdir()
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero" if kind == "device" else path)
    with pytest.raises(InputError, match="cannot be read: "):
        stelab.compose("estimator=mine", config_dir=str(tmp_path))


def test_a_good_file_with_a_byte_order_mark_is_read(tmp_path: Path) -> None:
    (tmp_path / "estimator").mkdir()
    (tmp_path / "estimator" / "mine.yaml").write_text("\ufeff" + TARGET + "bound: 0.5\r\n")
    assert stelab.compose("estimator=mine", config_dir=str(tmp_path)).estimator.bound == 0.5
