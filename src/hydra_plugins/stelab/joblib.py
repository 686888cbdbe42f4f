"""``hydra/launcher=joblib`` and ``hydra/launcher=gpu``."""

import os
from typing import Literal

from stelab.arguments import Count, Size, Text
from stelab.engine.errors import InputError
from stelab.engine.launchers.base import StudyLauncher
from stelab.engine.launchers.mps import share
from stelab.engine.launchers.processes import Processes, jobs_at_once
from stelab.engine.launchers.schedule import OnFailure


class JoblibLauncher(StudyLauncher):
    """Runs jobs in worker processes: `n_jobs` at once, or as many as leave each its `threads`."""

    forks = True

    def __init__(
        self,
        *,
        n_jobs: Count | Literal["auto"],
        threads: Count | Literal["auto"],
        retries: Size,
        on_failure: OnFailure,
    ):
        super().__init__(retries=retries, on_failure=on_failure)
        self.n_jobs = jobs_at_once(threads) if n_jobs == "auto" else n_jobs

    def _executor(self, most: int | None) -> Processes:
        return Processes([{}] * (self.n_jobs if most is None else min(self.n_jobs, most)))


class GpuLauncher(StudyLauncher):
    """Runs jobs in worker processes, each of which sees one GPU; `per_device` share one."""

    forks = True

    def __init__(
        self,
        *,
        devices: list[Size | Text] | Literal["auto"],  # indices or UUIDs; all that are visible
        per_device: Count,
        retries: Size,
        on_failure: OnFailure,
    ):
        super().__init__(retries=retries, on_failure=on_failure)
        self.devices, self.per_device = devices, per_device

    def _executor(self, most: int | None) -> Processes:
        if self.devices != "auto":
            devices = [str(device) for device in self.devices]
        elif (named := os.environ.get("CUDA_VISIBLE_DEVICES")) is not None:
            devices = [device.strip() for device in named.split(",") if device.strip()]
        else:
            import torch

            devices = [str(index) for index in range(torch.cuda.device_count())]
        if not devices:
            raise InputError(
                "hydra/launcher=gpu needs a GPU, and none is visible here: use "
                "hydra/launcher=joblib, or name them with hydra.launcher.devices=[0,1]"
            )
        # Round robin: the second job of a device comes after the first one of every device.
        slots = (devices * self.per_device)[:most]
        shared = share(dict.fromkeys(device for device in slots if slots.count(device) > 1))
        seen = {device: {"CUDA_VISIBLE_DEVICES": device} for device in slots}
        seen |= {device: gpu.environment for device, gpu in shared.items()}
        return Processes([seen[device] for device in slots], gpus=[*shared.values()])
