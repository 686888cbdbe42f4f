"""Tables of runs that others made: what of them is compared, left out and refused."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from stelab.engine.comparison import compare
from stelab.engine.errors import InputError
from stelab.engine.studies import load
from stelab.engine.studies.cells import read_cells

# As Weights & Biases exports a table of runs.
WANDB = """\
"Name","State","User","Runtime","method","config/lr","seed","train_loss","test_loss"
"a","finished","me","12","ours","0.001","0","0.1","0.25"
"b","finished","me","13","ours","0.001","1","0.1","0.5"
"c","finished","me","12","base","0.01","0","0.1","0.75"
"c","finished","me","12","base","0.01","1","0.1","1.25"
"d","crashed","me","1","base","0.01","2","","0.5"
"e","finished","me","1","base","0.01","3","NaN","1"
"""


@pytest.fixture
def theirs(tmp_path: Path) -> Path:
    path = tmp_path / "theirs.csv"
    path.write_text("\ufeff" + WANDB.replace("\n", "\r\n"), encoding="utf-8")  # as Excel saves it
    return path


def test_a_table_is_compared_as_it_is(theirs: Path) -> None:
    study = load(theirs)
    assert set(study.runs["study"]) == {"theirs"}
    assert list(study.runs["run"]) == ["a", "b", "c (row 3)", "c (row 4)", "d", "e"]
    assert list(study.runs["timings.seconds"]) == [12, 13, 12, 12, 1, 1]
    assert study.left_out.values.tolist() == [
        ["theirs", "d", "crashed", ""],
        ["theirs", "e", "broken", "train_loss is nan"],
    ]
    assert study.swept == ("lr",)  # which wandb marks
    comparison = compare(study, by=["method"], metrics=["test_loss"], baseline="base")
    assert comparison.table[["group", "n", "mean", "pairs", "difference"]].values.tolist() == [
        ["method=ours", 2, 0.375, 2, -0.625],
        ["method=base", 2, 1.0, 0, pytest.approx(float("nan"), nan_ok=True)],
    ]
    by_lr = compare(study, metrics=["test_loss"])
    assert list(by_lr.table["group"]) == ["lr=0.001", "lr=0.01"]


def test_columns_have_our_names(theirs: Path) -> None:
    names = {"test_loss": "test/mse", "method": "estimator", "train_loss": "train/loss"}
    study = load(theirs, columns=names)
    assert study.swept == ("estimator", "lr")
    comparison = compare(study)  # by the headline
    assert comparison.metrics == ("test/mse",)
    assert [group.label for group in comparison.groups] == ["ours, lr=0.001", "base, lr=0.01"]
    with pytest.raises(
        InputError, match="no table has a column tst_loss; did you mean 'test_loss'"
    ):
        load(theirs, columns={"tst_loss": "test/mse"})
    with pytest.raises(InputError, match="several columns lr: rename"):
        load(theirs, columns={"method": "lr"})


def test_parquet_and_mlflow(tmp_path: Path) -> None:
    table = pd.DataFrame(
        {
            "run_id": ["x", "y"],
            "status": ["FINISHED", "FAILED"],
            "params.lr": ["0.1", "0.2"],
            "metrics.test/acc": [0.5, None],
            "seed": [0, 1],
            "when": pd.to_datetime(["2026-01-01", "2026-01-02"]),
        }
    )
    table.to_parquet(tmp_path / "t.parquet")
    study = load(tmp_path / "t.parquet")
    assert study.swept == ("lr",)
    assert list(study.runs["run"]) == ["row1", "row2"]
    assert list(study.finished["test/acc"]) == [0.5]
    assert list(study.left_out["state"]) == ["failed"]


def test_cells_are_numbers_or_texts(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(
        "run,int,float,mixed,flag,gone,text,big,\n"
        "007,1,1,1,True,,=1+2,1e400,x\n"
        "8,2,,auto,False,,a\x1b[2J,-.5e3,x\n"
    )
    table = read_cells(path).table
    assert list(table["run"]) == ["007", "8"]
    assert list(table["int"]) == [1, 2]
    assert table["float"].isna().tolist() == [False, True]
    assert list(table["mixed"]) == ["1", "auto"]
    assert list(table["flag"]) == [True, False]
    assert table["gone"].isna().all()
    assert list(table["text"]) == ["=1+2", "a\\x1b[2J"]
    assert list(table) == ["run", "int", "float", "mixed", "flag", "gone", "text", "big"]
    assert read_cells(path).problems == {0: "big is inf"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is empty"),
        (b"a,b\n", "holds no runs: it has no row below its header"),
        (b"a,b\n1\n", "row 1 has 1 cells, the header 2"),
        (b"a,a\n1,2\n", "it has several columns a"),
        (b"a\xff,b\n1,2\n", "cannot be read as a table"),
        (b"a\x1b,b\n1,2\n", "cannot be the name of a column"),
        (b"a" * 300 + b",b\n1,2\n", "cannot be the name of a column"),
        (b"," * 2001 + b"\n", "cannot be read as a table|holds no runs"),
        (b'a,b\n"' + b"x" * 200_000 + b'",1\n', "field larger than field limit"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (path := tmp_path / "t.csv").write_bytes(content)
    with pytest.raises(InputError, match=message) as refused:
        load(path)
    assert "t.csv" in str(refused.value)
    assert len(str(refused.value).splitlines()) == 1
    if content:
        path.rename(other := tmp_path / "t.parquet")
        with pytest.raises(InputError, match="t.parquet cannot be read as a table"):
            load(other)
