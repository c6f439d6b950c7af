"""Threads that a training computes on: all cores of the machine, unless somebody said otherwise."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Mapping

_log = logging.getLogger(__name__)

VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
LAUNCHERS = ("ACCELERATE_MIXED_PRECISION", "TORCHELASTIC_RUN_ID")
"""set by `accelerate launch` and `torchrun`, which also set OMP_NUM_THREADS=1 where it is not set"""


def available_cores(environment: Mapping[str, str] = os.environ) -> int:
    """Cores that this process may use, as the system and Slurm say."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity else os.cpu_count() or 1
    # a cluster that does not bind its jobs to cores tells only by this what a job may use
    given = environment.get("SLURM_CPUS_PER_TASK", "")
    return min(cores, int(given)) if re.fullmatch("[1-9][0-9]{0,8}", given) else cores


def chosen_threads(asked: int | None, environment: Mapping[str, str] = os.environ) -> int | None:
    """Threads for this process, None where it is torch's matter, which reads the usual variables.

    Args:
        asked: on the command line.
        environment: the process's variables.
    """
    if asked is not None:
        return asked
    launched = any(name in environment for name in LAUNCHERS)
    said = {name: environment[name] for name in VARIABLES if name in environment}
    if said and not (launched and said == {"OMP_NUM_THREADS": "1"}):
        return None
    local = environment.get("LOCAL_WORLD_SIZE", environment.get("WORLD_SIZE", ""))
    return max(1, available_cores(environment) // max(1, int(local) if local.isdecimal() else 1))


def use_threads(asked: int | None) -> None:
    """Set this process's threads as `chosen_threads` says; not with a GPU."""
    import torch

    if not torch.accelerator.is_available() and (threads := chosen_threads(asked)) is not None:
        torch.set_num_threads(threads)


def log_threads() -> None:
    """Log how many threads there are, as a training on a CPU begins."""
    import torch

    _log.info(
        "threads: %d of %d cores (--threads N sets another number)",
        torch.get_num_threads(),
        available_cores(),
    )
