"""Overrides are read as the values that they were written from."""

from __future__ import annotations

from typing import Any

import pytest

from stelab.engine.config.compose import compose, parse, search
from stelab.engine.config.overrides import changes, write_override
from stelab.engine.config.validate import plain

VALUES: list[Any] = [
    *(0, -3, 10**30, 0.1, 1e-7, 1e22, -2.5, True, False, None),
    *("", "relu", "16-mixed", "torch.optim.Adam", "/a/b c", "a,b", "a=b", "a:b", "x y ", " x"),
    *("null", "true", "1", "1e5", "nan", "[1]", "{a:1}", "it's", 'a "b"', "\\", "a\\'b", "ü", "$x"),
    *([], [1, 2.5], ["a b", None, [True]], {}, {"a": 1, "b": {"c": "x,y"}}),
]


@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_a_value_reads_back(value: Any) -> None:
    with search(None) as loader:
        (override,) = parse(loader, [write_override("+key", value)])
    read = override.value()
    assert _plain(read) == value
    assert type(_plain(read)) is type(value)


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(entry) for entry in value]
    if isinstance(value, dict):
        return {_plain(key): _plain(entry) for key, entry in value.items()}
    return getattr(value, "text", value)  # of a quoted string


def test_the_shortest_way_of_writing_is_taken() -> None:
    assert write_override("a.b", "relu") == "a.b=relu"
    assert write_override("a.b", "16-mixed") == "a.b=16-mixed"
    assert write_override("a.b", "1") == 'a.b="1"'
    assert write_override("a.b", None) == "a.b=null"


def test_changes_turn_one_into_the_other() -> None:
    first = plain(compose())
    second = plain(compose("optimizer=sgd", "model.bits=7", "~callbacks.code", "data.limit=5"))
    overrides = [*changes(first, second, {})]
    assert overrides == [
        *("model.bits=7", "data.limit=5", "optimizer._target_=torch.optim.SGD"),
        *("optimizer.lr=0.1", "~optimizer.betas", "+optimizer.momentum=0.9", "~callbacks.code"),
    ]
    changed = plain(compose(*overrides))
    assert [*changes(changed, second, {})] == []
    assert [*changes(first, first, {})] == []


def test_what_is_interpolated_is_left_out() -> None:
    first, second = {"a": 1, "b": {"c": 1}}, {"a": 2, "b": {"c": 2}}
    assert [*changes(first, second, {"a": 1, "b": {"c": "${a}"}})] == ["a=2"]
    assert [*changes(first, second, {"a": 1, "b": "${a}"})] == ["a=2"]
    assert [*changes(first, second, {})] == ["a=2", "b.c=2"]
