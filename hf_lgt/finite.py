"""Watches for a loss or gradients that are not finite, and tells the step and its examples."""

from __future__ import annotations

import math

import torch

from hf_lgt.errors import TrainingError
from hf_lgt.sources import Source


class FiniteWatch:
    """Remembers the first step whose loss or gradient was not finite, on the device.

    Asking a GPU after each step would make it wait; so it is asked where numbers are read anyway.

    Args:
        device: of the losses.
        source: tells what a step's examples were.
        gradients: whether to look at them; with fp16 they overflow now and then, and the step is skipped.
    """

    def __init__(self, device: torch.device, source: Source, *, gradients: bool) -> None:
        self.source = source
        self.gradients = gradients
        self.eager = device.type == "cpu"
        """whether asking after each step costs nothing"""
        # step, loss, norm of the gradient
        self._first = torch.full((3,), -1.0, device=device)

    def see(self, step: int, loss: torch.Tensor, norm: torch.Tensor) -> None:
        """Look at a step, from 1: this process's loss and the norm of the gradient of all, scalars."""
        wrong = ~torch.isfinite(loss)
        if self.gradients:
            wrong = wrong | ~torch.isfinite(norm)
        new = torch.stack([torch.full_like(loss, step), loss, norm.to(loss)]).float()
        self._first = torch.where((self._first[0] < 0) & wrong, new, self._first)

    def check(self) -> None:
        """Stop the run if a step went wrong.

        Raises:
            TrainingError: with the first such step, its tasks and lengths.
        """
        step, loss, norm = self._first.tolist()
        if step < 0:
            return
        taken = int(step)
        told = f"the loss is {loss}" if not math.isfinite(loss) else f"the norm of the gradient is {norm}"
        raise TrainingError(
            f"{told} at step {taken}, on {self.source.describe(taken - 1)}; a lower train.learning_rate or "
            "train.max_grad_norm may help, or train.precision 'no'; earlier checkpoints are unharmed"
        )
