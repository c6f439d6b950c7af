"""The runs of a comparison: what they need is looked for first, then each runs in its own process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from hf_lgt.comparison.planning import Planned
from hf_lgt.config import ConfigError, ModelConfig
from hf_lgt.data import open_data
from hf_lgt.folders import is_finished


def run_all(
    planned: Sequence[Planned],
    recipe: Path,
    logs: Path,
    jobs: int,
    tell: Callable[[Planned, bool], None],
) -> list[tuple[Planned, Path]]:
    """Run what is not finished, `jobs` at a time, each in its own process.

    Args:
        planned: from `plan`.
        recipe: path of ``recipes/finetune.py``.
        logs: folder for what the runs print.
        jobs: processes at a time; the cores are shared out among them.
        tell: called after each run with whether it went well.

    Returns:
        The runs that failed, with their logs.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = {"OMP_NUM_THREADS": str(max(1, cores // jobs))}
    logs.mkdir(parents=True, exist_ok=True)
    going: set[subprocess.Popen[bytes]] = set()

    def run(item: Planned) -> tuple[Planned, Path, bool]:
        log = logs / item.log
        with open(log, "ab") as file:
            child = subprocess.Popen(
                [sys.executable, str(recipe), *item.arguments],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env={**os.environ, **threads},
            )
            going.add(child)
            code = child.wait()
            going.discard(child)
        return item, log, code == 0

    failed = []
    with ThreadPoolExecutor(jobs) as pool:
        waiting = [pool.submit(run, item) for item in planned if not is_finished(item.config.run_dir)]
        try:
            for done in as_completed(waiting):
                item, log, well = done.result()
                tell(item, well)
                if not well:
                    failed.append((item, log))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for child in list(going):
                child.terminate()  # each writes a checkpoint, from which the same command goes on
            raise
    return failed


def check_data(planned: Sequence[Planned]) -> None:
    """Open the dataset of each arm that has a run to do, before any is started.

    Raises:
        ConfigError: one cannot be opened, or lacks a column.
    """
    for item in {item.arm: item for item in _to_run(planned)}.values():
        try:
            open_data(item.config)
        except ConfigError as error:
            raise ConfigError([f"{item.arm}: {fault}" for fault in error.faults]) from None


def check_checkpoints(planned: Sequence[Planned]) -> None:
    """Find the checkpoint of every run that is still to do, before any is started.

    What is on the Hub is looked up there, once for each repository and revision.

    Raises:
        ConfigError: with every one that cannot be had; see `hf_lgt.pretrained.resolve`.
    """
    starts: dict[tuple[str | None, str | None], ModelConfig] = {}
    for item in _to_run(planned):
        model = item.config.model
        if model.name_or_path is not None:
            key = model.name_or_path, model.revision
            if key not in starts or model.init == "pretrained":  # a twin needs no weights
                starts[key] = model
    if not starts:
        return
    from hf_lgt.pretrained import check_weights, resolve

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


def _to_run(planned: Sequence[Planned]) -> list[Planned]:
    return [item for item in planned if not is_finished(item.config.run_dir)]


def last_error(log: Path) -> str:
    """What a run said last of why it failed."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    starts = [i for i, line in enumerate(lines) if line.startswith(("error:", "Traceback"))]
    return "\n".join(f"  {line}" for line in (lines[starts[-1] :] if starts else lines[-3:])[:12])
