"""JSON and YAML of strangers: plain values, or one reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from stelab.engine.studies import documents
from stelab.engine.studies.documents import read_json, read_yaml

YAML: list[tuple[str, Any]] = [
    ("", None),
    ("a: [1, 2.5, -0x10, true, null, ~, text, '1', \"\\x1b\"]", [1, 2.5, -16, True]),
    ("a: {b: {c: {1: x}}}", {"b": {"c": {1: "x"}}}),
    ("a: " + "[" * 31 + "]" * 31, None),
    ("a: '" + "x" * 10_000 + "'", "x" * 10_000),
]


@pytest.mark.parametrize(("text", "value"), YAML)
def test_plain_values_are_read(tmp_path: Path, text: str, value: Any) -> None:
    (path := tmp_path / "a.yaml").write_text(text)
    found = read_yaml(path, limit=2**20)
    if isinstance(value, list):
        assert found == {"a": [*value, None, None, "text", "1", "\x1b"]}
    elif value is not None:
        assert found == {"a": value}


REFUSED = [
    ("a: &a [1]\nb: *a", "line 1: aliases are not read"),
    ("a: &a x\nb: *a", "line 1: aliases are not read"),
    ("a: &a [*a]", "line 1: aliases are not read"),
    ("a: &a {x: 1}\n<<: *a", "line 2: << would be a merge, which no configuration has"),
    ("a: 1\na: 2", "line 2: a is there twice"),
    ("a: 1\n? [x]\n: 2", "line 2: a key must be a text"),
    ("~: 1", "line 1: a key must be a text"),
    ("a: 2020-01-01", "line 1: 2020-01-01 would be a timestamp, which no configuration has"),
    ("a: !!binary eA==", "eA== would be a binary"),
    ("a: !!python/name:os.system x", "x would be a python/name:os.system"),
    ("a: !!python/object/apply:os.system [x]", "apply:os.system is not read"),
    ("a: !!set {x}", "the tag tag:yaml.org,2002:set is not read"),
    ("a: !!int x", "line 1: x is no int"),
    ("a: !!bool x", "line 1: x is no bool"),
    ("a: .inf", ".inf is not a finite number"),
    ("a: 1.0e+400", "1.0e+400 is not a finite number"),
    ("a: 1" + ":10" * 100_000, "a number has over 100 characters"),
    ('a: "\\0"', "a text has over 10000 characters, or a NUL"),
    ("a: " + "x" * 10_001, "a text has over 10000 characters, or a NUL"),
    ("a: " + "[" * 40 + "]" * 40, "nested more than 32 deep"),
    ("[" * 300_000, "exceeded maximum nesting depth"),
    ("- " * 300_000, "exceeded maximum nesting depth"),
    ("[" + "1," * 20_000 + "]", "there are more than 10000 values"),
    ("".join(f"k{i}: 1\n" for i in range(600)), "there are more than 500 keys"),
    ("a: 1\n--- 2", "line 2: but found another document"),
    ("a: ]", "line 1: "),
]


@pytest.mark.parametrize(("text", "reason"), REFUSED)
def test_what_makes_more_than_stands_there_is_refused(
    tmp_path: Path, text: str, reason: str
) -> None:
    (path := tmp_path / "a.yaml").write_text(text)
    with pytest.raises(ValueError) as error:
        read_yaml(path, limit=2**20)
    assert reason in str(error.value)
    assert str(error.value).startswith("a.yaml")
    assert "\n" not in str(error.value) and len(str(error.value)) < 400


def test_deep_yaml_is_refused_without_libyaml_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(documents, "_LOADER", yaml.SafeLoader)
    (path := tmp_path / "a.yaml").write_text("[" * 3000)
    with pytest.raises(ValueError, match=r"^a.yaml is nested more than 32 deep$"):
        read_yaml(path, limit=2**20)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "a.json is not JSON: Expecting value"),
        (b"\xff", "a.json is not UTF-8 (invalid start byte)"),
        (b"[" * 100_000, "a.json is nested more than 32 deep"),
        (b"[" * 40 + b"]" * 40, "a.json is nested more than 32 deep"),
        (b'["\\u0041", ' + b"[" * 40 + b"]" * 41, "a.json is nested more than 32 deep"),
        (b"1" * 5000, "a.json is not JSON: Exceeds the limit"),
    ],
)
def test_what_is_no_json_says_why(tmp_path: Path, content: bytes, reason: str) -> None:
    (path := tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ValueError) as error:
        read_json(path, limit=2**20)
    assert reason in str(error.value)


def test_texts_can_be_written_again(tmp_path: Path) -> None:
    (path := tmp_path / "a.json").write_text(r'{"\ud800": ["\u0000", "\ud83d\ude00", 1, null]}')
    assert read_json(path, limit=99) == {r"\ud800": [r"\x00", "\U0001f600", 1, None]}
