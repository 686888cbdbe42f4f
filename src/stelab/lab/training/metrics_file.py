"""metrics.csv: one row an epoch."""

import csv
import io
from argparse import Namespace
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers import Logger
from pytorch_lightning.utilities import rank_zero_only

from stelab.arguments import Text, checked
from stelab.engine.files import require_file, write_atomically


class MetricsFile(Logger):
    """Writes every epoch's metrics to a CSV file, one row an epoch, rewritten atomically.

    Lightning's own CSVLogger writes a row a logging call, and deletes the file when a run is
    continued. Timings (``time/*``) are left to TensorBoard: two runs of one configuration write
    the same file, byte for byte. The columns are `epoch` (from 0), `step` (optimizer steps taken)
    and the metrics, of several validations within an epoch the last; test metrics stand in the last
    epoch's row.

    Args:
        path: The file.

    Raises:
        InputError: It cannot be written.
    """

    @checked
    def __init__(self, *, path: Text):
        super().__init__()
        self.path = Path(path)
        require_file(self.path)
        self.rows: dict[int, dict[str, float]] = {}

    @property
    def name(self) -> str:
        """Return the file's name."""
        return self.path.name

    @property
    def version(self) -> str:
        """Return nothing: there is one file a run."""
        return ""

    def log_hyperparams(self, params: dict[str, Any] | Namespace, *_: Any, **kwargs: Any) -> None:
        """Do nothing: config.yaml has them."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Merge `metrics` into the row of their epoch."""
        kept = {
            name: value
            for name, value in metrics.items()
            if name.partition("/")[0] not in ("time", "epoch") and not name.endswith("_step")
        }
        if not kept:
            return
        if not self.rows and self.path.exists():
            self._read()  # what another process, or an earlier part of the run, wrote
        if all(name.startswith("test/") for name in kept):
            self.rows.setdefault(max(self.rows, default=0), {}).update(kept)
        else:
            row = self.rows.setdefault(int(metrics["epoch"]), {"step": 0})
            row |= {"step": max(row["step"], (step or 0) + 1), **kept}
        names = sorted({name for row in self.rows.values() for name in row} - {"step"})
        text = io.StringIO()
        table = csv.DictWriter(text, ["epoch", "step", *names], lineterminator="\n")
        table.writeheader()
        table.writerows({"epoch": epoch, **row} for epoch, row in sorted(self.rows.items()))
        write_atomically(self.path, text.getvalue())

    def _read(self) -> None:
        with self.path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                epoch = int(row.pop("epoch"))
                self.rows[epoch] = {
                    name: int(value) if name == "step" else float(value)
                    for name, value in row.items()
                    if value
                }
