"""A run's folder made ready: continued, begun or refused, never overwritten unasked, by one writer alone."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accelerate.utils import broadcast_object_list

from hf_lgt.checkpointing.resume import ResumePoint
from hf_lgt.checkpointing.run_folder import (
    RESUMED_FILE,
    RUN,
    RunKind,
    has_files,
    other_data_faults,
)
from hf_lgt.config.load import Trained
from hf_lgt.utils import yaml
from hf_lgt.utils.atomic_io import clear_drafts, is_full, remove, write_text
from hf_lgt.utils.distributed import gathered
from hf_lgt.utils.environment import describe_environment
from hf_lgt.utils.errors import ConfigError, RunError
from hf_lgt.utils.jsonl import cut_logs
from hf_lgt.utils.run_lock import RunLock

if TYPE_CHECKING:
    from accelerate import Accelerator

NO_ROOM = "free disk space, then rerun the same command"


@contextmanager
def locked_run_folder(config: Trained, accelerator: Accelerator) -> Iterator[None]:
    """Hold the lock of a run's folder.

    Args:
        config: the run.
        accelerator: tells the processes.

    Raises:
        ConfigError: another process writes to the folder, or it cannot be made; on all processes.
        RunError: the disk is full.
    """
    lock = None
    told: list[Any] = [[], ""]
    if accelerator.is_main_process:
        try:
            lock = RunLock.acquire(config.run_dir)
        except ConfigError as error:
            told = [error.faults, ""]
        except OSError as error:  # no room, which is no mistake in the command
            told = [[], f"{config.run_dir.parent}: {error.strerror}; {NO_ROOM}"]
    try:
        if accelerator.num_processes > 1:
            broadcast_object_list(told)
        if told[0]:
            raise ConfigError(told[0])
        if told[1]:
            raise RunError(told[1])
        yield
    finally:
        if lock:
            lock.release()


def folder_faults(
    config: Trained, overwrite: bool, data: Mapping[str, Any], point: ResumePoint, kind: RunKind = RUN
) -> list[str]:
    """What keeps a run out of its folder, once its data are known; see `prepare_folder`. Writes nothing."""
    try:
        if overwrite and has_files(config.run_dir):
            _check_removable(config.run_dir, kind)
        return other_data_faults(point.run_dir, data, kind) if point.run_dir else []
    except ConfigError as error:
        return error.faults


def prepare_folder(
    config: Trained,
    overwrite: bool,
    accelerator: Accelerator,
    data: Mapping[str, Any],
    point: ResumePoint,
    kind: RunKind = RUN,
    runs: int = 1,
) -> list[str]:
    """Make the run's folder ready; gives news for the user.

    Args:
        config: the run.
        overwrite: remove what an earlier run left.
        accelerator: tells the processes.
        data: what is trained on, as the rows that a dataset gave, written to ``data.json``; an interrupted
            run resumes with the same only. Empty for generated data.
        point: where it begins or resumes.
        kind: of training.
        runs: that this process trains together.

    Raises:
        ConfigError: the folder must not be touched, or cannot be made.
        RunError: the disk is full.
    """
    interrupted = has_files(config.run_dir) and not overwrite
    faults = folder_faults(config, overwrite, data, point, kind)
    # all processes have looked at the folder before one of them changes it
    if faults := _agreed(config.run_dir, gathered((faults, point.step))):
        raise ConfigError(faults)
    if accelerator.is_main_process:
        try:
            _clear(config.run_dir, overwrite, kind)
            _fill(config, accelerator, data, kind, point, runs)
        except OSError as error:
            if is_full(error):
                raise RunError(f"{config.run_dir}: {error.strerror}; {NO_ROOM}") from None
            raise ConfigError([f"output_dir: {config.run_dir}: {error.strerror or error}"]) from None
    accelerator.wait_for_everyone()
    news = [*point.faults]
    if interrupted:
        news.append(f"{config.run_dir} was interrupted; it resumes from step {point.step}")
    elif point.checkpoint:
        news.append(f"begins with {point.checkpoint}, at step {point.step}")
    return news


def _agreed(run_dir: Path, seen: Sequence[tuple[list[str], int]]) -> list[str]:
    """Faults of what the processes found in a folder: (faults, step to resume from) of each."""
    for faults, _ in seen:
        if faults:
            return faults
    steps = [step for _, step in seen]
    if len(set(steps)) == 1:
        return []
    told = ", ".join(map(str, steps))
    return [
        f"output_dir: the processes do not see the same {run_dir}: they would resume from steps {told}; "
        "give a folder that all of them share"
    ]


def _clear(run_dir: Path, overwrite: bool, kind: RunKind) -> None:
    """Remove what an earlier run left, where that is asked for, and what killed writers left.

    Raises:
        OSError: the folder cannot be written.
    """
    if has_files(run_dir) and overwrite:
        remove(Path(os.path.realpath(run_dir)))
    clear_drafts(run_dir.parent, run_dir.name, alone=True)
    Path(os.path.realpath(run_dir)).mkdir(parents=True, exist_ok=True)
    for name in (".", *kind.folders):
        clear_drafts(run_dir / name, alone=True)


def _fill(
    config: Trained,
    accelerator: Accelerator,
    data: Mapping[str, Any],
    kind: RunKind,
    point: ResumePoint,
    runs: int,
) -> None:
    """Write what a run's folder holds before the first step.

    Raises:
        OSError: it cannot be written.
    """
    run_dir = config.run_dir
    if point.named:
        told = {"given": str(point.named), "path": str(point.checkpoint)}
        write_text(run_dir / RESUMED_FILE, json.dumps(told) + "\n")
    write_text(run_dir / "config.yaml", yaml.dump(config.to_dict()))
    if data:
        write_text(run_dir / kind.data_file, json.dumps(data, indent=1) + "\n")
    layout = accelerator.distributed_type.value
    about = describe_environment(str(accelerator.device), accelerator.num_processes, layout, runs)
    write_text(run_dir / "environment.json", json.dumps(about, indent=1) + "\n")
    if point.run_dir:
        cut_logs(point.run_dir, run_dir, point.logs, point.step)


def _check_removable(run_dir: Path, kind: RunKind) -> None:
    """Refuse to remove what is no run.

    Raises:
        ConfigError: it is none.
    """
    if not (run_dir / "config.yaml").is_file():
        raise ConfigError([f"output_dir: {run_dir} holds files that are no run; --overwrite spares them"])
    kind.read_run(run_dir)  # a folder with somebody else's config.yaml is no run either
