"""Per-process state of a run, kept in one checkpoint."""

from __future__ import annotations

from typing import Any

from torch import distributed


def gather(value: Any) -> list[Any]:
    """Return what each process passed, by rank; all must call it."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return [value]
    values: list[Any] = [None] * distributed.get_world_size()
    distributed.all_gather_object(values, value)
    return values


def own(values: list[Any]) -> list[Any]:
    """Return this process's share of what `gather` returned, also under another world size."""
    if not (distributed.is_available() and distributed.is_initialized()):
        return values
    return values[distributed.get_rank() :: distributed.get_world_size()]


def leave() -> None:
    """End this process's part in the group, once no other one waits for it.

    Python's end is too late: a thread of gloo that still holds a tensor of the last reduction then
    frees it in an interpreter that is gone, and the process aborts with all its work done.
    """
    if distributed.is_available() and distributed.is_initialized():
        distributed.destroy_process_group()
