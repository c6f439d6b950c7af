"""``train.jsonl``: the losses and the speed of a training, on disk and for trackers."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator

from data_builders.hub.retry import reason
from data_builders.texts import printable
from hf_lgt.checkpointing.checkpoints import LoopState
from hf_lgt.config.load import Trained
from hf_lgt.utils.errors import RunError
from hf_lgt.utils.jsonl import append_lines

_log = logging.getLogger(__name__)


def start_trackers(accelerator: Accelerator, config: Trained, settings: dict[str, Any]) -> None:
    """Start the trackers that the config asks for.

    Raises:
        RunError: one does not start.
    """
    if not config.train.trackers:
        return
    try:
        accelerator.init_trackers(config.name, config=settings)
    except Exception as error:  # each library raises its own
        raise RunError(f"train.trackers: {config.train.trackers} do not start: {reason(error)}") from None


def track(accelerator: Accelerator, values: dict[str, float], step: int) -> None:
    """Give values to the trackers; where one fails, the training does without them from then on."""
    try:
        accelerator.log(values, step=step)
    except Exception as error:
        accelerator.trackers = []
        _log.warning("the trackers get no more lines after step %d: %s", step, printable(reason(error)))


def end_trackers(accelerator: Accelerator) -> None:
    """Let the trackers write what they have left."""
    try:
        accelerator.end_training()
    except Exception as error:
        _log.warning("the trackers did not end well: %s", printable(reason(error)))


class TrainLog:
    """Appends to ``train.jsonl`` and to the trackers.

    Args:
        path: of the log.
        accelerator: sums over processes, and has the trackers.
        state: the run's counters.
    """

    def __init__(self, path: Path, accelerator: Accelerator, state: LoopState) -> None:
        self.path = path
        self.accelerator = accelerator
        self.state = state
        self._examples = state.examples
        self._clock = time.perf_counter()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Leave the time that evaluating and saving take out of the speed."""
        start = time.perf_counter()
        yield
        self._clock += time.perf_counter() - start

    def write(self, loss: torch.Tensor, rate: float) -> float:
        """Log the step just taken; gives its loss, summed over processes.

        Raises:
            TrainingError: the line cannot be written.
        """
        state, value = self.state, float(self.accelerator.reduce(loss, "sum"))
        now = time.perf_counter()
        line = {
            "step": state.step,
            "loss": value,
            "learning_rate": rate,
            "examples": state.examples,
            "tokens": state.tokens,
            "examples_per_second": round((state.examples - self._examples) / (now - self._clock), 1),
        }
        self._examples, self._clock = state.examples, now
        if self.accelerator.is_main_process:
            append_lines(self.path, [json.dumps(line)])
        track(self.accelerator, {k: v for k, v in line.items() if k != "step"}, state.step)
        return value
