"""The folder of a run: what it holds, and whether it may be trained into."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from data_builders.reading import LARGEST_LOG, read_bytes, read_json
from hf_lgt.config.load import Trained, config_from_dict
from hf_lgt.config.schema import Config
from hf_lgt.utils import yaml
from hf_lgt.utils.atomic_io import clear_drafts, is_draft, is_full, try_place
from hf_lgt.utils.errors import ConfigError

DATA_FILE = "data.json"
CHECKPOINT_FILE = "checkpoint.json"
RESUMED_FILE = "resumed.json"
"""which checkpoint, named by the user, the run began from; the first file of such a run"""


def is_finished(run_dir: Path) -> bool:
    """Whether a run came to its end: its model is written last."""
    return (run_dir / "model").is_dir()


def _other_rows(run_dir: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    return (
        f"data.path: {now['path']!r} is not what it was when the run in {run_dir} began "
        f"({before.get('train_rows')} training rows, now {now['train_rows']}); --overwrite begins it anew"
    )


@dataclasses.dataclass(frozen=True)
class RunKind:
    """What the folders of one kind of training hold."""

    read: Callable[[dict[str, Any]], Trained] = config_from_dict
    """config from plain data"""
    is_finished: Callable[[Path], bool] = is_finished
    data_file: str = DATA_FILE
    """what was trained on, with its ``fingerprint``"""
    other_data: Callable[[Path, Mapping[str, Any], Mapping[str, Any]], str] = _other_rows
    """the fault of a folder that was begun with other data: (folder, data then, data now)"""
    logs: tuple[str, ...] = ("train.jsonl", "eval.jsonl", "self_improvement.jsonl")
    folders: tuple[str, ...] = ("checkpoints",)
    """in which something is written whole or not at all"""
    can_branch: bool = True
    """whether a run may begin from a checkpoint of another"""

    def read_run(self, run_dir: Path) -> Trained:
        """The config that a run was made with.

        Raises:
            ConfigError: there is none, or it is not valid; names the file.
        """
        try:
            return self.read(read_config(run_dir))
        except ConfigError as error:
            file = f"{run_dir / 'config.yaml'}: "
            told = [fault if str(run_dir) in fault else file + fault for fault in error.faults]
            raise ConfigError(told) from None


RUN = RunKind()


def check_place(path: Path, option: str = "--output") -> None:
    """Remove what a killed writer left at a place, and refuse one where nothing can be written.

    It is tried, before the work that is written there; nothing stays of that.

    Raises:
        ConfigError: as where a file stands in the place of a folder above.
        OSError: the disk is full.
    """
    clear_drafts(path.parent, path.name)
    try:
        try_place(path)
    except OSError as error:
        if is_full(error):
            raise
        raise ConfigError([f"{option}: {path} cannot be written: {error.strerror or error}"]) from None


def has_files(run_dir: Path) -> bool:
    """Whether there is anything in a folder but what a writer that was killed left unfinished."""
    if not run_dir.is_dir():
        return False
    return not all(is_draft(path) or path.name == RESUMED_FILE for path in run_dir.iterdir())


def read_run_config(run_dir: Path) -> Config:
    """The config that a run was made with.

    Raises:
        ConfigError: there is none, or it is not valid.
    """
    return config_from_dict(read_config(run_dir))


def read_config(run_dir: Path) -> dict[str, Any]:
    """What stands in a run's ``config.yaml``.

    Raises:
        ConfigError: there is none that can be read.
    """
    try:
        data = yaml.read(run_dir / "config.yaml")
    except (OSError, yaml.YAMLError) as error:
        reason = getattr(error, "strerror", None) or str(error)
    else:
        if isinstance(data, dict):
            return data
        reason = "holds no keys"
    raise ConfigError([f"{run_dir} is no run: it has no config.yaml that can be read ({reason})"])


def refusals(config: Trained, finished_is_fine: bool = False, kind: RunKind = RUN) -> list[str]:
    """Why an existing folder must not be trained into.

    Args:
        config: the run that would be trained.
        finished_is_fine: a finished run of the same config will be kept, as a comparison does.
        kind: of training.
    """
    run_dir = config.run_dir
    advice = "choose another name or output_dir, or " + (
        "remove the folder" if finished_is_fine else "give --overwrite to remove it"
    )
    if not (run_dir / "config.yaml").is_file():
        return [f"output_dir: {run_dir} holds files that are no run of hf_lgt; {advice}"]
    if kind.is_finished(run_dir) and not finished_is_fine:
        return [f"name: {run_dir} holds a finished run; {advice}"]
    # a run may have been moved: where it lies is no part of what it is
    before: Any = kind.read_run(run_dir)
    if dataclasses.replace(before, output_dir=config.output_dir) != config:
        return [f"name: {run_dir} holds a run of another config; {advice}"]
    return []


def other_data_faults(run_dir: Path, data: Mapping[str, Any], kind: RunKind) -> list[str]:
    """Whether the data are others than when the run began."""
    file = run_dir / kind.data_file
    try:
        before = read_json(file) if data else None
    except FileNotFoundError:
        return []
    except OSError as error:
        return [f"{file}: {error.strerror}; --overwrite begins the run anew"]
    if before is None:
        return []
    if before.get("fingerprint") == data["fingerprint"]:
        return []
    return [kind.other_data(run_dir, before, data)]


def recorded_data(run_dir: Path | None, kind: RunKind = RUN) -> dict[str, Any]:
    """What an earlier start of a run wrote of the rows that it read, empty if there is nothing."""
    return recorded(run_dir, kind.data_file)


def recorded_checkpoint(run_dir: Path | None) -> dict[str, Any]:
    """What an earlier start of a run wrote of the checkpoint that it began with, empty if nothing."""
    return recorded(run_dir, CHECKPOINT_FILE)


def recorded(run_dir: Path | None, name: str) -> dict[str, Any]:
    """What stands in a file of a run, empty if there is none.

    Raises:
        ConfigError: it cannot be read, so that nobody takes what it said for unknown.
    """
    if run_dir is None:
        return {}
    file = run_dir / name
    try:
        data = read_json(file)
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        told = f"{file}: {error.strerror}; restore it, or train the run anew with --overwrite"
        raise ConfigError([told]) from None
    texts = ("revision", "commit")
    return {key: value for key, value in data.items() if key not in texts or isinstance(value, str)}


def trained_tokens(run_dir: Path) -> int | None:
    """Tokens that a run was trained on, as the last whole line of its log says; None where none does."""
    try:
        lines = read_bytes(run_dir / "train.jsonl", LARGEST_LOG).split(b"\n")[:-1]
        tokens = json.loads(lines[-1])["tokens"]
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return tokens if type(tokens) is int and tokens >= 0 else None
