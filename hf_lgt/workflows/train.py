"""A whole run: config -> folder, model, training with evaluation, saved model and card."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from accelerate import Accelerator

from hf_lgt.checkpointing.adapter_files import is_adapted, save_adapters
from hf_lgt.checkpointing.checkpoints import writing
from hf_lgt.checkpointing.open_run import locked_run_folder
from hf_lgt.checkpointing.resume import AUTO
from hf_lgt.checkpointing.run_folder import is_finished, recorded_checkpoint, refusals
from hf_lgt.config.schema import Config
from hf_lgt.data.build import RunData, example_texts
from hf_lgt.data.eval_sets import TestSets
from hf_lgt.evaluation.criterion import Criterion
from hf_lgt.evaluation.harness import cells_on_the_way, evaluate_tests
from hf_lgt.evaluation.records import EvalRecord, last_step, read_records
from hf_lgt.models.adapters import merged
from hf_lgt.models.heads import is_looped
from hf_lgt.report.canvas import optional
from hf_lgt.report.model_card import model_card
from hf_lgt.report.results import FIGURES, write_figures
from hf_lgt.training.accelerator import flat_settings, make_accelerator
from hf_lgt.training.step import Evaluate, TrainingRun
from hf_lgt.training.train_log import end_trackers, start_trackers, track
from hf_lgt.training.trainer import fit
from hf_lgt.utils.atomic_io import atomic_directory, clear_drafts
from hf_lgt.utils.errors import ConfigError
from hf_lgt.utils.fsdp import full_weights
from hf_lgt.utils.jsonl import append_lines
from hf_lgt.workflows.announcement import announce
from hf_lgt.workflows.self_improvement import SelfImprovement
from hf_lgt.workflows.setup import (
    PreparedRun,
    begins_with_evaluation,
    log_news,
    make_model,
    open_folder,
    prepare_run,
)

EVAL_LOG = "eval.jsonl"


@dataclass(frozen=True)
class RunResult:
    """A finished run."""

    run_dir: Path
    history: list[EvalRecord]
    """of all evaluations"""
    figures: list[Path] = field(default_factory=list)

    @property
    def records(self) -> list[EvalRecord]:
        """Of the last evaluation."""
        return last_step(self.history)

    @property
    def zero_shot(self) -> list[EvalRecord]:
        """Of the one before the first step, of a run that began with pretrained weights."""
        return [r for r in self.history if r.step == 0]


def train(
    config: Config,
    *,
    overwrite: bool = False,
    resume: str | Path = AUTO,
    progress: bool = True,
) -> RunResult:
    """Train, evaluate and save one run.

    A run of the same config that was interrupted resumes from its newest whole checkpoint, with the
    same numbers as if it had not been. A finished one, or one of another config, is never touched.

    Args:
        config: from `load_config`.
        overwrite: remove what an earlier run left in the folder.
        resume: ``auto``; ``never`` refuses to resume an interrupted run; or the folder of a checkpoint,
            of this run or of another one of the same config, or of a run whose newest is meant.
        progress: show bars.

    Raises:
        ConfigError: the folder holds another or a finished run, or another process writes to it; or the
            config does not suit this machine.
        TrainingError: the loss or a gradient is not finite, or a log cannot be written.
        CheckpointError: a checkpoint or the model cannot be written.
        Interrupted: SIGTERM or SIGINT came; a checkpoint was written if training had begun.
    """
    accelerator = make_accelerator(config)
    with locked_run_folder(config, accelerator):
        return _train(config, accelerator, overwrite, resume, progress)


def _train(
    config: Config,
    accelerator: Accelerator,
    overwrite: bool,
    resume: str | Path,
    progress: bool,
) -> RunResult:
    """As `train`, for the only writer of the folder."""
    if accelerator.is_main_process and is_finished(config.run_dir):
        for name in FIGURES:  # what a run leaves that is killed after its model was saved
            clear_drafts(config.run_dir, of=Path(name).stem)
    ready = prepare_run(config, accelerator, overwrite, resume, progress)
    log_news(open_folder(ready, accelerator, overwrite))
    announce([ready], accelerator)
    start_trackers(accelerator, config, flat_settings(config.to_dict()))
    run = training_run(ready, accelerator, progress)
    bare = fit(run, accelerator, evaluate_first=begins_with_evaluation(config), progress=progress)
    weights = full_weights(bare, keep=accelerator.is_main_process)
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        if weights is not None:
            bare = make_model(config, ready.start, ready.data.codec)
            bare.load_state_dict(weights)
        save_run(config, bare, ready.data)
    end_trackers(accelerator)
    return result_of(config)


def result_of(config: Config) -> RunResult:
    """What the run's folder says."""
    records = read_records(config.run_dir / EVAL_LOG)
    figures = [path for name in FIGURES if (path := config.run_dir / name).is_file()]
    return RunResult(config.run_dir, records, figures)


def save_run(config: Config, bare: Any, data: RunData) -> None:
    """Write ``adapter/`` where there are adapters, ``model/``, which transformers loads, then the figures.

    Raises:
        CheckpointError: model or adapters cannot be written; a card or figure that cannot be is left out.
    """
    card = ""
    with optional("the model's card", "the model is saved without it"):
        base = recorded_checkpoint(config.run_dir)
        records = result_of(config).history
        examples = example_texts(config, data.tests)
        card = model_card(config, records, examples, data.about, base, looped=is_looped(bare))
    if is_adapted(bare):
        # left by a run that was stopped here
        path = config.run_dir / "adapter"
        with writing(f"{path}"), atomic_directory(path, replace=True) as draft:
            save_adapters(bare, draft)
            data.codec.save(draft)
        bare = merged(bare)
    path = config.run_dir / "model"
    # it says that the run is finished; what nothing else needs comes after it
    with writing(f"{path}"), atomic_directory(path) as draft:
        bare.save_pretrained(draft)
        data.codec.save(draft)
        if card:
            (draft / "README.md").write_text(card, encoding="utf-8")
    again = f"hf-lgt evaluate {shlex.quote(str(config.run_dir))} draws it"
    with optional("figures", again):
        write_figures(config, result_of(config).records, config.run_dir, again)


def finished_result(config: Config) -> RunResult | None:
    """The result of a run that is done, None where there is still something to train.

    Raises:
        ConfigError: the folder holds a finished run of another config.
    """
    if not is_finished(config.run_dir):
        return None
    if faults := refusals(config, finished_is_fine=True):
        raise ConfigError(faults)
    return result_of(config)


def training_run(ready: PreparedRun, accelerator: Accelerator, progress: bool) -> TrainingRun:
    """What the trainer takes of a run that was made ready."""
    config, data = ready.config, ready.data
    evaluate = evaluator(config, data.tests, accelerator, progress)
    main, rounds = accelerator.is_main_process, config.train.self_improvement.rounds
    return TrainingRun(
        config,
        ready.model,
        data.codec,
        data.source,
        evaluate,
        ready.point.checkpoint,
        SelfImprovement(config, data, main=main) if rounds else None,
    )


def evaluator(config: Config, tests: TestSets, accelerator: Accelerator, progress: bool) -> Evaluate:
    """What the trainer calls: evaluates, appends to ``eval.jsonl``, tells the trackers."""

    between, criterion = cells_on_the_way(tests.cells, config), Criterion.of(config)

    def evaluate_at(bare: Any, step: int, last: bool) -> bool:
        records = evaluate_tests(
            bare,
            tests,
            step=step,
            batch_tokens=config.eval.batch_tokens,
            mistakes=config.eval.mistakes if last else 0,
            cells=between if step and not last else None,
            progress=progress and accelerator.is_main_process,
        )
        if accelerator.is_main_process:
            append_lines(config.run_dir / EVAL_LOG, [record.to_json() for record in records])
        means = {f"exact_match/{r.task}/length_{r.length:03d}": r.exact_match for r in records}
        track(accelerator, means, step)
        return criterion is not None and criterion.holds(step, records)

    return evaluate_at
