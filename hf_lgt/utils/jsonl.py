"""The logs of a run: files of JSON lines, each with its step, that a resumed run appends to.

A checkpoint records how many lines each log had when it was written. What follows them was logged by
steps that a resumed run takes again, so it is cut off; what is missing of them cannot be made again.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from data_builders.reading import LARGEST_LOG, open_regular, read_bytes
from hf_lgt.utils.atomic_io import append_text, sync, write_text
from hf_lgt.utils.errors import CheckpointError, TrainingError


def append_lines(path: Path, lines: Sequence[str]) -> None:
    """Add lines to a log; it stays as it was where they cannot be written.

    Raises:
        TrainingError: as when the disk is full.
    """
    try:
        append_text(path, "".join(f"{line}\n" for line in lines))
    except OSError as error:
        raise TrainingError(
            f"{path} could not be written: {error.strerror}; nothing that was there is lost: put this right "
            "(free disk space), then rerun the same command, which resumes from the newest checkpoint"
        ) from None


def count_lines(run_dir: Path) -> dict[str, int]:
    """Lines of each log of a run, which are flushed to disk first."""
    counts = {}
    for path in sorted(path for path in run_dir.glob("*.jsonl") if path.is_file()):
        sync(path)
        with open_regular(path) as file:
            counts[path.name] = sum(block.count(b"\n") for block in iter(partial(file.read, 1 << 20), b""))
    return counts


def kept_lines(path: Path, count: int, step: int) -> list[str]:
    """The first lines of a log, up to those of a checkpoint.

    Args:
        path: the log; a missing one has no lines.
        count: lines that it had when the checkpoint was written.
        step: of the checkpoint.

    Raises:
        CheckpointError: it cannot be read, or lacks some of them, or they are damaged; names the line.
    """
    try:
        text = read_bytes(path, LARGEST_LOG).decode("utf-8", errors="replace")
    except FileNotFoundError:
        text = ""
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}") from None
    lines = text.split("\n")[:-1][:count]  # what has no end was being written when the run was stopped
    for i, line in enumerate(lines, 1):
        if not 0 <= step_of(line) <= step:
            raise CheckpointError(f"{path}, line {i} is damaged: {line[:60]!r}")
    if len(lines) < count:
        raise CheckpointError(f"{path} has {len(lines)} lines; at step {step} there were {count}")
    return lines


def cut_logs(source: Path, folder: Path, counts: Mapping[str, int], step: int) -> None:
    """Write the logs of a folder as they were at a checkpoint.

    Args:
        source: folder of the logs to begin with, mostly the same.
        folder: the run's.
        counts: name -> lines to keep.
        step: of the checkpoint.

    Raises:
        CheckpointError: see `kept_lines`; then nothing has been cut.
    """
    kept = {name: kept_lines(source / name, count, step) for name, count in counts.items()}
    for name, lines in kept.items():
        text = "".join(f"{line}\n" for line in lines)
        if lines or (folder / name).is_file():
            write_text(folder / name, text)


def step_of(line: str | bytes) -> int:
    """The step of a line, -1 where it has none."""
    try:
        step = json.loads(line)["step"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return -1
    return step if type(step) is int else -1
