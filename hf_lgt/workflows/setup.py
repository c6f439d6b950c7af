"""What a run needs made ready: its checkpoint, data and model, then its folder."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from hf_lgt.checkpointing.open_run import prepare_folder
from hf_lgt.checkpointing.resume import ResumePoint, find_resume_point
from hf_lgt.checkpointing.run_folder import CHECKPOINT_FILE, recorded_checkpoint, recorded_data
from hf_lgt.config.schema import Config
from hf_lgt.data.build import RunData, open_data, prepare_data
from hf_lgt.data.codec import TextCodec
from hf_lgt.data.eval_sets import TestSets
from hf_lgt.evaluation.criterion import Criterion
from hf_lgt.evaluation.harness import cells_on_the_way, trained_cells
from hf_lgt.models.adapters import add_adapters
from hf_lgt.models.base_checkpoint import BaseCheckpoint, open_base_checkpoint
from hf_lgt.models.build import build_from_checkpoint, build_model
from hf_lgt.models.heads import is_looped
from hf_lgt.models.packing import require_packing
from hf_lgt.models.resolve import fetch_weights
from hf_lgt.training.warnings import start_warnings
from hf_lgt.utils.atomic_io import write_text
from hf_lgt.utils.distributed import gathered, opened_alike
from hf_lgt.utils.errors import ConfigError

_log = logging.getLogger(__name__)
News = tuple[int, str]
"""level of the log, and a line for the user"""


@dataclass(frozen=True)
class PreparedRun:
    """All that a run needs, before anything is written."""

    config: Config
    point: ResumePoint
    start: BaseCheckpoint | None
    data: RunData
    model: Any


def prepare_run(
    config: Config,
    accelerator: Accelerator,
    overwrite: bool,
    resume: str | Path,
    progress: bool,
    known: dict[str, RunData] | None = None,
) -> PreparedRun:
    """Check the folder, open checkpoint and data, make the model; for the only writer of the folder.

    Args:
        config: the run's.
        accelerator: tells the processes.
        overwrite: remove what an earlier run left.
        resume: see `train`.
        progress: show bars.
        known: data of runs prepared before, which those that differ in name and initial weights alone share.

    Raises:
        ConfigError: see `train`.
    """
    point = find_resume_point(config, overwrite, resume)  # before the data, which may take long
    origin = point.run_dir
    start = _open_start(config, origin, accelerator)
    known = {} if known is None else known
    key = _data_key(config, start, origin)
    if key not in known:
        known[key] = _prepare_data(config, start, origin, accelerator, progress)
    check_evaluated(config, known[key].tests)
    model = make_model(config, start, known[key].codec)
    require_packing(config.train.layout, model)  # before the folder is made
    _check_looped(config, model, accelerator)
    return PreparedRun(config, point, start, known[key], model)


def _check_looped(config: Config, model: Any, accelerator: Accelerator) -> None:
    """Refuse what a model that works longer on longer prompts cannot go with.

    Raises:
        ConfigError: filler would count as a part of the prompt; or processes that need each other's weights
            would take different numbers of loops.
    """
    if not is_looped(model):
        return
    told = f"the model is a {type(model).__name__}, which works longer on longer prompts"
    faults = []
    if config.data.filler:
        faults.append(f"data.filler: {config.data.filler} would count as a part of the prompt: {told}")
    if accelerator.is_fsdp2:
        faults.append(f"accelerate: FSDP needs as many layers of every process: {told}; take DDP")
    if faults:
        raise ConfigError(faults)


def begins_with_evaluation(config: Config) -> bool:
    """Whether a run is evaluated before its first step."""
    return config.model.init == "pretrained" and config.eval.zero_shot


def check_evaluated(config: Config, tests: TestSets) -> None:
    """Refuse a training whose evaluations lack what they are for.

    Raises:
        ConfigError: ``train.until`` asks for a task of whose trained lengths there is no test set; or
            ``eval.during`` leaves no test set at all.
    """
    lengths = {c.task: c.lengths for c in config.mixture}
    trained = trained_cells(tests.cells, config)
    criterion = Criterion.of(config)
    lacking = {} if criterion is None else criterion.lengths.keys() - {cell.task for cell in trained}
    faults = [
        f"train.until.exact_match: there is no test set of {task!r} at a trained length, "
        f"{lengths[task][0]} to {lengths[task][1]}"
        for task in lacking
    ]
    if not cells_on_the_way(tests.cells, config):
        during = config.eval.during
        faults.append(f"eval.during: {during!r}, but no test set is of a trained length; take 'all'")
    if faults:
        raise ConfigError(faults)


def _data_key(config: Config, start: BaseCheckpoint | None, origin: Path | None) -> str:
    """What the data of a run depend on."""
    settings = config.to_dict()
    del settings["name"], settings["output_dir"], settings["seed"]["init"]
    commit = start.checkpoint.commit if start else None
    return json.dumps([settings, commit, recorded_data(origin).get("revision")], sort_keys=True)


def open_folder(
    ready: PreparedRun,
    accelerator: Accelerator,
    overwrite: bool,
    runs: int = 1,
) -> list[News]:
    """Make a run's folder; gives what a user should know.

    Raises:
        ConfigError: see `hf_lgt.checkpointing.open_run.prepare_folder`.
    """
    config, start, data = ready.config, ready.start, ready.data
    news = prepare_folder(config, overwrite, accelerator, data.about, ready.point, runs=runs)
    if start:
        if accelerator.is_main_process:
            about = json.dumps(start.checkpoint.about(), indent=1)
            write_text(config.run_dir / CHECKPOINT_FILE, about + "\n")
        news = [*news, *_added_news(start, data.codec)]
    warnings = [*data.warnings, *start_warnings(config, data.source)]
    return [*((logging.INFO, line) for line in news), *((logging.WARNING, line) for line in warnings)]


def log_news(news: Iterable[News]) -> None:
    """Log each line, once though it be true of several runs."""
    for level, line in dict.fromkeys(news):
        _log.log(level, line)


def make_model(config: Config, start: BaseCheckpoint | None, codec: TextCodec) -> Any:
    """The model that a run trains, with adapters where the config asks for them, on the CPU.

    Raises:
        ConfigError: see `build_from_checkpoint` and `add_adapters`.
    """
    if start is None:
        return build_model(config.model, codec, config.seed.init)
    model = build_from_checkpoint(config.model, start, codec, config.seed.init)
    if config.peft.method == "none":
        return model
    found = start.checkpoint
    revision = found.commit if found.on_hub else None
    return add_adapters(model, config.peft, codec.added, config.seed.init, base=found.name, revision=revision)


def _open_start(config: Config, origin: Path | None, accelerator: Accelerator) -> BaseCheckpoint | None:
    """The run's checkpoint, the same commit on every process and in the run that is resumed.

    Raises:
        ConfigError: see `hf_lgt.models.base_checkpoint.open_base_checkpoint`.
    """
    if config.model.name_or_path is None:
        return None

    def open_at(commit: str | None) -> BaseCheckpoint:
        start = open_base_checkpoint(config.model, commit)
        if accelerator.is_main_process and config.model.init == "pretrained":
            fetch_weights(start.checkpoint, config.model)  # the others find them in the cache
        return start

    commit = recorded_checkpoint(origin).get("commit")
    return opened_alike(open_at, lambda start: start.checkpoint.commit, commit)


def _prepare_data(
    config: Config,
    start: BaseCheckpoint | None,
    origin: Path | None,
    accelerator: Accelerator,
    progress: bool,
) -> RunData:
    """The run's data, the same rows on every process.

    Raises:
        ConfigError: see `hf_lgt.data.build`; also where the processes read different rows.
    """
    # an interrupted run resumes with the rows that it began with, whatever was pushed since
    revision = recorded_data(origin).get("revision")
    opened = opened_alike(
        lambda revision: open_data(config, revision), lambda found: found and found.revision, revision
    )
    data = prepare_data(config, opened, start, progress=progress and accelerator.is_main_process)
    if opened and len(set(gathered(data.about["fingerprint"]))) > 1:
        raise ConfigError([f"data.path: {config.data.path!r} is not the same on all processes"])
    return data


def _added_news(start: BaseCheckpoint, codec: TextCodec) -> list[str]:
    if not codec.added:
        return []
    names = codec.tokenizer.convert_ids_to_tokens(list(codec.added))
    shown = ", ".join(names[:6]) + (", ..." if len(names) > 6 else "")
    return [f"{start.checkpoint.name}: {len(names)} tokens were added to its tokenizer: {shown}"]
