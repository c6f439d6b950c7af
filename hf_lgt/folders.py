"""The folder of a run: made ready, continued or refused, never overwritten unasked."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_lgt import yaml12
from hf_lgt.checkpoints import newest_checkpoint
from hf_lgt.config import Config, ConfigError, Trained, config_from_dict
from hf_lgt.environment import describe_environment
from hf_lgt.files import write_text

if TYPE_CHECKING:
    from accelerate import Accelerator

DATA_FILE = "data.json"
CHECKPOINT_FILE = "checkpoint.json"


def is_finished(run_dir: Path) -> bool:
    """Whether a run came to its end: its model is written last."""
    return (run_dir / "model").is_dir()


def _other_rows(run_dir: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    return (
        f"data.path: {now['path']!r} is not what it was when the run in {run_dir} began "
        f"({before.get('train_rows')} training rows, now {now['train_rows']}); --overwrite begins it anew"
    )


@dataclasses.dataclass(frozen=True)
class Kind:
    """What the folders of one kind of training hold."""

    read: Callable[[dict[str, Any]], Trained] = config_from_dict
    """config from plain data"""
    is_finished: Callable[[Path], bool] = is_finished
    data_file: str = DATA_FILE
    """what was trained on, with its ``fingerprint``"""
    other_data: Callable[[Path, Mapping[str, Any], Mapping[str, Any]], str] = _other_rows
    """the fault of a folder that was begun with other data: (folder, data then, data now)"""
    logs: tuple[str, ...] = ("train.jsonl", "eval.jsonl")


RUN = Kind()


def read_run_config(run_dir: Path) -> Config:
    """The config that a run was made with.

    Raises:
        ConfigError: there is none, or it is not valid.
    """
    return config_from_dict(_read_config(run_dir))


def _read_config(run_dir: Path) -> dict[str, Any]:
    try:
        data = yaml12.load((run_dir / "config.yaml").read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml12.YAMLError):
        data = None
    if not isinstance(data, dict):
        raise ConfigError([f"{run_dir} is no run: it has no config.yaml that can be read"])
    return data


def check_folder(config: Trained, overwrite: bool, kind: Kind = RUN) -> None:
    """Refuse a folder that must not be trained into, before anything else is done.

    Raises:
        ConfigError: it holds another or a finished run, or no run.
    """
    run_dir = config.run_dir
    exists = run_dir.is_dir() and any(run_dir.iterdir())
    if exists and not overwrite and (faults := refusals(config, kind=kind)):
        raise ConfigError(faults)


def prepare_folder(
    config: Trained,
    overwrite: bool,
    accelerator: Accelerator,
    data: Mapping[str, Any],
    kind: Kind = RUN,
) -> tuple[Path | None, list[str]]:
    """Make the run's folder ready; gives the checkpoint to continue from, and news for the user.

    Args:
        config: the run.
        overwrite: remove what an earlier run left.
        accelerator: tells the processes.
        data: what is trained on, as the rows that a dataset gave, written to ``data.json``; an interrupted
            run goes on with the same only. Empty for generated data.
        kind: of training.

    Raises:
        ConfigError: the folder must not be touched, or cannot be made.
    """
    run_dir = config.run_dir
    faults: list[str] = []
    resume_from: Path | None = None
    news: list[str] = []
    exists = run_dir.is_dir() and any(run_dir.iterdir())
    if exists and not overwrite:
        faults = refusals(config, kind=kind) or _other_data(run_dir, data, kind)
        if not faults:
            resume_from, news = newest_checkpoint(run_dir)
    # all processes have looked at the folder before one of them changes it
    accelerator.wait_for_everyone()
    if faults:
        raise ConfigError(faults)
    if accelerator.is_main_process:
        try:
            if exists and overwrite:
                _remove_run(run_dir, kind)
            run_dir.mkdir(parents=True, exist_ok=True)
            write_text(run_dir / "config.yaml", yaml12.dump(config.to_dict()))
            if data:
                write_text(run_dir / kind.data_file, json.dumps(data, indent=1) + "\n")
            about = describe_environment(str(accelerator.device), accelerator.num_processes)
            write_text(run_dir / "environment.json", json.dumps(about, indent=1) + "\n")
        except OSError as error:
            raise ConfigError([f"output_dir: {run_dir}: {error.strerror}"]) from None
        step = int(resume_from.name.removeprefix("step-")) if resume_from else 0
        if exists and not overwrite:
            for name in kind.logs:
                # begun anew, it evaluates before the first step again
                _cut_log(run_dir / name, step if resume_from else -1)
            news = [*news, f"{run_dir} was interrupted; it goes on from step {step}"]
    accelerator.wait_for_everyone()
    return resume_from, news


def refusals(config: Trained, finished_is_fine: bool = False, kind: Kind = RUN) -> list[str]:
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
    before: Any = kind.read(_read_config(run_dir))
    if dataclasses.replace(before, output_dir=config.output_dir) != config:
        return [f"name: {run_dir} holds a run of another config; {advice}"]
    return []


def _other_data(run_dir: Path, data: Mapping[str, Any], kind: Kind) -> list[str]:
    """Whether the data are others than when the run began."""
    file = run_dir / kind.data_file
    try:
        before = json.loads(file.read_text(encoding="utf-8")) if data else None
    except FileNotFoundError:
        return []
    except ValueError:
        return [f"{file} is not JSON; --overwrite begins the run anew"]
    if before is None or before.get("fingerprint") == data["fingerprint"]:
        return []
    return [kind.other_data(run_dir, before, data)]


def recorded_data(run_dir: Path | None, kind: Kind = RUN) -> dict[str, Any]:
    """What an earlier start of a run wrote of the rows that it read, empty if there is nothing."""
    return _recorded(run_dir, kind.data_file)


def recorded_checkpoint(run_dir: Path | None) -> dict[str, Any]:
    """What an earlier start of a run wrote of the checkpoint that it began with, empty if nothing."""
    return _recorded(run_dir, CHECKPOINT_FILE)


def _recorded(run_dir: Path | None, name: str) -> dict[str, Any]:
    if run_dir is None:
        return {}
    try:
        data = json.loads((run_dir / name).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return data if isinstance(data, dict) else {}


def _remove_run(run_dir: Path, kind: Kind) -> None:
    if not (run_dir / "config.yaml").is_file():
        raise ConfigError([f"output_dir: {run_dir} holds files that are no run; --overwrite spares them"])
    kind.read(_read_config(run_dir))  # a folder with somebody else's config.yaml is no run either
    shutil.rmtree(run_dir)


def _cut_log(path: Path, step: int) -> None:
    """Keep the lines up to a step; what was logged after the checkpoint will be logged again."""
    if not path.is_file():
        return
    kept = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines(keepends=True):
        try:
            if json.loads(line)["step"] > step:
                break
        except (ValueError, KeyError, TypeError):
            break  # the line that was being written when the run was stopped
        kept.append(line)
    write_text(path, "".join(kept))
