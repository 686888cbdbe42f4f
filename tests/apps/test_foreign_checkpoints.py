"""A checkpoint that would run code, behind every command that reads one."""

from __future__ import annotations

import hashlib
import io
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from stelab.apps.main import main
from stelab.engine.studies import Run


class Payload:
    def __reduce__(self) -> Any:
        return os.mkdir, ("canary",)


def hostile() -> bytes:
    """Return an archive with a checksum, which anyone can compute."""
    buffer = io.BytesIO()
    torch.save({"state_dict": Payload()}, buffer)
    body = buffer.getvalue()[:-2] + (71).to_bytes(2, "little")
    return body + b"sha256:" + hashlib.sha256(body).hexdigest().encode()


@pytest.fixture
def run(tmp_path: Path, trained: Run, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "codes.npy").write_bytes(b"precious")
    folder = Path("outputs", "study", trained.name)
    shutil.copytree(trained.folder, folder)
    for name in ("last", "best"):
        (folder / "checkpoints" / f"{name}.ckpt").write_bytes(hostile())
    return folder


@pytest.mark.parametrize(
    "command",
    [
        "evaluate run={run}",
        "evaluate run={run} checkpoint=best",
        "encode run={run} output=new.npy",
        "encode run={run} overwrite=true",
        "decode run={run}",
        "gradients problem=autoencoder run={run}",
        "tensorboard study=study embeddings=true serve=false",
    ],
)
def test_no_code_runs_and_one_line_says_so(
    command: str, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main(command.format(run=run).split())
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{run.name}/checkpoints/" in line
    assert "is damaged: it names posix.mkdir, which is no plain value" in line
    assert (tmp_path / "codes.npy").read_bytes() == b"precious"
    assert {path.name for path in tmp_path.iterdir()} == {"codes.npy", "outputs"}


def test_compare_shows_the_run_and_leaves_out_its_images(run: Path, tmp_path: Path) -> None:
    main(["compare", "study=study"])
    (report,) = tmp_path.rglob("report.html")
    assert run.name in report.read_text(encoding="utf-8")
    assert not (tmp_path / "canary").exists()


def test_the_payload_would_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.load(io.BytesIO(hostile()), weights_only=False)
    assert (tmp_path / "canary").is_dir()
