"""``hydra/launcher=joblib`` and ``hydra/launcher=gpu``."""

from __future__ import annotations

import os
from typing import Literal

from stelab.arguments import Count, Size, Text
from stelab.engine.errors import InputError
from stelab.engine.launchers.base import OnFailure, StudyLauncher
from stelab.engine.launchers.processes import Processes, jobs_at_once


class JoblibLauncher(StudyLauncher):
    """Runs jobs in worker processes of this machine.

    Args:
        n_jobs: How many at once; auto: as many as leave each one its threads.
        threads: What each one takes.
        retries: See `StudyLauncher`.
        on_failure: See `StudyLauncher`.
    """

    def __init__(
        self,
        *,
        n_jobs: Count | Literal["auto"],
        threads: Count,
        retries: Size,
        on_failure: OnFailure,
    ):
        super().__init__(retries=retries, on_failure=on_failure)
        self.n_jobs = jobs_at_once(threads) if n_jobs == "auto" else n_jobs

    def executor(self) -> Processes:
        """Make what runs the jobs."""
        return Processes([{}] * self.n_jobs)


class GpuLauncher(StudyLauncher):
    """Runs jobs in worker processes, each of which sees one GPU.

    Args:
        devices: Indices or UUIDs; auto: all that are visible.
        per_device: How many jobs share one.
        retries: See `StudyLauncher`.
        on_failure: See `StudyLauncher`.
    """

    def __init__(
        self,
        *,
        devices: list[Size | Text] | Literal["auto"],
        per_device: Count,
        retries: Size,
        on_failure: OnFailure,
    ):
        super().__init__(retries=retries, on_failure=on_failure)
        self.devices = devices
        self.per_device = per_device

    def executor(self) -> Processes:
        """Make what runs the jobs.

        Raises:
            InputError: There is no GPU.
        """
        devices = visible_devices() if self.devices == "auto" else [str(d) for d in self.devices]
        if not devices:
            raise InputError(
                "hydra/launcher=gpu needs a GPU, and none is visible here: use "
                "hydra/launcher=joblib, or name them with hydra.launcher.devices=[0,1]"
            )
        # Round robin: the second job of a device comes after the first one of every device.
        return Processes([{"CUDA_VISIBLE_DEVICES": d} for d in devices * self.per_device])


def visible_devices() -> list[str]:
    """Return what CUDA_VISIBLE_DEVICES names, else all devices of this machine."""
    named = os.environ.get("CUDA_VISIBLE_DEVICES")
    if named is not None:
        return [device.strip() for device in named.split(",") if device.strip()]
    import torch

    return [str(index) for index in range(torch.cuda.device_count())]
