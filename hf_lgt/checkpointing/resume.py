"""Where a run begins or resumes: before the first step, or from a whole checkpoint, own or named."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from data_builders.texts import CONTROLS
from hf_lgt.checkpointing.checkpoints import list_checkpoints, logged_lines, verify
from hf_lgt.checkpointing.run_folder import RESUMED_FILE, RUN, RunKind, has_files, recorded, refusals
from hf_lgt.config.load import Trained
from hf_lgt.config.schema import short
from hf_lgt.utils.errors import CheckpointError, ConfigError

AUTO, NEVER = "auto", "never"


@dataclass(frozen=True)
class ResumePoint:
    """Where a run begins or resumes."""

    checkpoint: Path | None = None
    """None: before the first step"""
    run_dir: Path | None = None
    """the run that the checkpoint and its logs are of; None: begun anew"""
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


def find_resume_point(
    config: Trained, overwrite: bool, resume: str | Path, kind: RunKind = RUN
) -> ResumePoint:
    """Find where a run resumes, and refuse a folder that must not be trained into; writes nothing.

    A run that was begun from the checkpoint that is named resumes from its own, as with ``auto``, so that
    the same command can be given again.

    Args:
        config: the run.
        overwrite: remove what an earlier run left.
        resume: ``auto``, ``never``, or the path of a checkpoint or of a run.
        kind: of training.

    Raises:
        ConfigError: the folder holds another or a finished run, or no run; or `resume` is the path of no
            whole checkpoint, or does not fit the run.
    """
    run_dir = config.run_dir
    interrupted = has_files(run_dir) and not overwrite
    point = None
    if resume not in (AUTO, NEVER):
        given = resolved(resume)
        if not interrupted or recorded(run_dir, RESUMED_FILE).get("given") != str(given):
            point = named(given, kind.logs)
    if interrupted and (faults := refusals(config, kind=kind)):
        raise ConfigError(faults)
    if resume == NEVER and interrupted:
        raise ConfigError(
            [
                f"--resume: {run_dir} holds a run that was interrupted, and 'never' does not resume it; "
                "'auto' does, and --overwrite begins it anew"
            ]
        )
    if point:
        if faults := _misfit(point, config, overwrite, kind):
            raise ConfigError(faults)
        return point
    return _own_point(run_dir, kind) if interrupted else ResumePoint()


def _own_point(run_dir: Path, kind: RunKind) -> ResumePoint:
    """Where an interrupted run resumes."""
    found, begun = newest(run_dir, kind.logs), recorded(run_dir, RESUMED_FILE)
    given, path = begun.get("given"), begun.get("path")
    if found.checkpoint is None and isinstance(given, str) and isinstance(path, str):
        # it was begun from another run's, and stopped before it had one of its own
        return replace(named(Path(path), kind.logs), named=Path(given))
    return found


def _misfit(point: ResumePoint, config: Trained, overwrite: bool, kind: RunKind) -> list[str]:
    """Why a run cannot begin from the checkpoint that the user names."""
    run_dir, origin = config.run_dir, point.run_dir
    assert origin is not None, "a checkpoint that is named belongs to a run"
    place, own = origin.resolve(), run_dir.resolve()
    if overwrite and own in (place, *place.parents):
        told = f"{point.checkpoint} lies in {run_dir}, which --overwrite removes"
        return [f"--resume: {told}; give one of the two"]
    if place != own and has_files(run_dir) and not overwrite:
        return [
            f"--resume: {run_dir} holds a run already, which a checkpoint of {origin} does not belong to; "
            "choose another name, or resume that run by --resume auto"
        ]
    if place != own and not kind.can_branch:
        return [
            "--resume: a pretraining resumes from its own checkpoints alone, which its revisions belong to"
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


def newest(run_dir: Path, logs: Sequence[str]) -> ResumePoint:
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
            return ResumePoint(path, run_dir, logged_lines(path, run_dir, logs), tuple(faults))
        except CheckpointError as error:
            faults.append(str(error))
    if whole:
        told = "restore the log, or begin anew with --overwrite; the checkpoints themselves are whole"
        raise ConfigError([*faults, f"{run_dir} cannot resume: {told}"])
    return ResumePoint(None, run_dir, dict.fromkeys(logs, 0), tuple(faults))


def resolved(path: str | Path) -> Path:
    """A path without links; as it is where it cannot be one: a loop of links, a name with NUL."""
    try:
        return Path(path).resolve()
    except (OSError, RuntimeError, ValueError):
        return Path(path)


def named(path: Path, logs: Sequence[str]) -> ResumePoint:
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
        return ResumePoint(path, run_dir, logged_lines(path, run_dir, logs), named=path)
    except CheckpointError as error:
        raise ConfigError([f"--resume: {error}"]) from None
