"""A whole pretraining: config -> text, tokenizer, model, training with revisions on the way."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator
from numpy.typing import NDArray

from data_builders.sampling import stream
from hf_lgt.checkpointing.checkpoints import save_weights, writing
from hf_lgt.checkpointing.open_run import locked_run_folder, prepare_folder
from hf_lgt.checkpointing.resume import AUTO, find_resume_point
from hf_lgt.checkpointing.run_folder import RunKind, recorded_data, refusals
from hf_lgt.config.load import from_dict
from hf_lgt.data.codec import TextCodec
from hf_lgt.models.build import build_model, parameter_count
from hf_lgt.models.local_hub import MAIN, snapshot, write_revision
from hf_lgt.pretraining.config import PRETRAINING, PretrainConfig
from hf_lgt.pretraining.report import FIGURE, revision_card, write_figure
from hf_lgt.pretraining.source import BlockSource, spread_starts
from hf_lgt.pretraining.text import Text, other_text, prepare_text
from hf_lgt.pretraining.tokenizer import bytes_of_tokens, token_stream, train_tokenizer
from hf_lgt.pretraining.validation import (
    LOG,
    ValidationMeasurement,
    append_measurement,
    read_measurements,
    validation_loss,
)
from hf_lgt.report.canvas import optional
from hf_lgt.training.accelerator import flat_settings, make_accelerator
from hf_lgt.training.step import TrainingRun
from hf_lgt.training.train_log import end_trackers, start_trackers, track
from hf_lgt.training.trainer import fit
from hf_lgt.utils.atomic_io import clear_drafts
from hf_lgt.utils.distributed import gathered, opened_alike
from hf_lgt.utils.errors import ConfigError
from hf_lgt.utils.fsdp import full_weights

_log = logging.getLogger(__name__)

KEPT_CHECKPOINTS = 2
"""the newest, and the one before in case it is damaged"""


def has_main_revision(run_dir: Path) -> bool:
    """Whether a pretraining came to its end: ``main`` is written last."""
    return (run_dir / "refs" / MAIN).is_file()


KIND = RunKind(
    read=partial(from_dict, PRETRAINING),
    is_finished=has_main_revision,
    data_file="text.json",
    other_data=other_text,
    logs=("train.jsonl", LOG),
    folders=("checkpoints", "snapshots", "refs"),
    can_branch=False,
)


@dataclass(frozen=True)
class PretrainingData:
    """What a pretraining reads."""

    about: dict[str, Any]
    """of the text, for ``text.json``"""
    codec: TextCodec
    source: BlockSource
    validation: NDArray[np.uint16]
    """the stream of validation tokens"""


def pretrain(
    config: PretrainConfig,
    *,
    overwrite: bool = False,
    resume: str | Path = AUTO,
    progress: bool = True,
) -> list[ValidationMeasurement]:
    """Pretrain one model and keep its revisions.

    One that was interrupted resumes from its newest whole checkpoint, with the same numbers as if it had
    not been. A finished one, or one of another config or text, is never touched.

    Args:
        config: from `load_pretrain_config`.
        overwrite: remove what an earlier run left in the folder.
        resume: as in `hf_lgt.train`; a checkpoint must be of this very folder, whose revisions it has.
        progress: show a bar.

    Returns:
        Every measurement of the validation loss.

    Raises:
        ConfigError: the folder holds another or a finished run, the text cannot be read or is too short,
            or the config does not suit this machine.
        TrainingError: the loss or a gradient is not finite, or a log cannot be written.
        CheckpointError: a checkpoint or revision cannot be written.
        Interrupted: SIGTERM or SIGINT came; a checkpoint was written if training had begun.
    """
    accelerator = make_accelerator(config)
    with locked_run_folder(config, accelerator):
        return _pretrain(config, accelerator, overwrite, resume, progress)


def _pretrain(
    config: PretrainConfig,
    accelerator: Accelerator,
    overwrite: bool,
    resume: str | Path,
    progress: bool,
) -> list[ValidationMeasurement]:
    """As `pretrain`, for the only writer of the folder."""
    if not overwrite and has_main_revision(config.run_dir) and not refusals(config, True, KIND):
        _clear_up(config)
    point = find_resume_point(config, overwrite, resume, KIND)  # before the text, which may take long
    prepared = prepare_pretraining_data(config, _same_text(config, point.run_dir))
    for line in prepare_folder(config, overwrite, accelerator, prepared.about, point, KIND):
        _log.info(line)
    model = build_model(config.model, prepared.codec, config.seed.init)
    _log.info("model:     %s parameters, %s", f"{parameter_count(model):,}", config.model.architecture)
    start_trackers(accelerator, config, flat_settings(config.to_dict()))
    evaluate = Evaluator(config, prepared, accelerator)
    run = TrainingRun(config, model, prepared.codec, prepared.source, evaluate, point.checkpoint)
    keep_last = config.train.keep_last or KEPT_CHECKPOINTS
    fit(run, accelerator, evaluate_first=True, keep_last=keep_last, progress=progress)
    accelerator.wait_for_everyone()
    if accelerator.is_main_process:
        _finish(config)
    end_trackers(accelerator)
    return read_measurements(config.run_dir)


def finished_pretraining(config: PretrainConfig) -> list[ValidationMeasurement] | None:
    """The measurements of a pretraining that is done, None where there is still something to train.

    Raises:
        ConfigError: the folder holds a finished one of another config.
    """
    if not has_main_revision(config.run_dir):
        return None
    if faults := refusals(config, finished_is_fine=True, kind=KIND):
        raise ConfigError(faults)
    return read_measurements(config.run_dir)


def prepare_pretraining_data(config: PretrainConfig, text: Text) -> PretrainingData:
    """Tokenizer and batches for a text.

    Raises:
        ConfigError: the text is too short for the tokenizer or for the sequences.
    """
    about = text.about
    for line in text.warnings:
        _log.warning(line)
    _log.info(
        f"text:      {about['documents']:,} documents, {about['characters']:,} characters; for validation "
        f"{about['validation_documents']:,} and {about['validation_characters']:,}; "
        f"{about['skipped']:,} files or rows are no text"
    )
    codec = TextCodec(train_tokenizer(text.train, config.tokenizer), tags=False)
    order = stream(config.seed.data, "documents").permutation(len(text.train))
    tokens = token_stream([text.train[i] for i in order], codec)
    validation = token_stream(text.validation, codec)
    length = config.sequence_length
    least = 2 * length - 1  # one whole sequence, wherever an epoch begins to cut
    if len(tokens) < least or len(validation) < length:
        raise ConfigError(
            [
                f"sequence_length: the text is too short for {length}: {len(tokens)} tokens to train on, at "
                f"least {least} are needed; {len(validation)} to measure the loss on, at least {length}. "
                "Take more text, or text.validation_share higher"
            ]
        )
    source = BlockSource(tokens, length=length, batch_size=config.train.batch_size, seed=config.seed.data)
    passes = config.train.steps * config.train.batch_size / source.blocks
    _log.info(
        f"tokens:    {len(tokens):,}, vocabulary {codec.vocab_size:,}; read {passes:.2f} times; "
        f"{len(validation):,} for validation"
    )
    return PretrainingData(about, codec, source, validation)


def _same_text(config: PretrainConfig, origin: Path | None) -> Text:
    """The text, the same on every process; of a dataset the commit that the run began with.

    Raises:
        ConfigError: see `prepare_text`; also where the processes read different texts.
    """
    revision = recorded_data(origin, KIND).get("revision")
    text = opened_alike(
        lambda revision: prepare_text(config.text, revision), lambda text: text.about["revision"], revision
    )
    if len(set(gathered(text.about["fingerprint"]))) > 1:
        raise ConfigError([f"text.source: {config.text.source!r} is not the same on all processes"])
    return text


class Evaluator:
    """What the trainer calls: measures the validation loss, logs it, keeps revisions."""

    def __init__(self, config: PretrainConfig, prepared: PretrainingData, accelerator: Accelerator) -> None:
        self.config = config
        self.prepared = prepared
        self.accelerator = accelerator
        length, tokens = config.sequence_length, len(prepared.validation)
        self._starts = spread_starts(tokens, length, config.validation_sequences)
        self._sizes = bytes_of_tokens(prepared.codec.tokenizer)

    def __call__(self, model: Any, step: int, last: bool) -> bool:
        config, length = self.config, self.config.sequence_length
        loss, bits = validation_loss(
            model,
            self.prepared.validation,
            self._starts,
            self._sizes,
            length=length,
            batch_size=config.train.batch_size,
        )
        measured = ValidationMeasurement(step, step * config.train.batch_size * length, loss, bits)
        kept, main = step in config.kept_steps, self.accelerator.is_main_process
        weights = full_weights(model, keep=main) if kept else None
        if main:
            # the line comes last: where it is, the revision is
            if kept:
                self._keep(model, measured, weights)
            append_measurement(config.run_dir, measured)
        track(self.accelerator, {"validation_loss": loss, "bits_per_byte": bits}, step)
        return False

    def _keep(self, model: Any, measured: ValidationMeasurement, weights: Mapping[str, Any] | None) -> None:
        card = ""
        with optional(f"the card of step {measured.step}", "the revision is saved without it"):
            card = revision_card(self.config, self.prepared.about, measured)

        def fill(folder: Path) -> None:
            save_weights(model, folder, weights)
            self.prepared.codec.save(folder)
            if card:
                (folder / "README.md").write_text(card, encoding="utf-8")
            (folder / "pretraining.json").write_text(
                json.dumps(asdict(measured), indent=1) + "\n", encoding="utf-8"
            )

        # what an interrupted start left of later steps is written anew
        name = f"step-{measured.step}"
        with writing(f"revision {name} of {self.config.run_dir}"):
            write_revision(self.config.run_dir, name, fill, move=True)


def _finish(config: PretrainConfig) -> None:
    """Let ``main`` name the last step; checkpoints, which only serve to resume, are removed."""
    last = snapshot(config.run_dir, f"step-{config.train.steps}")
    with writing(f"revision {MAIN} of {config.run_dir}"):
        write_revision(config.run_dir, MAIN, lambda folder: _copy(last, folder))
    shutil.rmtree(config.run_dir / "checkpoints", ignore_errors=True)


def _clear_up(config: PretrainConfig) -> None:
    """Do what a finished pretraining lacks that was killed after it wrote ``main``."""
    run_dir = config.run_dir
    for name in (".", *KIND.folders):
        clear_drafts(run_dir / name, alone=True)
    shutil.rmtree(run_dir / "checkpoints", ignore_errors=True)
    if not (run_dir / FIGURE).is_file():
        write_figure(config, read_measurements(run_dir), run_dir)


def _copy(source: Path, folder: Path) -> None:
    shutil.copytree(source, folder, dirs_exist_ok=True)
