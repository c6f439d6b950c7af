"""What of a probe fits some minutes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

MARGIN = 1.15
"""of the estimates: long steps, saving, tables"""


@dataclass(frozen=True)
class Unit:
    """Trainings that are chosen or left out together: a family and seed, of all models or of all twins."""

    family: str
    seed: int
    twins: bool
    seconds: float
    """of one process"""

    @property
    def words(self) -> str:
        """What it is, for a list of what is left out."""
        return f"{self.family}{', random twins' if self.twins else ''}, seed {self.seed}"


def fitting(units: Sequence[Unit], minutes: float | None, jobs: int) -> tuple[list[Unit], list[Unit]]:
    """The units that fit, in their order, and those left out: the first that does not fit, and all after it.

    Args:
        units: the most wanted first.
        minutes: for all; None: any number.
        jobs: trainings at a time.
    """
    if minutes is None:
        return list(units), []
    taken, spent = [], 0.0
    for unit in units:
        spent += unit.seconds * MARGIN / jobs
        if spent > minutes * 60:
            break
        taken.append(unit)
    return taken, list(units[len(taken) :])


def jobs_for(largest: int, cores: int, memory: int) -> int:
    """Trainings at a time: one a core, where that many models with their optimizers fit half the memory.

    Args:
        largest: parameters of the largest model.
        cores: of this machine.
        memory: its bytes.
    """
    # float32 weights, gradients and two moments, and about as much again for activations
    return max(1, min(cores, int(memory / 2 // (largest * 32))))
