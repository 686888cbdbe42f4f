"""hydra/launcher=gpu and NVIDIA's Multi-Process Service, whose command line a script plays here."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sweeps import Sweep

from stelab.engine.launchers.mps import CONTROL, share
from stelab.engine.launchers.processes import Processes
from waiting import wait_until
from zygote import Zygote

# Keeps a line for each thing that it is told, and a process, the daemon, until it is told "quit":
# that command returns once the daemon has ended, as NVIDIA's does.
DAEMON = f"""#!/bin/sh
pipe=$CUDA_MPS_PIPE_DIRECTORY
told() {{ echo "$1 $CUDA_VISIBLE_DEVICES $pipe $CUDA_MPS_LOG_DIRECTORY" >>"$(dirname $0)/told"; }}
if [ "$1" = -d ]; then
    told -d
    mkfifo "$pipe/control" "$pipe/end" && sh -c '
        read line <"$1/control"
        echo "ended" >>"$2/told"
        : >"$1/end"' {CONTROL} "$pipe" "$(dirname $0)" &
else
    read line
    told "$line"
    echo "$line" >"$pipe/control"
    read end <"$pipe/end"
fi
"""


class Daemons:
    """A folder for the PATH with the command, and what the command was told."""

    def __init__(self, folder: Path):
        folder.mkdir()
        self.folder = folder
        self.path = f"{folder}{os.pathsep}{os.environ['PATH']}"
        (folder / CONTROL).write_text(DAEMON)
        (folder / CONTROL).chmod(0o755)

    def told(self) -> list[list[str]]:
        file = self.folder / "told"
        return [line.split() for line in file.read_text().splitlines()] if file.exists() else []

    def assert_over(self, *devices: str) -> None:
        """Each was started for its device, told to quit, and has ended; no folder is left."""
        lines = self.told()
        started, quit_ = ([rest for word, *rest in lines if word == w] for w in ("-d", "quit"))
        assert [device for device, *_ in started] == [*devices]
        assert sorted(started) == sorted(quit_)
        assert lines.count(["ended"]) == len(devices)
        paths = {path for _, *own in started for path in own}
        assert len(paths) == 2 * len(devices)
        assert not any(Path(path).parent.exists() for path in paths)


@pytest.fixture
def daemons(tmp_path: Path) -> Iterator[Daemons]:
    yield Daemons(tmp_path / "bin")


def test_gpus_are_shared_round_robin_each_with_a_daemon(
    zygote: Zygote, tmp_path: Path, daemons: Daemons
) -> None:
    sweep = Sweep(tmp_path, {"PATH": daemons.path}, zygote=zygote)
    options = ("hydra/launcher=gpu", "hydra.launcher.devices=[4,7]", "hydra.launcher.per_device=2")
    code, output = sweep.run("seed=0,1,2", *options, "estimator.sleep=0.5")
    assert code == 0, output
    assert "take turns" not in output
    daemons.assert_over("4")
    (_, *folders), *_ = (rest for word, *rest in daemons.told() if word == "-d")
    seen = sorted(note.read_text().split() for note in sweep.notes.iterdir())
    assert seen == [["0", *folders], ["0", *folders], ["7"]]  # 7 had one job, and no daemon


SHARE = """
import os, signal
from stelab.engine.launchers.mps import share
gpus = share(["3", "GPU-8f"])
print(*gpus, flush=True)
signal.pause()
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGKILL"])
def test_no_daemon_outlives_a_driver_however_it_ends(daemons: Daemons, name: str) -> None:
    command = [sys.executable, "-c", SHARE]
    environment = {**os.environ, "PATH": daemons.path}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as driver:
        assert driver.stdout is not None
        assert driver.stdout.readline().split() == ["3", "GPU-8f"]
        assert [word for word, *_ in daemons.told()] == ["-d", "-d"]
        driver.send_signal(getattr(signal, name))
    wait_until(lambda: daemons.told().count(["ended"]) == 2)
    folders = [Path(rest[1]).parent for word, *rest in daemons.told() if word == "-d"]
    wait_until(lambda: not any(folder.exists() for folder in folders))
    daemons.assert_over("3", "GPU-8f")


def test_what_stops_the_workers_stops_the_daemons(
    monkeypatch: pytest.MonkeyPatch, daemons: Daemons
) -> None:
    """As a sweep does at its end, at Ctrl-C and at SIGTERM."""
    monkeypatch.setenv("PATH", daemons.path)
    shared = share(["0", "1"])
    environments = [gpu.environment for gpu in shared.values()]
    Processes(2 * environments, gpus=[*shared.values()]).stop()
    daemons.assert_over("0", "1")


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (None, f"{CONTROL} is not on the PATH"),
        ("echo An instance of this daemon is already running; exit 1", "An instance of this"),
        ("exit 3", f"{CONTROL} -d: exit code 3"),
    ],
)
def test_without_a_daemon_jobs_take_turns(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    daemons: Daemons,
    script: str | None,
    reason: str,
) -> None:
    monkeypatch.setenv("PATH", daemons.path if script else str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "bin"))
    if script:
        (daemons.folder / CONTROL).write_text(f"#!/bin/sh\n{script}\n")
    assert share(["0", "1"]) == {}
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("jobs that share a GPU take turns on it: ")
    assert reason in line
    assert [path.name for path in daemons.folder.iterdir()] == [CONTROL]  # and no folder


def test_a_daemon_that_is_there_is_used(monkeypatch: pytest.MonkeyPatch, daemons: Daemons) -> None:
    monkeypatch.setenv("PATH", daemons.path)
    monkeypatch.setenv("CUDA_MPS_PIPE_DIRECTORY", "/somewhere")
    assert share(["0"]) == {}
    assert not daemons.told()
