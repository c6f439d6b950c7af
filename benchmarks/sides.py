"""Things that do the same work, timed side by side."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

OURS = "hf_lgt"


@dataclass(frozen=True)
class Comparison:
    """What `alternate` measured."""

    name: str
    """what is done"""
    unit: str
    """of the numbers, less is better"""
    values: Mapping[str, Sequence[float]]
    """side -> one number a round"""
    target: Mapping[str, float]
    """peer -> the ratio to reach"""
    note: str = ""

    def ratio(self, peer: str) -> float:
        """How many times as long a peer takes as ours: the median of the rounds' ratios."""
        both = zip(self.values[peer], self.values[OURS], strict=True)
        return statistics.median(theirs / ours for theirs, ours in both)

    def to_dict(self) -> dict[str, Any]:
        """With medians and ratios."""
        medians = {side: statistics.median(values) for side, values in self.values.items()}
        ratios = {side: self.ratio(side) for side in self.values if side != OURS}
        return {**asdict(self), "medians": medians, "ratios": ratios}


def alternate(
    name: str,
    sides: Mapping[str, Callable[[], float]],
    rounds: int,
    *,
    unit: str = "s",
    target: Mapping[str, float] | None = None,
    note: str = "",
) -> Comparison:
    """Measure every side once a round, so that what disturbs the machine falls on all of them.

    Args:
        name: what is done.
        sides: who does it -> gives one number, less is better; `OURS` is one of them.
        rounds: how often.
        unit: of the numbers.
        target: peer -> the ratio to reach.
        note: what a reader should know.
    """
    values: dict[str, list[float]] = {side: [] for side in sides}
    for k in range(rounds):
        for side, measure in sides.items():
            values[side].append(measure())
        told = ", ".join(f"{side} {own[-1]:.4g} {unit}" for side, own in values.items())
        print(f"{name}, round {k + 1} of {rounds}: {told}", flush=True)
    return Comparison(name, unit, values, target or {}, note)
