"""The page: an overview, then every family with its estimators."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from importlib import import_module
from pathlib import Path

from atlas.docstrings import (
    read_heading,
    read_introduction,
    read_keys,
    read_references,
    read_rule,
)
from atlas.entries import Entry, families, read_entries
from atlas.pictures import DPI, draw_estimator
from atlas.toy import DRAWS

_SOME_BITS = 8

_INTRODUCTION = f"""\
# Estimators

Written by `scripts/draw_atlas` from `conf/` and the objects that it names: run it again, do not
edit.

An estimator sees $`s = x - \\theta`$, sends bits $`b`$ forward, and turns the gradient
$`g = \\partial L/\\partial b`$ that arrives at them (or values of the loss f) into an estimate of
the gradient at s. Each is drawn as it treats one bit before the first step (one with a schedule:
also after the last), with the hyperparameters of its YAML file.

- Forward: the bit, its probability, or the mean of the relaxed value y that training sees instead.
- Gradient, for $`f(b) = (b - 0.45)^2`$. *exact*: the derivative of $`\\mathbb{{E}} f(b)`$ with the
  estimator's own $`P(b = 1)`$. *mean* and *± sd*: the law of the estimate, enumerated where the
  bits alone decide it, from {DRAWS:,} draws elsewhere. *g = 1*: what a deterministic estimator
  makes of a gradient of 1, its surrogate derivative. The mean of an unbiased one lies on the exact
  line.
"""


def write_atlas(folder: Path, names: Sequence[str] = ()) -> None:
    """Write ``estimators.md`` and ``estimators/NAME.png`` in `folder`; delete other pictures.

    Args:
        folder: Where to.
        names: The estimators to draw; all without any, and what has no picture yet.
    """
    entries = read_entries("estimator")
    pictures = folder / "estimators"
    pictures.mkdir(parents=True, exist_ok=True)
    paths = {entry.name: pictures / f"{entry.name}.png" for entry in entries}
    for path in set(pictures.glob("*.png")) - set(paths.values()):
        path.unlink()
    for entry in entries:
        if not names or entry.name in names or not paths[entry.name].exists():
            write_picture(entry, paths[entry.name])
    (folder / "estimators.md").write_text(read_page(), encoding="utf-8")


def write_picture(entry: Entry, path: Path) -> None:
    """Draw one estimator; the same picture is the same bytes."""
    # Not the version of matplotlib, which it would write by itself.
    draw_estimator(entry.built).savefig(path, dpi=DPI, metadata={"Software": None})


def read_page() -> str:
    """Return the page's Markdown, of what ``conf/`` holds today."""
    return page(families(read_entries("estimator")), families(read_entries("categorical")))


def page(estimators: Sequence[Sequence[Entry]], categorical: Sequence[Sequence[Entry]]) -> str:
    """Return the page's Markdown."""
    blocks = [_INTRODUCTION, _overview([entry for family in estimators for entry in family])]
    blocks += [_family(family) for family in estimators]
    if categorical:
        blocks.append(_categorical([entry for family in categorical for entry in family]))
    return "\n".join(blocks)


def _overview(entries: Iterable[Entry]) -> str:
    rows = [
        (
            f"[`{entry.name}`](#{entry.name})",
            entry.comment,
            entry.built.exactness,
            _evaluations(entry),
            entry.built.randomness,
        )
        for entry in entries
    ]
    return _table(("`estimator=`", "", "exactness", "evaluations of f", "randomness"), rows)


def _family(entries: Sequence[Entry]) -> str:
    module = entries[0].module
    head = [f"## {read_heading(module)}", _source(module.__name__), read_introduction(module)]
    blocks = [f"{block}\n" for block in head if block]
    return "\n".join([*blocks, *(_section(entry) for entry in entries)])


def _section(entry: Entry) -> str:
    rule = read_rule(type(entry.built))
    facts = [
        f"Forward: {rule.forward}",
        f"Backward: {rule.backward}",
        f"**{entry.built.exactness}** · evaluations of f a step: {_evaluations(entry)}"
        f" · randomness: {entry.built.randomness}",
        *references(entry),
    ]
    blocks = [
        f"### `{entry.name}`",
        entry.comment,
        f"![{entry.name}: forward and gradient](estimators/{entry.name}.png)",
        rule.premise,
        "\n".join(f"- {fact}" for fact in facts),
        f"```yaml\n{entry.yaml}\n```",
    ]
    return "\n".join(f"{block}\n" for block in blocks if block)


def references(entry: Entry) -> list[str]:
    """Return the references that the class names, as its module spells them out.

    Raises:
        KeyError: The module does not have one of them.
    """
    known = read_references(entry.module)
    return [known[key] for key in read_keys(type(entry.built))]


def _categorical(entries: Sequence[Entry]) -> str:
    rows = []
    for entry in entries:
        rule = read_rule(type(entry.built))
        rows.append(
            (
                f"`{entry.name}`",
                entry.comment,
                f"{rule.premise} {rule.backward}".strip(),
                entry.built.exactness,
                entry.built.randomness,
                "<br>".join(references(entry)),
            )
        )
    head = ("`conf/categorical/`", "", "backward", "exactness", "randomness", "reference")
    package = import_module(entries[0].module.__package__ or "")
    words = read_introduction(import_module(f"{package.__name__}.base"))
    title = f"## {read_heading(package)}\n\n{_source(package.__name__)}\n"
    return "\n".join([title, f"{words}\n", _table(head, rows)])


def _evaluations(entry: Entry) -> str:
    few, more = (entry.built.evaluations(bits) for bits in (_SOME_BITS - 1, _SOME_BITS))
    return str(more) if few == more else f"{more} for {_SOME_BITS} bits"


def _source(module: str) -> str:
    path = f"src/{module.replace('.', '/')}"
    path = path if module.count(".") == 1 else f"{path}.py"
    return f"[{path}](../{path})"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    return "".join(_row(cells) for cells in (head, ["---"] * len(head), *rows))


def _row(cells: Iterable[str]) -> str:
    return f"| {' | '.join(_without_pipes(cell) for cell in cells)} |\n"


def _without_pipes(cell: str) -> str:
    def spelled_out(mathematics: re.Match[str]) -> str:
        return mathematics[0].replace(r"\|", r"\Vert ").replace("|", r"\vert ")

    return re.sub(r"\$`.*?`\$", spelled_out, cell).replace("|", r"\|")
