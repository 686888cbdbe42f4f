"""What a terminal would obey is shown instead."""

from __future__ import annotations

import pytest

from stelab.engine.terminal import brief, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("a b\nc", "a b\nc"),
        ("é → 数", "é → 数"),
        ("\x1b[31mred\x07\r", r"\x1b[31mred\x07\r"),
        ("\u202eevil", r"\u202eevil"),
        ("\ud800", r"\ud800"),
        ("\x9b2J\x00", r"\x9b2J\x00"),
    ],
)
def test_what_is_not_printable_is_escaped(text: str, shown: str) -> None:
    assert visible(text) == shown
    shown.encode()


def test_a_value_in_a_message_is_one_short_line() -> None:
    assert brief("a\n\tb  c") == "a b c"
    assert len(brief("x" * 10**6)) < 300
    assert brief("first" + "x" * 10**6 + "last").startswith("first")
    assert brief("first" + "x" * 10**6 + "last").endswith("last")
