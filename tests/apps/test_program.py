"""How the process of a command ends, and what memory it took."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from stelab.engine.studies import Run

ENDING = """
import atexit, logging.handlers, sys, threading, time
from stelab import __main__

class Destroyed:
    def __del__(self):
        print("destroyed")

def main():
    globals()["held"] = Destroyed()
    logging.getLogger().addHandler(logging.handlers.MemoryHandler(9, target=Told()))
    atexit.register(print, "at exit")
    threading.Thread(target=lambda: (time.sleep(0.2), print("thread"))).start()
    logging.warning("logged")
    sys.exit(3)

class Told(logging.Handler):
    def emit(self, record):
        print(record.getMessage())

__main__.main = main
__main__.program()
"""


def test_all_but_destructors_comes_before_the_end() -> None:
    command = [sys.executable, "-c", ENDING]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (3, "")
    assert ended.stdout == "thread\nat exit\nlogged\n"


# A small process between this one and the command: a child's peak begins with its parent's.
PEAK = """
import os, sys
pid = os.posix_spawn(sys.executable, [sys.executable, "-m", "stelab", *sys.argv[1:]], os.environ)
_, status, usage = os.wait4(pid, 0)
print(usage.ru_maxrss / 1024)
sys.exit(os.waitstatus_to_exitcode(status))
"""


@pytest.mark.parametrize(
    "command",
    [
        "evaluate run=outputs/{study}/{run}",
        "encode run=outputs/{study}/{run}",
        "compare study={study} replicates=seed",
        "tensorboard study={study} replicates=seed serve=false embeddings=true",
    ],
)
def test_what_reads_a_run_takes_less_than_a_gibibyte(
    command: str, trained: Run, tmp_path: Path
) -> None:
    study = trained.folder.parent
    shutil.copytree(study, tmp_path / "outputs" / study.name)
    words = command.format(study=study.name, run=trained.folder.name).split()
    process = [sys.executable, "-S", "-c", PEAK, *words]
    ended = subprocess.run(process, cwd=tmp_path, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    assert float(ended.stdout.split()[-1]) < 1024
