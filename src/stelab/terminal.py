"""Text on its way to a terminal: shown, never obeyed."""

from __future__ import annotations


def visible(text: str) -> str:
    r"""Write as an escape what a terminal would obey, hide or cannot encode.

    Line breaks stay; everything else that is not printable (``\x1b``, bidirectional controls,
    lone surrogates) is written as in a Python literal.
    """
    return "".join(
        c if c == "\n" or c.isprintable() else c.encode("unicode_escape").decode() for c in text
    )
