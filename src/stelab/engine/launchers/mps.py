"""Processes that compute on one GPU at the same time, through NVIDIA's Multi-Process Service.

Without it a GPU serves one process after the other, each for a while, however little of it one
fills. Its daemon is the command ``nvidia-cuda-mps-control``. A GPU has one of its own here, with
folders of its own: what breaks it takes no other GPU's processes along, a part of a GPU (MIG) can
have none else, and whatever other daemon runs on the machine is left alone.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from stelab.engine.terminal import visible

CONTROL = "nvidia-cuda-mps-control"
_PIPES = "CUDA_MPS_PIPE_DIRECTORY"
# It waits for the end of its input, which comes when its driver lets go of it, however that ends.
_GUARD = f'cat; echo quit | {CONTROL}; rm -rf "$1"'


class SharedGpu:
    """A GPU with a daemon, which ends with `close`, or else with this process.

    Attributes:
        environment: What a process that shares the GPU needs: the only one that it sees.

    Args:
        device: Its index or UUID.

    Raises:
        OSError: The daemon is not there, or did not start.
    """

    def __init__(self, device: str):
        if shutil.which(CONTROL) is None:
            raise OSError(f"{CONTROL} is not on the PATH")
        folder = tempfile.mkdtemp(prefix="mps-")  # a short path, as those of sockets must be
        paths = {_PIPES: f"{folder}/pipe", "CUDA_MPS_LOG_DIRECTORY": f"{folder}/log"}
        for path in paths.values():
            Path(path).mkdir()
        self.environment = {"CUDA_VISIBLE_DEVICES": "0", **paths}  # the daemon's first
        # Both in a session of their own, which no Ctrl-C reaches.
        own = {"env": {**os.environ, **paths, "CUDA_VISIBLE_DEVICES": device}}
        options: dict[str, Any] = {**own, "start_new_session": True, "stderr": subprocess.STDOUT}
        with Path(folder, "said").open("w+", encoding="utf-8", errors="replace") as said:
            started = subprocess.run([CONTROL, "-d"], stdout=said, **options)
            said.seek(0)
            line = said.readline().strip() or f"exit code {started.returncode}"
        if started.returncode:
            shutil.rmtree(folder)
            raise OSError(f"{CONTROL} -d: {line}")
        options |= {"stdin": subprocess.PIPE, "stdout": subprocess.DEVNULL}
        self._guard = subprocess.Popen(["sh", "-c", _GUARD, "sh", folder], **options)

    def close(self) -> None:
        """Let the daemon end once no process uses it, and wait for that."""
        self._guard.communicate()


def share(devices: Iterable[str]) -> dict[str, SharedGpu]:
    """Start a daemon for each, or say why not: then processes take turns on those that are left.

    Nothing is started where somebody else has: the variable that names another daemon's folder is
    set, and the processes find it.
    """
    gpus: dict[str, SharedGpu] = {}
    if _PIPES in os.environ:
        return gpus
    try:
        for device in devices:
            gpus[device] = SharedGpu(device)
    except OSError as error:
        print(visible(f"jobs that share a GPU take turns on it: {error}"), file=sys.stderr)
    return gpus
