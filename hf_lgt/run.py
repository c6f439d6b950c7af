"""A whole run: config -> folder, model, training with evaluation, saved model and card."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import transformers
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import ProjectConfiguration, broadcast_object_list, gather_object

from hf_lgt.config import Config, ConfigError
from hf_lgt.data import RunData, example_texts, open_data, prepare_data
from hf_lgt.evaluation.harness import evaluate_tests
from hf_lgt.evaluation.records import EvalRecord, last_step, read_records
from hf_lgt.evaluation.test_sets import TestSets
from hf_lgt.files import atomic_directory
from hf_lgt.folders import check_folder, is_finished, prepare_folder, recorded_data, refusals
from hf_lgt.models import build_model
from hf_lgt.report.model_card import model_card
from hf_lgt.trainer import Evaluate, fit

EVAL_LOG = "eval.jsonl"


@dataclass(frozen=True)
class RunResult:
    """A finished run."""

    run_dir: Path
    records: list[EvalRecord]
    """of the last evaluation"""


def train(
    config: Config,
    *,
    overwrite: bool = False,
    progress: bool = True,
    say: Callable[[str], None] = lambda line: None,
) -> RunResult:
    """Train, evaluate and save one run.

    A run of the same config that was interrupted goes on from its newest whole checkpoint, with the
    same numbers as if it had not been. A finished one, or one of another config, is never touched.

    Args:
        config: from `load_config`.
        overwrite: remove what an earlier run left in the folder.
        progress: show bars.
        say: takes a line of news for the user, on the main process.

    Raises:
        ConfigError: the folder holds another or a finished run, or the config does not suit this
            machine.
        TrainingError: the loss is not finite.
    """
    transformers.utils.logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # of the "writing model shards" kind
    accelerator = _accelerator(config)
    check_folder(config, overwrite)  # before the data, which may take long
    data = _prepare_data(config, overwrite, accelerator, progress)
    resume_from, news = prepare_folder(config, overwrite, accelerator, data.about)
    if accelerator.is_main_process:
        for line in news:
            say(line)
    model = build_model(config.model, data.codec, config.seed.init)
    if config.train.trackers:
        accelerator.init_trackers(config.name, config=_flat(config.to_dict()))
    bare = fit(
        config,
        model,
        data.codec,
        data.source,
        accelerator,
        evaluate=_evaluator(config, data.tests, accelerator, progress),
        resume_from=resume_from,
        progress=progress,
    )
    accelerator.wait_for_everyone()
    records = last_step(read_records(config.run_dir / EVAL_LOG))
    if accelerator.is_main_process:
        with atomic_directory(config.run_dir / "model") as draft:
            bare.save_pretrained(draft)
            data.codec.save(draft)
            card = model_card(config, records, example_texts(config, data.tests), data.about)
            (draft / "README.md").write_text(card, encoding="utf-8")
    accelerator.end_training()
    return RunResult(config.run_dir, records)


def finished(config: Config) -> RunResult | None:
    """The result of a run that is done, None where there is still something to train.

    Raises:
        ConfigError: the folder holds a finished run of another config.
    """
    if not is_finished(config.run_dir):
        return None
    if faults := refusals(config, finished_is_fine=True):
        raise ConfigError(faults)
    return RunResult(config.run_dir, last_step(read_records(config.run_dir / EVAL_LOG)))


def _prepare_data(config: Config, overwrite: bool, accelerator: Accelerator, progress: bool) -> RunData:
    """The run's data, the same rows on every process.

    Raises:
        ConfigError: see `hf_lgt.data`; also where the processes read different rows.
    """
    # an interrupted run goes on with the rows that it began with, whatever was pushed since
    revision = None if overwrite else recorded_data(config.run_dir).get("revision")
    opened = open_data(config, revision) if accelerator.is_main_process else None
    if accelerator.num_processes > 1:
        # the others find the files in the cache, and take the commit that the first one found
        found = [opened.revision if opened else revision]
        broadcast_object_list(found)
        if not accelerator.is_main_process:
            opened = open_data(config, found[0])
    data = prepare_data(config, opened, progress=progress and accelerator.is_main_process)
    if accelerator.num_processes > 1 and opened:
        prints = gather_object([data.about["fingerprint"]])
        if len(set(prints)) > 1:
            raise ConfigError([f"data.path: {config.data.path!r} is not the same on all processes"])
    return data


def _evaluator(config: Config, tests: TestSets, accelerator: Accelerator, progress: bool) -> Evaluate:
    """What the trainer calls: evaluates, appends to ``eval.jsonl``, tells the trackers."""

    def evaluate_at(bare: Any, step: int) -> None:
        records = evaluate_tests(
            bare,
            tests,
            step=step,
            batch_tokens=config.eval.batch_tokens,
            mistakes=config.eval.mistakes if step == config.train.steps else 0,
            progress=progress and accelerator.is_main_process,
        )
        if accelerator.is_main_process:
            with open(config.run_dir / EVAL_LOG, "a", encoding="utf-8") as file:
                file.write("".join(record.to_json() + "\n" for record in records))
        means = {f"exact_match/{r.task}/length_{r.length:03d}": r.exact_match for r in records}
        accelerator.log(means, step=step)

    return evaluate_at


def _accelerator(config: Config) -> Accelerator:
    """An accelerator for this config; checks what depends on the machine."""
    # A second run in one process may ask for another precision, which the shared state refuses.
    AcceleratorState._reset_state()
    accelerator = Accelerator(
        mixed_precision=config.train.precision,
        log_with=list(config.train.trackers) or None,
        project_config=ProjectConfiguration(
            project_dir=str(config.run_dir), logging_dir=str(config.run_dir / "trackers")
        ),
    )
    faults = []
    if config.train.batch_size % accelerator.num_processes:
        faults.append(
            f"train.batch_size: {config.train.batch_size} is no multiple of the "
            f"{accelerator.num_processes} processes"
        )
    if config.train.precision == "fp16" and accelerator.device.type == "cpu":
        faults.append("train.precision: 'fp16' needs a GPU; on a CPU use 'no' or 'bf16'")
    if faults:
        raise ConfigError(faults)
    return accelerator


def _flat(data: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings as ``section.key``, for trackers that take plain values only."""
    flat: dict[str, Any] = {}
    for key, value in data.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            plain = isinstance(value, (int, float, str, bool))
            flat[prefix + key] = value if plain else json.dumps(value)
    return flat
