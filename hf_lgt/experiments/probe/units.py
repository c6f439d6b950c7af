"""What of a probe fits some minutes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

MARGIN = 1.15
"""of the estimates: long steps, saving, tables"""


@dataclass(frozen=True)
class Unit:
    """Trainings that are chosen or left out together: a family and seed, of all models or of all twins."""

    family: str
    seed: int
    twins: bool
    seconds: tuple[float, ...]
    """of each training"""

    @property
    def words(self) -> str:
        """What it is, for a list of what is left out."""
        return f"{self.family}{', random twins' if self.twins else ''}, seed {self.seed}"


def duration(units: Iterable[Unit], jobs: int) -> float:
    """Seconds until all trainings are done that are begun in this order, some at a time.

    Args:
        units: the trainings.
        jobs: trainings at a time.
    """
    free_at = [0.0] * jobs
    for seconds in (seconds for unit in units for seconds in unit.seconds):
        first = free_at.index(min(free_at))
        free_at[first] += seconds * MARGIN
    return max(free_at)


def fitting(units: Sequence[Unit], seconds: float | None, jobs: int) -> tuple[list[Unit], list[Unit]]:
    """The units that fit, in their order, and those left out: the first that does not fit, and all after it.

    Args:
        units: the most wanted first.
        seconds: for all; None: any number.
        jobs: trainings at a time.
    """
    if seconds is None:
        return list(units), []
    count = 0
    while count < len(units) and duration(units[: count + 1], jobs) <= seconds:
        count += 1
    return list(units[:count]), list(units[count:])


def jobs_for(largest: int, cores: int, memory: int) -> int:
    """Trainings at a time: one a core, where that many models with their optimizers fit half the memory.

    Args:
        largest: parameters of the largest model.
        cores: of this machine.
        memory: its bytes.
    """
    # float32 weights, gradients and two moments, and about as much again for activations
    return max(1, min(cores, int(memory / 2 // (largest * 32))))
