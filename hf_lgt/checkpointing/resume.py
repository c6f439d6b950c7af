"""Which checkpoint a run goes on from: its own newest whole one, or one that the user names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from data_builders.reading import LARGEST_LOG, read_bytes
from data_builders.texts import CONTROLS
from hf_lgt.checkpointing.checkpoints import LoopState, list_checkpoints, read_state, verify
from hf_lgt.utils.errors import CheckpointError, ConfigError
from hf_lgt.utils.jsonl import kept_lines, step_of

AUTO, NEVER = "auto", "never"


@dataclass(frozen=True)
class Beginning:
    """Where a run begins or goes on."""

    checkpoint: Path | None = None
    """None: before the first step"""
    run_dir: Path | None = None
    """the run that the checkpoint and its logs are of"""
    logs: dict[str, int] = field(default_factory=dict)
    """name -> lines to keep of them"""
    faults: tuple[str, ...] = ()
    """what is wrong with newer checkpoints"""
    named: Path | None = None
    """what the user named, a checkpoint's folder or a run's"""

    @property
    def step(self) -> int:
        """Steps taken."""
        return int(self.checkpoint.name.removeprefix("step-")) if self.checkpoint else 0


def newest(run_dir: Path, logs: Sequence[str]) -> Beginning:
    """The newest checkpoint that is whole and whose logs are, else the beginning.

    Args:
        run_dir: the run's folder.
        logs: names of its logs.

    Raises:
        ConfigError: there are whole checkpoints, but the logs of none.
    """
    faults: list[str] = []
    whole = False
    for _, path in reversed(list_checkpoints(run_dir)):
        try:
            verify(path)
            whole = True
            return Beginning(path, run_dir, _counts(path, run_dir, logs), tuple(faults))
        except CheckpointError as error:
            faults.append(str(error))
    if whole:
        told = "restore the log, or begin anew with --overwrite; the checkpoints themselves are whole"
        raise ConfigError([*faults, f"{run_dir} cannot go on: {told}"])
    return Beginning(None, run_dir, dict.fromkeys(logs, 0), tuple(faults))


def resolved(path: str | Path) -> Path:
    """A path without links; as it is where it cannot be one: a loop of links, a name with NUL."""
    try:
        return Path(path).resolve()
    except (OSError, RuntimeError, ValueError):
        return Path(path)


def named(path: Path, logs: Sequence[str]) -> Beginning:
    """The checkpoint that a user names, or the newest whole one of a run.

    Args:
        path: a checkpoint's folder, or a run's.
        logs: names of a run's logs.

    Raises:
        ConfigError: there is none, or it is damaged.
    """
    path = resolved(path)
    try:
        exists = path.exists()
    except (OSError, ValueError):
        exists = False
    if not exists:
        raise ConfigError([f"--resume: {path} does not exist; give a checkpoint's folder, auto or never"])
    if CONTROLS.search(str(path)):  # among them what is no text, and could not be kept with the run
        raise ConfigError([f"--resume: {path} has characters in its name that are no text; rename it"])
    if (path / "config.yaml").is_file() and (path / "checkpoints").is_dir():
        found = newest(path, logs)
        if found.checkpoint is None:
            raise ConfigError([f"--resume: {path} has no whole checkpoint", *found.faults])
        return replace(found, named=path)
    run_dir = path.parent.parent
    if path not in [known for _, known in list_checkpoints(run_dir)]:
        raise ConfigError([f"--resume: {path} is no checkpoint of a run, as RUN/checkpoints/step-000500 is"])
    try:
        verify(path)
        return Beginning(path, run_dir, _counts(path, run_dir, logs), named=path)
    except CheckpointError as error:
        raise ConfigError([f"--resume: {error}"]) from None


def _counts(path: Path, run_dir: Path, logs: Sequence[str]) -> dict[str, int]:
    """Lines to keep of each log of a run that goes on from a checkpoint.

    Raises:
        CheckpointError: a log lacks some of them.
    """
    state = read_state(path)
    counts = (
        {name: state.logs.get(name, 0) for name in logs} if state.logs else _by_step(run_dir, state, logs)
    )
    for name, count in counts.items():
        kept_lines(run_dir / name, count, state.step)
    return counts


def _by_step(run_dir: Path, state: LoopState, logs: Sequence[str]) -> dict[str, int]:
    """As `_counts`, for a checkpoint that does not say: the evaluation of its step is made again."""
    counts = {}
    for name in logs:
        most = state.step if name == logs[0] else state.step - 1
        file = run_dir / name
        lines = read_bytes(file, LARGEST_LOG).splitlines() if file.is_file() else []
        steps = [step_of(line) for line in lines]
        counts[name] = next((i for i, step in enumerate(steps) if not 0 <= step <= most), len(steps))
    return counts
