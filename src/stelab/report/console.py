"""Where tables are printed."""

from rich.console import Console


def console() -> Console:
    """Return the terminal; a file or a pipe gets whole lines, however long."""
    terminal = Console()
    return terminal if terminal.is_terminal else Console(width=200)
