"""metrics.csv, row by row."""

from pathlib import Path

from stelab.lab.training import MetricsFile


def test_rows_merge_by_epoch_and_timings_stay_out(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    table = MetricsFile(path=str(path))
    table.log_metrics({"val/loss": 0.5, "epoch": 0}, step=9)
    table.log_metrics({"train/loss": 0.1, "time/images_per_s": 7.0, "epoch": 0}, step=9)
    table.log_metrics({"train/loss_step": 0.3, "epoch": 1}, step=12)
    table.log_metrics({"train/loss": 0.05, "epoch": 1}, step=19)
    table.log_metrics({"test/loss": 1 / 3, "epoch": 2}, step=20)
    assert path.read_text().splitlines() == [
        "epoch,step,test/loss,train/loss,val/loss",
        "0,10,,0.1,0.5",
        f"1,20,{1 / 3},0.05,",
    ]


def test_another_process_continues_the_file(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    MetricsFile(path=str(path)).log_metrics({"train/loss": 0.1, "epoch": 0}, step=9)
    before = path.read_text()
    MetricsFile(path=str(path)).log_metrics({"train/loss": 0.1 + 0.2, "epoch": 1}, step=19)
    assert path.read_text() == before + f"1,20,{0.1 + 0.2}\n"


def test_lightning_is_told_the_files_name(tmp_path: Path) -> None:
    table = MetricsFile(path=str(tmp_path / "metrics.csv"))
    assert (table.name, table.version) == ("metrics.csv", "")
