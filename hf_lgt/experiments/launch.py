"""The runs of an experiment: what they need is looked for first, then each runs in its own process."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from itertools import cycle, islice
from pathlib import Path
from queue import SimpleQueue
from subprocess import DEVNULL, STDOUT, Popen
from typing import Protocol, TypeVar

from data_builders.reading import end
from hf_lgt.config.schema import ModelConfig
from hf_lgt.data.build import open_data
from hf_lgt.experiments.plan import PlannedRun, todo
from hf_lgt.utils.errors import ConfigError
from hf_lgt.utils.run_lock import RunLock
from hf_lgt.utils.signals import PARENT
from hf_lgt.utils.threads import available_cores

_log = logging.getLogger(__name__)


class Job(Protocol):
    """A run, or several, that a process of its own does."""

    @property
    def finished(self) -> bool:
        """Whether there is nothing left to do."""
        ...

    @property
    def run_dirs(self) -> Sequence[Path]:
        """Folders of the runs."""
        ...

    @property
    def arguments(self) -> tuple[str, ...]:
        """What `FINETUNE` is called with."""
        ...

    @property
    def log(self) -> str:
        """File name of what it prints."""
        ...


J = TypeVar("J", bound=Job)
FINETUNE = (sys.executable, "-m", "hf_lgt", "finetune")
"""what trains a run, wherever the package is installed"""
USER_ERROR = 2
"""a command's status after a mistake of the user's"""
LONGEST_LOG_END = 1 << 20
"""bytes in which the last error of a run is looked for"""
PATIENCE = 60.0
"""seconds in which the runs of an earlier command stop that was killed: each writes a checkpoint first"""


def run_all(
    planned: Sequence[J],
    command: Sequence[str],
    logs: Path,
    jobs: int,
    tell: Callable[[J, bool], None],
    retries: int = 0,
) -> list[tuple[J, Path]]:
    """Run what is not finished, `jobs` at a time, each in its own process, which ends with this one.

    Args:
        planned: the runs; those that are finished are left as they are.
        command: program that trains a run, with its own arguments: `FINETUNE`.
        logs: folder for what the runs print.
        jobs: processes at a time; the cores are divided among them, unless OMP_NUM_THREADS is set, and
            each has one of the GPUs where there are several.
        tell: called after each run with whether it went well.
        retries: how often a run that failed is started again, from its newest checkpoint; one that
            was refused for a mistake of the user's is not.

    Returns:
        The runs that failed, with their logs.
    """
    cores = available_cores()
    waiting_for = [item for item in planned if not item.finished]
    at_once = max(1, min(jobs, len(waiting_for)))
    # a log is a file like any other, whatever the locale
    settings = {"PYTHONIOENCODING": "utf-8", PARENT: str(os.getpid())}
    settings["PYTHONSAFEPATH"] = "1"  # no module of the folder in which the command was called
    if "OMP_NUM_THREADS" not in os.environ:
        settings["OMP_NUM_THREADS"] = str(max(1, cores // at_once))
    gpus: SimpleQueue[str] = SimpleQueue()  # those that no run has
    several = names if len(names := visible_gpus()) > 1 else []
    for name in islice(cycle(several), at_once):
        gpus.put(name)
    patient_until = time.monotonic() + PATIENCE
    logs.mkdir(parents=True, exist_ok=True)
    going: set[Popen[bytes]] = set()
    stopping: list[bool] = []

    def attempt(item: J, log: Path) -> int:
        own = {"CUDA_VISIBLE_DEVICES": gpus.get()} if several else {}
        with open(log, "ab") as file:
            child = Popen(
                [*command, *item.arguments],
                stdin=DEVNULL,
                stdout=file,
                stderr=STDOUT,
                env={**os.environ, **settings, **own},
            )
            going.add(child)
            try:
                return child.wait()
            finally:
                going.discard(child)
                for name in own.values():
                    gpus.put(name)

    def run(item: J) -> tuple[J, Path, bool]:
        log = logs / item.log
        _wait_for_others(item, patient_until, stopping)
        for _ in range(retries + 1):
            # another sweep may have the same run, and have finished it while this one waited
            if item.finished or attempt(item, log) in (0, USER_ERROR) or stopping:
                break
        return item, log, item.finished

    failed = []
    with ThreadPoolExecutor(jobs) as pool:
        waiting = [pool.submit(run, item) for item in waiting_for]
        try:
            for done in as_completed(waiting):
                item, log, well = done.result()
                tell(item, well)
                if not well:
                    failed.append((item, log))
        except BaseException:
            stopping.append(True)
            pool.shutdown(wait=False, cancel_futures=True)
            for child in list(going):
                child.terminate()  # each writes a checkpoint, from which the same command resumes
            raise
    return failed


def _wait_for_others(item: Job, until: float, stopping: Sequence[bool]) -> None:
    """Wait, but not for long, while another process writes one of the runs."""
    told = ""
    while time.monotonic() < until and not stopping and (writer := _writer(item)):
        if writer != told:
            _log.info("waiting for %s", writer)
            told = writer
        time.sleep(0.2)


def _writer(item: Job) -> str:
    """Another process that writes one of the runs, in words; empty: none does."""
    for run_dir in item.run_dirs:
        with suppress(ConfigError):
            if holder := RunLock.holder(run_dir):
                return f"{holder}, which is writing {run_dir}"
    return ""


def visible_gpus() -> list[str]:
    """Names of the GPUs, as ``CUDA_VISIBLE_DEVICES`` has them; empty without one."""
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    given = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return [name.strip() for name in given.split(",")][:count] if given else [*map(str, range(count))]


def usual_jobs() -> int:
    """How many runs are trained at a time unless given: one a GPU, or without one, one a core."""
    return len(visible_gpus()) or available_cores()


def check_data(planned: Sequence[PlannedRun]) -> None:
    """Open each dataset that a run to do needs, before any is started.

    Raises:
        ConfigError: one cannot be opened, or lacks a column.
    """
    # what is opened depends on the section and on which tasks are looked for
    needed = {
        (repr(item.config.data), tuple(c.task for c in item.config.mixture)): item for item in todo(planned)
    }
    for item in needed.values():
        try:
            open_data(item.config)
        except ConfigError as error:
            raise ConfigError([f"{item.arm}: {fault}" for fault in error.faults]) from None


def check_checkpoints(planned: Sequence[PlannedRun]) -> None:
    """Find the checkpoint of every run that is still to do, before any is started.

    What is on the Hub is looked up there, once for each repository and revision.

    Raises:
        ConfigError: with every one that cannot be had; see `hf_lgt.models.resolve.resolve`.
    """
    starts: dict[tuple[str | None, ...], ModelConfig] = {}
    for item in todo(planned):
        model = item.config.model
        if model.name_or_path is not None:
            key = model.name_or_path, model.revision, model.gguf_file
            if key not in starts or model.init == "pretrained":  # a twin needs no weights
                starts[key] = model
    if not starts:
        return
    from hf_lgt.models.resolve import check_weights, resolve

    faults: list[str] = []
    for model in starts.values():
        try:
            checkpoint = resolve(model)
            if model.init == "pretrained":
                check_weights(checkpoint, model)
        except ConfigError as error:
            faults += error.faults
    if faults:
        raise ConfigError(faults)


def last_error(log: Path) -> str:
    """What a run said last of why it failed."""
    try:
        lines = end(log, LONGEST_LOG_END).decode("utf-8", errors="replace").splitlines()
    except OSError as error:
        return f"  {log}: {error.strerror}"
    starts = [i for i, line in enumerate(lines) if line.startswith(("error:", "Traceback"))]
    return "\n".join(f"  {line}" for line in (lines[starts[-1] :] if starts else lines[-3:])[:12])
