"""How many threads of the CPU a run takes: how sums round, but not what a run is."""

import os

import torch
from joblib import cpu_count
from omegaconf import DictConfig

from stelab.engine.errors import InputError
from stelab.engine.studies.record import RunFolder, read_record
from stelab.engine.studies.run_format import part_of

# Where more hardly pay. On 2 cores 2 threads trained 1.24 (vae_bernoulli), 1.37 (mlp), 1.56 (conv),
# 1.67 (tutorial) and 1.82 (mlp, batch 1,024) times as fast as one: medians of 7 interleaved pairs.
# More cores were not at hand. By Amdahl's law conv gains 2.2 by 4 threads, 2.7 by 8, and by 16 at
# most 3.1, before what it takes to wake them all.
_MOST = 8


def threads_of(cfg: DictConfig) -> int:
    """Return ``cfg.threads``, or for ``auto`` this process's share of the machine, at most 8.

    That is the fewest of torch's own number (physical cores, ``OMP_NUM_THREADS``), the processors
    that this process may use (affinity, a container's quota, what a launcher leaves it) and those
    that SLURM gave it, shared out among the processes of the run. It depends on the machine alone
    and nothing is timed for it, so that a run on the same machine has the same bits.
    """
    if cfg.threads != "auto":
        return int(cfg.threads)
    devices = cfg.trainer.devices
    count = str(devices if isinstance(devices, int | str) else len(devices))
    processes = int(count) if count.isdecimal() else 1
    slurm = os.environ.get("SLURM_CPUS_PER_TASK", "")
    given = int(slurm) if slurm.isdecimal() else _MOST * processes
    return max(1, min(given, torch.get_num_threads(), cpu_count(), _MOST * processes) // processes)


def threads_before(folder: RunFolder) -> int | None:
    """Return how many a run took that is to be continued; None where its record does not say."""
    try:
        threads: int | None = part_of(read_record(folder.path), "machine").get("threads")
    except InputError:
        return None
    return threads


def set_threads(count: int) -> None:
    """Let torch use so many, here and in processes that start here."""
    torch.set_num_threads(count)
    os.environ["OMP_NUM_THREADS"] = str(count)
