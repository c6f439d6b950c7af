"""A NaN/Inf guard over loss and gradients, which reports the step and its examples."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from hf_lgt.data.batch_sources import Source
from hf_lgt.utils import prefetch
from hf_lgt.utils.errors import TrainingError


class NonfiniteGuard:
    """Remembers the first step whose loss or gradient was not finite, on the device, of each of some runs.

    Asking a GPU after each step would make it wait; so it is asked where numbers are read anyway.

    Args:
        device: of the losses.
        sources: of each run, tells what a step's examples were.
        gradients: whether to look at them; with fp16 they overflow now and then, and the step is skipped.
    """

    def __init__(self, device: torch.device, sources: Sequence[Source], *, gradients: bool) -> None:
        self.sources = sources
        self.gradients = gradients
        self.eager = not prefetch.asynchronous(device)
        """whether asking after each step costs nothing"""
        # step, loss, norm of the gradient
        self._first = torch.full((len(sources), 3), -1.0, device=device)

    def see(self, step: int, loss: torch.Tensor, norm: torch.Tensor) -> None:
        """Look at a step, from 1.

        Args:
            step: its number.
            loss: this process's, of each run, [runs], or a scalar of the only one.
            norm: of the gradient of all processes, likewise.
        """
        loss, norm = loss.reshape(-1), norm.reshape(-1)
        wrong = ~torch.isfinite(loss)
        if self.gradients:
            wrong = wrong | ~torch.isfinite(norm)
        new = torch.stack([torch.full_like(loss, step), loss, norm.to(loss)], dim=1).float()
        self._first = torch.where(((self._first[:, 0] < 0) & wrong)[:, None], new, self._first)

    def errors(self) -> list[TrainingError | None]:
        """What went wrong in each run: its first such step, tasks and lengths; None: nothing."""
        both = zip(self._first.tolist(), self.sources, strict=True)
        return [self._error(source, *first) for first, source in both]

    @staticmethod
    def _error(source: Source, step: float, loss: float, norm: float) -> TrainingError | None:
        if step < 0:
            return None
        taken = int(step)
        told = f"the loss is {loss}" if not math.isfinite(loss) else f"the norm of the gradient is {norm}"
        return TrainingError(
            f"{told} at step {taken}, on {source.describe(taken - 1)}; a lower train.learning_rate or "
            "train.max_grad_norm may help, or train.precision 'no'; earlier checkpoints are unharmed"
        )
