"""What a training will do, told before it begins."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from accelerate import Accelerator

from hf_lgt.config.schema import Config
from hf_lgt.models.build import parameter_count
from hf_lgt.workflows.setup import PreparedRun

_log = logging.getLogger(__name__)


def announce(ready: Sequence[PreparedRun], accelerator: Accelerator) -> None:
    """Log model, tasks and training of runs, of which several differ in few things: those of the first."""
    if not accelerator.is_main_process:
        return
    first, more = ready[0], len(ready) - 1
    for line in (_model(first), _tasks(first.config), _training(first.config, accelerator)):
        _log.info(line + (f" (and of {more} more runs)" if more and line.startswith("model") else ""))


def _model(ready: PreparedRun) -> str:
    model = ready.config.model
    every = parameter_count(ready.model)
    trained = sum(p.numel() for p in ready.model.parameters() if p.requires_grad)
    if model.name_or_path is None:
        what = f"{model.architecture}, {model.layers} layers, hidden {model.hidden_size}, random weights"
    else:
        what = f"{model.name_or_path}, {'its weights' if model.init == 'pretrained' else 'random weights'}"
    adapters = f", of which {trained / 1e6:,.2f}M are trained" if trained < every else ""
    return f"model:    {what}, {every / 1e6:,.2f}M parameters{adapters}"


def _tasks(config: Config) -> str:
    told = []
    for role in ("target", "auxiliary"):
        own = [f"{c.task} {c.lengths[0]}–{c.lengths[1]}" for c in config.mixture if c.role == role]
        if own:
            told.append(f"{role} {', '.join(own)}")
    low, high = config.eval.lengths
    return f"tasks:    {'; '.join(told)}; evaluated at lengths {low}–{high}"


def _training(config: Config, accelerator: Accelerator) -> str:
    train = config.train
    until = train.until.exact_match
    most = f"at most {train.steps:,}" if until is not None else f"{train.steps:,}"
    ends = f", until exact match {until} on trained lengths" if until is not None else ""
    processes = f", {accelerator.num_processes} processes" if accelerator.num_processes > 1 else ""
    return f"training: {most} steps of {train.batch_size} examples{ends}, on {accelerator.device}{processes}"
