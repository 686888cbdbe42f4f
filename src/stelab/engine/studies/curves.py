"""metrics.csv of a finished run, read whole or not at all."""

import csv
from array import array
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from stelab.engine.files import read_bounded
from stelab.engine.studies.run_format import is_finite, is_name
from stelab.engine.terminal import brief

Curves = dict[str, "array[float]"]

# Beyond a hundred thousand epochs of a hundred metrics.
MAX_BYTES, _MAX_FIELDS, _MAX_CELLS = 64 * 2**20, 300, 10**7

_TAKEN = ("study", "run", "group", "replicate")  # columns that a table of curves has besides


def read_curves(path: Path, *, epochs: int | None) -> Curves:
    """Return its columns, NaN where a metric is missing; ValueError says why it is not whole."""
    rows = _rows(path)
    header = next(rows)
    if header[:2] != ["epoch", "step"]:
        raise ValueError("it does not begin with epoch,step")
    for name, times in Counter(header).items():
        if times > 1:
            raise ValueError(f"it has {times} columns {brief(name)}")
        if not is_name(name) or name in _TAKEN:
            raise ValueError(f"{brief(name)!r} cannot be the name of a metric")
    columns = [array("d") for _ in header]
    for epoch, row in enumerate(rows):
        line = f"line {epoch + 2}"
        if len(row) != len(header):
            raise ValueError(f"{line} has {len(row)} fields, the header {len(header)}")
        if row[0] != str(epoch):
            raise ValueError(f"{line} is of epoch {brief(row[0])}, expected {epoch}")
        if not row[1].isdecimal() or len(row[1]) > 15:  # a float holds 15 digits
            raise ValueError(f"{line} is of step {brief(row[1])}")
        for column, cell in zip(columns, row, strict=True):
            column.append(_number(cell))
    count = len(columns[0])
    if not count or (epochs is not None and count != epochs):
        raise ValueError(f"it has {count} epochs, but {epochs} were trained")
    return dict(zip(header, columns, strict=True))


def _rows(path: Path) -> Iterator[list[str]]:
    text = read_bounded(path, limit=MAX_BYTES).decode()
    if not text:
        raise ValueError("it is empty")
    if not text.endswith("\n"):
        raise ValueError("its last line is cut off")
    lines = text.split("\n")[:-1]
    if len(lines) * (lines[0].count(",") + 1) > _MAX_CELLS:
        raise ValueError(f"it has more than {_MAX_CELLS} fields")
    if any(line.count(",") >= _MAX_FIELDS for line in lines):
        raise ValueError(f"a line has more than {_MAX_FIELDS} fields")
    try:
        yield from csv.reader(lines)
    except csv.Error as error:
        raise ValueError(str(error)) from error


def _number(cell: str) -> float:
    if not cell:
        return float("nan")
    try:
        value = float(cell)
    except ValueError:
        raise ValueError(f"{brief(cell)!r} is not a number") from None
    if not is_finite(value):
        raise ValueError(f"{brief(cell)} is not a finite number")
    return value
