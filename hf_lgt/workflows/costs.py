"""What a training takes, measured on two of its steps, before any is begun."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch
from accelerate import Accelerator

from hf_lgt.config.schema import Config, ModelConfig
from hf_lgt.data.build import RunData, open_data, prepare_data
from hf_lgt.evaluation.harness import cells_on_the_way, evaluate_tests
from hf_lgt.models.base_checkpoint import BaseCheckpoint, open_base_checkpoint
from hf_lgt.models.build import parameter_count
from hf_lgt.models.packing import choose_layout
from hf_lgt.models.resolve import fetch_weights
from hf_lgt.training.accelerator import make_accelerator
from hf_lgt.training.step import TrainingRun
from hf_lgt.training.trainer import SingleStep
from hf_lgt.workflows.setup import begins_with_evaluation, check_evaluated, make_model

STEPS = 2
"""timed, after a first one that is not: it makes the optimizer's state"""


@dataclass(frozen=True)
class Cost:
    """What one training takes, in seconds."""

    start: float
    """until its first step"""
    step: float
    evaluation: float
    """of all lengths"""
    on_the_way: float
    """of an evaluation before the last"""

    @classmethod
    def read(cls, data: Any) -> Cost:
        """From plain data.

        Raises:
            ValueError: it holds something else.
        """
        values = [data[field.name] for field in fields(cls)]
        if not all(type(value) in (int, float) and 0 <= value < math.inf for value in values):
            raise ValueError("no seconds")
        return cls(*values)

    def of(self, config: Config) -> float:
        """Of a whole run that does not end early."""
        train = config.train
        between = train.steps // train.eval_every if train.eval_every else 0
        zero_shot = self.evaluation if begins_with_evaluation(config) else 0.0
        return self.start + train.steps * self.step + zero_shot + between * self.on_the_way + self.evaluation


def count_parameters(model: ModelConfig) -> int:
    """Parameters of a checkpoint, whose weights are fetched where they are on the Hub.

    Raises:
        ConfigError: there is no such checkpoint, or it is no causal language model.
    """
    from transformers import AutoModelForCausalLM

    base = open_base_checkpoint(model)
    fetch_weights(base.checkpoint, model)
    with torch.device("meta"):
        return parameter_count(AutoModelForCausalLM.from_config(base.config))  # type: ignore[no-untyped-call]


def measure_cost(config: Config, startup: float) -> Cost:
    """Time a training's start, steps and evaluations in this process; nothing is written.

    Args:
        config: the run's.
        startup: seconds that a process takes before it does any of this.

    Raises:
        ConfigError: the run cannot be trained: no such checkpoint, not a causal language model, too few
            positions, no end token, no dataset, ...
    """
    begin = time.perf_counter()
    base = open_base_checkpoint(config.model) if config.model.name_or_path else None
    data = prepare_data(config, open_data(config), base, progress=False)
    check_evaluated(config, data.tests)
    accelerator = make_accelerator(config)
    try:
        begun, step, evaluation, on_the_way = _timed(config, base, data, accelerator)
    finally:  # the accelerator holds on to model and optimizer
        accelerator.free_memory()
        gc.collect()
    return Cost(startup + begun - begin, step, evaluation, on_the_way)


def _timed(
    config: Config, base: BaseCheckpoint | None, data: RunData, accelerator: Accelerator
) -> tuple[float, float, float, float]:
    """When the first step could begin; seconds of a step, a whole evaluation, one on the way."""
    model = make_model(config, base, data.codec)
    packed = choose_layout(config.train, model, accelerator.device)
    run = TrainingRun(config, model, data.codec, data.source, lambda *_: False)
    model.to(accelerator.device)
    step = SingleStep([run], accelerator, packed)
    begun = time.perf_counter()
    times = [_timed_step(step, data, number) for number in range(STEPS + 1)]
    return begun, min(times[1:]), *_evaluation_times(step.bare, data, config)


def _timed_step(step: SingleStep, data: RunData, number: int) -> float:
    begin = time.perf_counter()
    batches = [data.source.batch(number)]
    losses = step.backward(batches, step.passes(batches))
    step.clip(1.0)
    step.optimizer.step()
    step.optimizer.zero_grad()
    losses.sum().item()  # waits for a GPU
    return time.perf_counter() - begin


def _evaluation_times(model: Any, data: RunData, config: Config) -> tuple[float, float]:
    """Seconds of a whole evaluation, and of one of the lengths evaluated on the way: from the longest and the
    shortest length of the first task, as time goes with length.
    """
    tests = data.tests
    first = [cell for cell in tests.cells if cell.task == tests.cells[0].task]
    ends = [min(first, key=lambda c: c.length), max(first, key=lambda c: c.length)]
    taken = []
    for cell in ends:
        begin = time.perf_counter()
        evaluate_tests(model, tests, batch_tokens=config.eval.batch_tokens, cells=[cell])
        taken.append(time.perf_counter() - begin)
    (low, high), (short, long) = (ends[0].length, ends[1].length), taken
    slope = max(long - short, 0.0) / max(high - low, 1)
    between = cells_on_the_way(tests.cells, config)

    def of(lengths: Sequence[int]) -> float:
        return sum(short + slope * (length - low) for length in lengths)

    return of([c.length for c in tests.cells]), of([c.length for c in between])
