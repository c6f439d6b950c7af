"""A run's folder made ready: continued, begun or refused, never overwritten unasked, by one writer alone."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accelerate.utils import broadcast_object_list

from hf_lgt.checkpointing.resume import AUTO, NEVER, Beginning, named, newest, resolved
from hf_lgt.checkpointing.run_folder import (
    RESUMED_FILE,
    RUN,
    Kind,
    has_files,
    other_data_faults,
    recorded,
    refusals,
)
from hf_lgt.config.load import Trained
from hf_lgt.config.schema import short
from hf_lgt.utils import yaml as yaml12
from hf_lgt.utils.atomic_io import clear_drafts, is_full, remove, write_text
from hf_lgt.utils.distributed import gathered
from hf_lgt.utils.environment import describe_environment
from hf_lgt.utils.errors import ConfigError, RunError
from hf_lgt.utils.jsonl import cut_logs
from hf_lgt.utils.run_lock import RunLock

if TYPE_CHECKING:
    from accelerate import Accelerator

NO_ROOM = "free disk space, then rerun the same command"


def settle(config: Trained, overwrite: bool, resume: str | Path, kind: Kind = RUN) -> str | Beginning:
    """What ``--resume`` comes to: ``auto``, ``never``, or the checkpoint that it names.

    A run that was begun from that checkpoint already goes on as with ``auto``, so that the same command
    can be given again.

    Raises:
        ConfigError: `resume` is the path of no whole checkpoint.
    """
    if resume in (AUTO, NEVER):
        return str(resume)
    if (
        has_files(config.run_dir)
        and not overwrite
        and recorded(config.run_dir, RESUMED_FILE).get("given") == str(resolved(resume))
    ):
        return AUTO
    return named(Path(resume), kind.logs)


def check_folder(config: Trained, overwrite: bool, kind: Kind = RUN, resume: str | Beginning = AUTO) -> None:
    """Refuse a folder that must not be trained into, before anything else is done; writes nothing.

    Args:
        config: the run.
        overwrite: remove what an earlier run left.
        kind: of training.
        resume: from `settle`.

    Raises:
        ConfigError: it holds another or a finished run, or no run, or `resume` does not fit it.
    """
    run_dir = config.run_dir
    faults = refusals(config, kind=kind) if has_files(run_dir) and not overwrite else []
    if not faults:
        faults = _resume_faults(config, overwrite, kind, resume)
    if faults:
        raise ConfigError(faults)


def _resume_faults(config: Trained, overwrite: bool, kind: Kind, resume: str | Beginning) -> list[str]:
    """Why a run cannot begin where the user wants it to."""
    run_dir = config.run_dir
    interrupted = has_files(run_dir) and not overwrite
    if resume == NEVER and interrupted:
        return [
            f"--resume: {run_dir} holds a run that was interrupted, and 'never' does not go on with it; "
            "'auto' does, and --overwrite begins it anew"
        ]
    if isinstance(resume, str):
        return []
    origin = resume.run_dir
    assert origin is not None, "a checkpoint that is named belongs to a run"
    place, own = origin.resolve(), run_dir.resolve()
    if overwrite and own in (place, *place.parents):
        told = f"{resume.checkpoint} lies in {run_dir}, which --overwrite removes"
        return [f"--resume: {told}; give one of the two"]
    if place != own and interrupted:
        return [
            f"--resume: {run_dir} holds a run already, which a checkpoint of {origin} does not belong to; "
            "choose another name, or go on with that run by --resume auto"
        ]
    if place != own and not kind.can_branch:
        return [
            "--resume: a pretraining goes on from its own checkpoints alone, which its revisions belong to"
        ]
    before: Any = kind.read_run(origin)
    # neither is part of what the run computes
    same = {"name": config.name, "output_dir": config.output_dir}
    if different := _differences(dataclasses.replace(before, **same).to_dict(), config.to_dict()):
        return [f"--resume: the run in {origin} has another config: {'; '.join(different[:5])}"]
    return []


def _differences(before: Any, now: Any, key: str = "") -> list[str]:
    """Keys of two configs that differ, with both values."""
    if isinstance(before, dict) and isinstance(now, dict):
        keys = {**before, **now}
        return [d for k in keys for d in _differences(before.get(k), now.get(k), f"{key}.{k}".lstrip("."))]
    return [] if before == now else [f"{key} was {short(before)}, now {short(now)}"]


def origin_of(config: Trained, overwrite: bool, resume: str | Beginning) -> Path | None:
    """Folder of the run that is gone on with, whether it is there or not; None: begun anew."""
    if isinstance(resume, Beginning):
        return resume.run_dir
    return None if overwrite else config.run_dir


@contextmanager
def only_writer(config: Trained, accelerator: Accelerator, say: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock of a run's folder.

    Args:
        config: the run.
        accelerator: tells the processes.
        say: takes news for the user.

    Raises:
        ConfigError: another process writes to the folder, or it cannot be made; on all processes.
        RunError: the disk is full.
    """
    lock = None
    told: list[Any] = [[], ""]
    if accelerator.is_main_process:
        try:
            lock = RunLock.acquire(config.run_dir, say=say)
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
        for line in lock.news if lock else []:
            say(line)
        yield
    finally:
        if lock:
            lock.release()


def prepare_folder(
    config: Trained,
    overwrite: bool,
    accelerator: Accelerator,
    data: Mapping[str, Any],
    kind: Kind = RUN,
    resume: str | Beginning = AUTO,
    runs: int = 1,
) -> tuple[Path | None, list[str]]:
    """Make the run's folder ready; gives the checkpoint to continue from, and news for the user.

    Args:
        config: the run.
        overwrite: remove what an earlier run left.
        accelerator: tells the processes.
        data: what is trained on, as the rows that a dataset gave, written to ``data.json``; an interrupted
            run goes on with the same only. Empty for generated data.
        kind: of training.
        resume: from `settle`.
        runs: that this process trains together.

    Raises:
        ConfigError: the folder must not be touched, or cannot be made.
        RunError: the disk is full.
    """
    exists = has_files(config.run_dir)
    faults, begin = look_at_folder(config, overwrite, data, kind, resume)
    # all processes have looked at the folder before one of them changes it
    if faults := _agreed(config.run_dir, gathered((faults, begin.step))):
        raise ConfigError(faults)
    if accelerator.is_main_process:
        try:
            _fill(config, overwrite, accelerator, data, kind, begin, runs)
        except OSError as error:
            if is_full(error):
                raise RunError(f"{config.run_dir}: {error.strerror}; {NO_ROOM}") from None
            raise ConfigError([f"output_dir: {config.run_dir}: {error.strerror or error}"]) from None
    accelerator.wait_for_everyone()
    news = [*begin.faults]
    if exists and not overwrite:
        news.append(f"{config.run_dir} was interrupted; it goes on from step {begin.step}")
    elif begin.checkpoint:
        news.append(f"begins with {begin.checkpoint}, at step {begin.step}")
    return begin.checkpoint, news


def look_at_folder(
    config: Trained,
    overwrite: bool,
    data: Mapping[str, Any],
    kind: Kind = RUN,
    resume: str | Beginning = AUTO,
) -> tuple[list[str], Beginning]:
    """What keeps a run out of its folder, and where it would begin; see `prepare_folder`. Writes nothing."""
    try:
        check_folder(config, overwrite, kind, resume)
        begin = _beginning(config, overwrite, kind, resume)
        if overwrite and has_files(config.run_dir):
            _check_removable(config.run_dir, kind)
    except ConfigError as error:
        return error.faults, Beginning()
    return other_data_faults(begin.run_dir, data, kind) if begin.run_dir else [], begin


def _agreed(run_dir: Path, seen: Sequence[tuple[list[str], int]]) -> list[str]:
    """Faults of what the processes found in a folder: (faults, step to go on from) of each."""
    for faults, _ in seen:
        if faults:
            return faults
    steps = [step for _, step in seen]
    if len(set(steps)) == 1:
        return []
    told = ", ".join(map(str, steps))
    return [
        f"output_dir: the processes do not see the same {run_dir}: they would go on from steps {told}; "
        "give a folder that all of them share"
    ]


def _beginning(config: Trained, overwrite: bool, kind: Kind, resume: str | Beginning) -> Beginning:
    """Where the run begins or goes on."""
    if isinstance(resume, Beginning):
        return resume
    if overwrite or not has_files(config.run_dir):
        return Beginning()
    found = newest(config.run_dir, kind.logs)
    path = recorded(config.run_dir, RESUMED_FILE).get("path")
    if found.checkpoint is None and isinstance(path, str):
        # it was begun from another run's, and stopped before it had one of its own
        return named(Path(path), kind.logs)
    return found


def _fill(
    config: Trained,
    overwrite: bool,
    accelerator: Accelerator,
    data: Mapping[str, Any],
    kind: Kind,
    begin: Beginning,
    runs: int,
) -> None:
    """Write what a run's folder holds before the first step.

    Raises:
        OSError: it cannot be written.
    """
    run_dir = config.run_dir
    if has_files(run_dir) and overwrite:
        remove(Path(os.path.realpath(run_dir)))
    clear_drafts(run_dir.parent, run_dir.name, alone=True)
    Path(os.path.realpath(run_dir)).mkdir(parents=True, exist_ok=True)
    for name in (".", *kind.folders):
        clear_drafts(run_dir / name, alone=True)
    if begin.named:
        told = {"given": str(begin.named), "path": str(begin.checkpoint)}
        write_text(run_dir / RESUMED_FILE, json.dumps(told) + "\n")
    write_text(run_dir / "config.yaml", yaml12.dump(config.to_dict()))
    if data:
        write_text(run_dir / kind.data_file, json.dumps(data, indent=1) + "\n")
    layout = accelerator.distributed_type.value
    about = describe_environment(str(accelerator.device), accelerator.num_processes, layout, runs)
    write_text(run_dir / "environment.json", json.dumps(about, indent=1) + "\n")
    if begin.run_dir:
        cut_logs(begin.run_dir, run_dir, begin.logs, begin.step)


def _check_removable(run_dir: Path, kind: Kind) -> None:
    """Refuse to remove what is no run.

    Raises:
        ConfigError: it is none.
    """
    if not (run_dir / "config.yaml").is_file():
        raise ConfigError([f"output_dir: {run_dir} holds files that are no run; --overwrite spares them"])
    kind.read_run(run_dir)  # a folder with somebody else's config.yaml is no run either
