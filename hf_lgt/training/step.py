"""What the training loop is given: the runs, and the step that trains their models."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch

from hf_lgt.config.load import Trained
from hf_lgt.data.batch_sources import Source
from hf_lgt.data.batching import Batch, Pass
from hf_lgt.data.codec import TextCodec
from hf_lgt.models.packing import PackedPass

Passes = Sequence[Pass | PackedPass]
Evaluate = Callable[[torch.nn.Module, int, bool], bool]
"""called with the bare model, the steps taken, and whether they are the last; gives whether the criterion of
``train.until`` holds, the same on all processes"""


class Learner(Protocol):
    """Lets a model add to its own training examples."""

    def resume(self, step: int) -> None:
        """Change the source to what it was before a step."""
        ...

    def due(self, step: int) -> bool:
        """Whether it changes before a step."""
        ...

    def __call__(self, model: torch.nn.Module, step: int) -> None:
        """Change it, with the bare model as it is before a step; called on all processes."""
        ...


@dataclass(frozen=True)
class TrainingRun:
    """A run to be trained, its folder made ready."""

    config: Trained
    model: Any
    """a causal language model of transformers, or one with adapters; with its initial weights"""
    codec: TextCodec
    """saved beside each checkpoint"""
    source: Source
    """gives the batch of a step; the same object where runs draw the same batches"""
    evaluate: Evaluate
    """called on all processes"""
    resume_from: Path | None = None
    """a checkpoint to resume from; of runs that are stacked all resume from the same step"""
    learner: Learner | None = None
    """what changes the source between steps, if anything does"""


class Step(Protocol):
    """What a step does with the models of some runs, and which part of its state is whose."""

    isolated: bool
    """whether what goes wrong in a run leaves the others as they are; else it ends the training"""
    bare: Any
    """the model that takes the passes, as transformers has it"""
    optimizer: Any
    """as Accelerate prepared it"""

    def passes(self, batches: Sequence[Batch]) -> Passes:
        """This process's passes, from a batch of each run."""
        ...

    def backward(self, batches: Sequence[Batch], passes: Passes) -> torch.Tensor:
        """Add the gradients of a step; gives this process's part of each run's loss, [runs]."""
        ...

    def clip(self, most: float) -> torch.Tensor:
        """Clip each run's gradient to a norm; gives the norms before, [runs] or a scalar of the only one."""
        ...

    def load_optimizer(self, states: Sequence[dict[str, Any]]) -> None:
        """Set the optimizer to the states of the runs' checkpoints."""
        ...

    def optimizer_of(self, state: Mapping[str, Any], index: int) -> Mapping[str, Any]:
        """One run's part of the optimizer's state, as if it had been trained alone."""
        ...

    def model_of(self, index: int) -> Any:
        """One run's bare model with its weights as they are now."""
        ...
