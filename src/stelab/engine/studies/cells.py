"""Tables of cells that anybody may have written, CSV or Parquet: numbers and plain texts."""

import csv
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from stelab.engine.errors import InputError, first_line
from stelab.engine.files import read_bounded
from stelab.engine.studies.run_format import is_finite, is_name
from stelab.engine.terminal import brief, shortened, visible

_MAX_BYTES, _MAX_CELLS, _MAX_COLUMNS = 2**26, 10**7, 2000
_NUMBER = re.compile(r"[+-]?((\d+\.?\d*|\.\d+)(e[+-]?\d+)?|nan|inf(inity)?)", re.IGNORECASE)
# Columns of texts, though a hash may look like a number, and a version like another one.
_TEXTS = re.compile(
    r"(study|run|Name|status|fingerprint|timings\.(started|ended)|(machine|git|versions)\..*)"
)


@dataclass(frozen=True)
class Cells:
    """A table, and why rows of it, by their positions, have a number that is none."""

    table: pd.DataFrame
    problems: dict[int, str]


def read_cells(path: Path) -> Cells:
    """Read a table; a missing cell is NaN or None, and one that says NaN is a problem."""
    try:
        columns = _parquet(path) if path.suffix == ".parquet" else _csv(path)
        if len(columns) > _MAX_COLUMNS:
            raise ValueError(f"it has more than {_MAX_COLUMNS} columns")
        if strange := [name for name in columns if not is_name(name)]:
            raise ValueError(f"{brief(visible(repr(strange[0])))} cannot be the name of a column")
    except (OSError, ValueError, NotImplementedError, csv.Error) as error:
        why = first_line(error)
        raise InputError(f"{visible(str(path))} cannot be read as a table: {why}") from error
    problems = {
        i: f"{name} is {value}"
        for name, values in columns.items()
        for i, value in enumerate(values)
        if isinstance(value, float) and not is_finite(value)
    }
    series = {k: pd.Series(v, dtype=None if v else object) for k, v in columns.items()}
    return Cells(pd.DataFrame(series), problems)


def _csv(path: Path) -> dict[str, list[Any]]:
    text = read_bounded(path, limit=_MAX_BYTES).decode("utf-8-sig")
    if text.count(",") + text.count("\n") > _MAX_CELLS:
        raise ValueError(f"it has more than {_MAX_CELLS} cells")
    header, *rows = [row for row in csv.reader(io.StringIO(text, newline="")) if row] or [[]]
    if not header:
        raise ValueError("it is empty")
    for number, row in enumerate(rows, start=1):
        if len(row) != len(header):
            raise ValueError(f"row {number} has {len(row)} cells, the header {len(header)}")
    if twice := [name for name in header if name and header.count(name) > 1]:
        raise ValueError(f"it has several columns {brief(visible(twice[0]))}")
    columns = zip(header, zip(*rows, strict=True) if rows else [()] * len(header), strict=True)
    return {name: _values(name, cells) for name, cells in columns if name}  # an index has none


def _values(name: str, cells: Sequence[str]) -> list[Any]:
    """Return what a column of text holds: truth values, numbers, or texts; None where nothing."""
    known = {cell for cell in cells if cell}
    if known and known <= {"True", "False"}:
        return [cell == "True" if cell else None for cell in cells]
    if not _TEXTS.fullmatch(name) and known and all(map(_is_number, known)):
        whole = all(cell.lstrip("+-").isdecimal() and len(cell) < 19 for cell in cells)
        return [int(cell) if whole else float(cell) if cell else None for cell in cells]
    return [visible(shortened(cell)) if cell else None for cell in cells]


def _is_number(cell: str) -> bool:
    return len(cell) < 100 and _NUMBER.fullmatch(cell) is not None


def _parquet(path: Path) -> dict[str, list[Any]]:
    from pyarrow import parquet

    with parquet.ParquetFile(path) as file:
        about = file.metadata
        sizes = [about.row_group(i).total_byte_size for i in range(about.num_row_groups)]
        if about.num_rows * about.num_columns > _MAX_CELLS or sum(sizes) > _MAX_BYTES:
            raise ValueError(f"it has more than {_MAX_CELLS} cells, or {_MAX_BYTES} bytes")
        table = file.read()
    columns = zip(table.column_names, table.columns, strict=True)
    return {n: [_plain(n, value) for value in column.to_pylist()] for n, column in columns}


def _plain(name: str, value: Any) -> Any:
    """Return a value as a CSV would have it; NaN is how pandas writes that there is none."""
    if value is None or value != value:
        return None
    is_text = _TEXTS.fullmatch(name) or not isinstance(value, bool | int | float)
    return visible(shortened(str(value))) if is_text else value
