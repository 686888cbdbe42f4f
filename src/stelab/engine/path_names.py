"""Names: several in one text, and those that become folders and files."""

import re

MOST = 100  # bytes of a name in a configuration: a run id joins several, file systems have 255

_FORBIDDEN = r'[\x00-\x1f\x7f<>:"/\\|?*]'  # by some file system


def split_commas(text: str | None) -> list[str]:
    """Split ``a,b`` into its names; None gives an empty list."""
    return [name.strip() for name in (text or "").split(",") if name.strip()]


def path_name(text: str, *, most: int = 200) -> str:
    """Make a text one component of a path: ``_`` for what is forbidden, at most `most` bytes."""
    name = re.sub(_FORBIDDEN, "_", text).encode(errors="replace").decode()
    if len(name.encode()) > most:
        name = name.encode()[: most - 3].decode(errors="ignore") + "…"
    return f"_{name}" if name.strip(".") == "" else name


def is_path_name(text: str, *, most: int = 255) -> bool:
    """Whether a text is one component of a path, so that it leads out of no folder."""
    return path_name(text, most=most) == text
