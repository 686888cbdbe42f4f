"""A study as tables: a row a run, a row an epoch of a run, and what cannot be compared, and why."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd
from typing_extensions import Self

from stelab.engine.files import write_atomically
from stelab.engine.studies.headline import Headline

TABLES = ("runs", "curves", "left_out")
LEFT_OUT = ("study", "run", "state", "reason")  # columns of the last


@dataclass(frozen=True)
class Study:
    """All that one or several studies say.

    Attributes:
        runs: One row a run whose run.json and config.yaml are sound, sorted by study and run:
            `study`, `run`, `status`, the names of its groups, every swept setting, `seed`,
            `effect` (the metric that is 0 where what sets the run apart does nothing), `epochs`
            (trained), the final metrics (which have a slash), `timings.*`, `machine.*`,
            `git.*`, `versions.*`, `tags` (where a run has any), `fingerprint` (of config.yaml),
            `edited` (run.json has another one), `headline` and `better` (the metric of its task,
            without its split), `swept` (what is swept, with commas), `folder`. A setting that a
            run does not have is missing.
        curves: One row an epoch of a finished run: `study`, `run`, `epoch` (from 1), `step` and
            the metrics.
        left_out: One row a run or folder that cannot be compared, or unreadable list of a sweep:
            `study`, `run`, `state` and `reason`.
    """

    runs: pd.DataFrame
    curves: pd.DataFrame
    left_out: pd.DataFrame
    swept: tuple[str, ...]  # settings in which the runs differ, such as "threshold.value"

    def headline(self, runs: pd.DataFrame) -> Headline | None:
        """Return the headline metric that rows of `runs` share; None where they have several."""
        stated = runs.reindex(columns=["headline", "better"]).dropna().drop_duplicates()
        return Headline.shared(Headline(*row) for row in stated.itertuples(index=False, name=None))

    @property
    def finished(self) -> pd.DataFrame:
        """The rows of runs that can be compared: all that are not in `left_out`."""
        left_out = pd.MultiIndex.from_frame(self.left_out[["study", "run"]])
        rows = pd.MultiIndex.from_frame(self.runs[["study", "run"]])
        return self.runs[~rows.isin(left_out)]

    def only(self, studies: Collection[str]) -> Self:
        """Return the tables of some of the studies."""
        tables = ((name, getattr(self, name)) for name in TABLES)
        return replace(self, **{n: table[table["study"].isin(studies)] for n, table in tables})

    def write(self, folder: Path) -> None:
        """Write ``runs``, ``curves`` and ``left_out``, each as .csv and as .parquet."""
        for name in TABLES:
            write_table(getattr(self, name), folder / name)


def write_table(table: pd.DataFrame, path: Path) -> None:
    """Write a table as ``<path>.csv`` and ``<path>.parquet``, whatever had these names before."""
    write_atomically(path.with_name(f"{path.name}.csv"), table.to_csv(index=False))
    write_atomically(path.with_name(f"{path.name}.parquet"), table.to_parquet(index=False))


def one_type_a_column(table: pd.DataFrame) -> pd.DataFrame:
    """Write as texts what is of several types in one column, which Parquet does not have."""
    for name in table.columns:
        if pd.api.types.infer_dtype(table[name]) in ("mixed", "mixed-integer"):
            table[name] = [v if pd.isna(v) else str(v) for v in table[name]]
    return table
