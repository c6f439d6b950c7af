"""What a training takes, measured on two of its steps, before any is begun."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from accelerate import Accelerator

from hf_lgt.config.schema import Config
from hf_lgt.data.build import RunData, open_data, prepare_data
from hf_lgt.evaluation.harness import evaluate_tests, trained_cells
from hf_lgt.models.base_checkpoint import open_base_checkpoint
from hf_lgt.models.build import parameter_count
from hf_lgt.models.packing import choose_layout
from hf_lgt.training.step import TrainingRun
from hf_lgt.training.trainer import SingleStep
from hf_lgt.workflows.setup import make_model

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
    parameters: int

    def of(self, config: Config) -> float:
        """At most, of a whole run."""
        train = config.train
        between = train.steps // train.eval_every if train.eval_every else 0
        zero_shot = self.evaluation if config.model.init == "pretrained" else 0.0
        return self.start + train.steps * self.step + zero_shot + between * self.on_the_way + self.evaluation


def measure_cost(config: Config, accelerator: Accelerator, startup: float) -> Cost:
    """Time a training's start, steps and evaluations in this process; nothing is written.

    Args:
        config: the run's.
        accelerator: of this process.
        startup: seconds that a process takes before it does any of this.

    Raises:
        ConfigError: the run cannot be trained: no such checkpoint, not a causal language model, too few
            positions, no end token, no dataset, ...
    """
    begin = time.perf_counter()
    base = open_base_checkpoint(config.model) if config.model.name_or_path else None
    data = prepare_data(config, open_data(config), base, progress=False)
    model = make_model(config, base, data.codec)
    parameters = parameter_count(model)
    packed = choose_layout(config.train, model, accelerator.device)
    run = TrainingRun(config, model, data.codec, data.source, lambda *_: False)
    model.to(accelerator.device)
    step = SingleStep([run], accelerator, packed)
    begun = time.perf_counter()
    times = [_timed_step(step, data, number) for number in range(STEPS + 1)]
    evaluation, on_the_way = _evaluation_times(step.bare, data, config)
    return Cost(startup + begun - begin, min(times[1:]), evaluation, on_the_way, parameters)


def _timed_step(step: SingleStep, data: RunData, number: int) -> float:
    begin = time.perf_counter()
    batches = [data.source.batch(number)]
    step.backward(batches, step.passes(batches))
    step.clip(1.0)
    step.optimizer.step()
    step.optimizer.zero_grad()
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
    trained = trained_cells(tests.cells, config) if config.eval.during == "trained" else tests.cells

    def of(lengths: Sequence[int]) -> float:
        return sum(short + slope * (length - low) for length in lengths)

    return of([c.length for c in tests.cells]), of([c.length for c in trained])
