"""metrics.csv of a finished run, read whole or not at all."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from pathlib import Path


def read_curves(path: Path, *, epochs: int | None) -> dict[str, list[float]]:
    """Return its columns; a metric that an epoch does not have is NaN.

    Args:
        path: The file.
        epochs: How many were trained, where that is known: it must have as many rows.

    Raises:
        ValueError: It is not whole: says what is wrong.
    """
    header, *rows = _cells(path)
    if header[:2] != ["epoch", "step"]:
        raise ValueError("it does not begin with epoch,step")
    for i, row in enumerate(rows):
        _check(row, header, epoch=i)
    if not rows or (epochs is not None and len(rows) != epochs):
        raise ValueError(f"it has {len(rows)} epochs, but {epochs} were trained")
    columns = zip(*rows, strict=True)
    return {name: list(map(_number, column)) for name, column in zip(header, columns, strict=True)}


def _cells(path: Path) -> list[list[str]]:
    with path.open(encoding="utf-8", newline="") as file:
        text = file.read()
    if not text:
        raise ValueError("it is empty")
    if not text.endswith("\n"):
        raise ValueError("its last line is cut off")
    try:
        return list(csv.reader(text.split("\n")[:-1]))
    except csv.Error as error:
        raise ValueError(str(error)) from error


def _check(row: Sequence[str], header: Sequence[str], *, epoch: int) -> None:
    line = f"line {epoch + 2}"
    if len(row) != len(header):
        raise ValueError(f"{line} has {len(row)} fields, the header {len(header)}")
    if row[0] != str(epoch):
        raise ValueError(f"{line} is of epoch {row[0]}, expected {epoch}")
    if not row[1].isdecimal() or len(row[1]) > 15:  # a float holds 15 digits
        raise ValueError(f"{line} is of step {row[1]}")


def _number(cell: str) -> float:
    value = float(cell or "nan")
    if cell and not math.isfinite(value):
        raise ValueError(f"{cell} is not a finite number")
    return value
