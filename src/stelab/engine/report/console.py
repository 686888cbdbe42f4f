"""The one way of tables and sentences to the terminal: text is shown as text, whoever wrote it."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.text import Text

from stelab.engine.terminal import visible


class PlainConsole(Console):
    """A terminal that takes nothing for markup, emoji or escape codes.

    Names, settings and errors come from the folders of runs, and those from anybody.
    """

    def __init__(self, **options: Any):
        super().__init__(markup=False, emoji=False, highlight=False, **options)

    def render_str(self, text: str, **options: Any) -> Text:
        """Return a text as it stands, with what a terminal would obey as escapes."""
        return super().render_str(visible(text), **options)

    def say(self, text: str, *, colour: str = "") -> None:
        """Print a sentence; a terminal gets it wrapped, a file or a pipe on one line."""
        self.print(coloured(text, colour), soft_wrap=not self.is_terminal)


def console() -> PlainConsole:
    """Return the terminal; a file or a pipe gets whole tables, however wide."""
    terminal = PlainConsole()
    return terminal if terminal.is_terminal else PlainConsole(width=200)


def coloured(text: str, colour: str) -> Text:
    """Return a text in a colour, also for a cell of a table."""
    return Text(visible(text), style=colour)
