"""Several runs in one process, from their configs to their folders, each as if it had been alone."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from accelerate import Accelerator

from hf_lgt.checkpointing.open_run import folder_faults, locked_run_folder
from hf_lgt.checkpointing.resume import AUTO
from hf_lgt.config.schema import Config
from hf_lgt.config.stackable import together_faults
from hf_lgt.training.accelerator import make_accelerator
from hf_lgt.training.stacked_trainer import fit_together
from hf_lgt.training.stacking import stacking_fault
from hf_lgt.utils.errors import ConfigError, RunError, TrainingError
from hf_lgt.utils.run_lock import clear_lock
from hf_lgt.utils.signals import Interrupted, Signals
from hf_lgt.workflows.announcement import announce
from hf_lgt.workflows.setup import PreparedRun, begins_with_evaluation, log_news, open_folder, prepare_run
from hf_lgt.workflows.train import RunResult, finished_result, result_of, save_run, training_run


def train_together(
    configs: Sequence[Config],
    *,
    overwrite: bool = False,
    resume: str = AUTO,
    progress: bool = True,
) -> list[RunResult]:
    """Train, evaluate and save several runs of one shape in one process, vectorised over the runs.

    Each has the folder, logs, evaluations and checkpoints that `hf_lgt.workflows.train.train` gives it, with
    the same numbers up to floating-point error, and either resumes what the other left. Finished runs are
    kept.

    Args:
        configs: which agree in sections model, train and peft; seeds and tasks may differ.
        overwrite: train finished runs anew, and remove what interrupted ones left.
        resume: ``auto``, or ``never``: refuse to resume interrupted runs.
        progress: show bars.

    Returns:
        The runs' results, in the order of `configs`.

    Raises:
        ConfigError: the configs do not suit each other, the models cannot be stacked, or one of them could
            not be trained alone either; nothing is written then.
        TrainingError: something went wrong in some runs, as a loss that is not finite, a checkpoint that
            cannot be written, or a folder that another process writes to; the others are finished.
        Interrupted: SIGTERM or SIGINT came; checkpoints were written if training had begun.
    """
    if faults := together_faults(configs):
        raise ConfigError(faults)
    todo = _unfinished(configs, overwrite)
    for config in configs:
        if config not in todo:
            clear_lock(config.run_dir)  # others of them may have been killed before the lock was given back
    if todo:
        accelerator = make_accelerator(todo[0])
        if accelerator.num_processes > 1:
            told = f"{accelerator.num_processes} processes were launched; runs are trained together in one"
            raise ConfigError([f"accelerate: {told}"])
        with ExitStack() as locks:
            held, refused = _hold(todo, accelerator, locks)
            # another process may have finished some before their locks were taken
            if todo := _unfinished(held, overwrite):
                refused += _train(todo, accelerator, overwrite, resume, progress)
        if refused:
            told = "\n".join(f"  {config.run_dir}: {error}" for config, error in refused)
            raise TrainingError(f"{len(refused)} of {len(configs)} runs went wrong:\n{told}")
    return [result_of(config) for config in configs]


def _unfinished(configs: Sequence[Config], overwrite: bool) -> list[Config]:
    return [config for config in configs if overwrite or finished_result(config) is None]


Failed = list[tuple[Config, Exception]]


def _hold(
    configs: Sequence[Config], accelerator: Accelerator, locks: ExitStack
) -> tuple[list[Config], Failed]:
    """Take the locks of the runs' folders; gives those that were had, and why the others were not.

    Raises:
        ConfigError: none was had.
    """
    held: list[Config] = []
    refused: Failed = []
    for config in configs:
        try:
            locks.enter_context(locked_run_folder(config, accelerator))
            held.append(config)
        except ConfigError as error:
            refused.append((config, error))
    if not held:
        raise ConfigError([fault for _, error in refused for fault in getattr(error, "faults", [])])
    return held, refused


def _train(
    configs: Sequence[Config],
    accelerator: Accelerator,
    overwrite: bool,
    resume: str,
    progress: bool,
) -> Failed:
    """As `train_together`, for the only writer of the folders; gives the runs that went wrong."""
    known: dict[str, Any] = {}
    faults: list[str] = []
    ready: list[PreparedRun] = []
    for config in configs:
        try:
            ready.append(prepare_run(config, accelerator, overwrite, resume, progress, known))
        except ConfigError as error:
            faults += [fault for fault in error.faults if fault not in faults]
    for own in ready:
        found = folder_faults(own.config, overwrite, own.data.about, own.point)
        faults += [fault for fault in found if fault not in faults]
    faults = faults or _model_faults(ready)
    if faults:
        raise ConfigError(faults)
    log_news([line for own in ready for line in open_folder(own, accelerator, overwrite, len(ready))])
    announce(ready, accelerator)
    failed: Failed = []
    # those that were stopped at different steps cannot take the same ones
    for _, group in itertools.groupby(sorted(ready, key=_step), key=_step):
        failed += _fit(list(group), accelerator, progress)
    return failed


def _step(ready: PreparedRun) -> int:
    return ready.point.step


def _model_faults(ready: Sequence[PreparedRun]) -> list[str]:
    """Why the models of runs cannot be trained together."""
    words = [own.data.codec.tokenizer.get_vocab() for own in ready]
    for own, vocabulary in zip(ready, words, strict=True):
        if vocabulary != words[0]:
            told = f"{own.config.name} has another vocabulary than {ready[0].config.name}"
            return [f"mixture: {told}; runs that are trained together have one"]
    if fault := stacking_fault([own.model for own in ready]):
        return [f"model: cannot be trained together: {fault}; train the runs one by one"]
    return []


def _fit(ready: Sequence[PreparedRun], accelerator: Accelerator, progress: bool) -> Failed:
    """Train the runs that stand at one step, and save them; gives those that went wrong."""
    runs = [training_run(own, accelerator, progress) for own in ready]
    first = begins_with_evaluation(ready[0].config)
    errors = fit_together(runs, accelerator, evaluate_first=first, progress=progress)
    failed: Failed = []
    with Signals() as signals:  # no run that is trained is lost for one that comes now
        for own, error in zip(ready, errors, strict=True):
            try:
                if error is not None:
                    raise error
                save_run(own.config, own.model, own.data)
            except RunError as fault:
                failed.append((own.config, fault))
    if signals.received:
        raise Interrupted(signals.received, "stopped once the trained runs were saved")
    return failed
