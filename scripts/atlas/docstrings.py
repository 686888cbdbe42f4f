"""What the docstrings of estimators say, as GitHub's Markdown."""

from __future__ import annotations

import inspect
import re
from typing import Any, NamedTuple

_DISPLAYED = r"\.\. math:: (.+(?:\n +.+)*)"


class Rule(NamedTuple):
    """The sentences of a class that say what it computes; `premise` defines their letters."""

    premise: str
    forward: str
    backward: str


def read_rule(owner: Any) -> Rule:
    """Return the sentences behind "Forward:" and "Backward:", and what is said just before.

    Raises:
        ValueError: A word is absent.
    """
    parts = _sentences(owner)
    where = [i for i, part in enumerate(parts) if "Forward:" in part or "Backward:" in part]
    text = " ".join(parts[where[0] : where[-1] + 1]) if where else ""
    found = re.fullmatch(r"(?s)(.*)Forward:(.+)Backward:(.+)", text)
    if found is None:
        raise ValueError(f"the docstring of {owner.__name__} must say 'Forward:' and 'Backward:'")
    before = parts[where[0] - 1] if where[0] and parts[where[0] - 1].endswith(",") else ""
    premise = f"{before} {found[1]}".strip()
    return Rule(*(_one_line(to_markdown(part)) for part in (premise, found[2], found[3])))


def read_keys(owner: Any) -> list[str]:
    """Return the keys of the references that a docstring names, e.g. ``Hubara2016``."""
    keys = re.findall(r"\[([A-Z][A-Za-z]*\d{4})\]", inspect.getdoc(owner) or "")
    return list(dict.fromkeys(keys))


def read_references(module: Any) -> dict[str, str]:
    """Return the entries of a module's "References:" by their keys, arXiv numbers as links."""
    block = (inspect.getdoc(module) or "").partition("References:\n")[2]
    items = re.findall(r"(?s)\[(\w+)\]\s+(.*?)(?=\n\s*\[\w+\]|\Z)", block)
    return {key: _link(_one_line(text)) for key, text in items}


def read_heading(module: Any) -> str:
    """Return the first sentence of a module's docstring, without its full stop."""
    return to_markdown(_one_line(_paragraphs(module)[0]).rstrip("."))


def read_introduction(module: Any) -> str:
    """Return what a module's docstring says between its heading and its references."""
    text = "\n\n".join(_paragraphs(module)[1:]).partition("References:\n")[0]
    return to_markdown(text).strip()


def to_markdown(text: str) -> str:
    r"""Turn the roles and directives of a docstring into Markdown.

    Mathematics becomes ``$`...`$``: within bare dollars Markdown takes the backslash from ``\,``.
    """
    text = re.sub(_DISPLAYED, lambda m: f"```math\n{m[1]}\n```", text)
    text = re.sub(r":math:`([^`]+)`", lambda m: f"$`{_one_line(m[1])}`$", text)
    return re.sub(r"``([^`\n]+)``", r"`\1`", text)


def _paragraphs(owner: Any) -> list[str]:
    return (inspect.getdoc(owner) or "").split("\n\n")


def _sentences(owner: Any) -> list[str]:
    """Return the paragraphs, displayed mathematics as part of the sentence that it is in."""
    text = re.sub(rf"\s+{_DISPLAYED}", r" :math:`\1`", inspect.getdoc(owner) or "")
    return text.split("\n\n")


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _link(text: str) -> str:
    return re.sub(r"arXiv:([\d.]+\d)", r"[arXiv:\1](https://arxiv.org/abs/\1)", text)
