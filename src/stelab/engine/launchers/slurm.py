"""Jobs submitted to SLURM."""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from stelab.engine.launchers.job import Outcome
from stelab.engine.launchers.submission import Call, Submitted

if TYPE_CHECKING:
    from submitit import Job

_NOT_ITS_FAULT = ("PREEMPTED", "NODE_FAIL", "BOOT_FAIL")
_QUEUE_AGE = 10.0  # seconds after which SLURM is asked for its queue again
_MAX_ARRAY_SIZE = 1001  # SLURM's default, where it does not say


class SubmittedToSlurm(Submitted):
    """To SLURM, whose jobs outlive this process: the same command waits for them.

    Jobs that are more than an array may have become several arrays, which share
    ``slurm_array_parallelism``, but each has one job at once at least.

    Args:
        folder: See `Submitted`; on a file system that all nodes share.
        parameters: See `Submitted`.
    """

    cluster, place = "slurm", "SLURM"
    patience = 10.0

    def __init__(self, folder: Path, parameters: dict[str, Any]):
        self.largest = max_array_size()
        super().__init__(folder, parameters, driver=None)
        self._parallelism: int | None = parameters.get("slurm_array_parallelism")
        self._names: set[str] = set()
        self._absent: Counter[str] = Counter()
        self._asked = time.monotonic()

    def _submit(self, calls: Sequence[Call], share: tuple[int, int, int]) -> list[Job[Outcome]]:
        if self._parallelism is not None:
            begin, end, number = share
            at_once = self._parallelism * end // number - self._parallelism * begin // number
            self._executor.update_parameters(slurm_array_parallelism=max(1, at_once))
        return super()._submit(calls, share)

    def stop(self) -> None:
        """Cancel jobs that wait, send SIGINT to the others, once, and wait."""
        ids = {job.job_id for job in self.running}
        told = set[str]()
        while ids:
            arrays = {job_id.partition("_")[0] for job_id in ids}
            _ask("scancel", "--quiet", "--state=PENDING", *arrays)
            running = (_queue("--states=RUNNING") or set()) & ids - told
            if running:
                _ask("scancel", "--quiet", "--signal=INT", *running)
                told |= running
            time.sleep(1)
            queue = _queue()
            ids = ids if queue is None else ids & queue

    def look(self) -> None:
        """List the folder, and now and then SLURM's queue, once for all jobs."""
        self._names = set(os.listdir(self.folder))
        super().look()
        if self._jobs and time.monotonic() - self._asked > _QUEUE_AGE:
            self._asked = time.monotonic()
            if (queue := _queue()) is not None:
                self._absent.update({started.job.job_id for started in self._jobs} - queue)

    def ended(self, job: Job[Outcome]) -> bool:
        """Tell whether it left a result, which may take time to be seen here.

        Else whether SLURM's queue lacked it twice.
        """
        # As `job.paths.result_pickle` is called, which is slow for each of thousands of jobs.
        return f"{job.job_id}_0_result.pkl" in self._names or self._absent[job.job_id] > 1

    def explain(self, job: Job[Outcome]) -> Outcome:
        """Ask SLURM; what it took a machine from may run on another one."""
        shown = _ask("scontrol", "show", "job", "--oneliner", job.job_id) or ""
        fields = dict(re.findall(r"(\w+)=(\S*)", shown))
        state = fields.get("JobState", "unknown state")
        status: Literal["lost", "died"] = "lost" if state in _NOT_ITS_FAULT else "died"
        reason = f"SLURM's job {job.job_id} ended without a result: {state}"
        return Outcome(status, reason=f"{reason}, exit code {fields.get('ExitCode', 'unknown')}")


def max_array_size() -> int:
    """Return how many tasks an array may have.

    ``MaxArraySize`` is one more than the largest index, and indices start at 0.
    """
    shown = _ask("scontrol", "show", "config") or ""
    limits = re.findall(r"\b(?:MaxArraySize\s*=\s*|max_array_tasks=)(\d+)", shown)
    return max(1, min(map(int, limits), default=_MAX_ARRAY_SIZE))


def _queue(*options: str) -> set[str] | None:
    """Return the user's jobs that wait or run; None where SLURM does not answer now."""
    listed = _ask("squeue", "--noheader", "--array", "--me", "--format=%i", *options)
    return None if listed is None else set(listed.split())


def _ask(*command: str) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    except (OSError, subprocess.CalledProcessError, subprocess.TimeoutExpired):
        return None
    return done.stdout
