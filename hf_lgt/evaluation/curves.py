"""Accuracy-by-length curves, and the three regimes of length."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from hf_lgt.config.schema import Config
from hf_lgt.evaluation.records import EvalRecord

Curve = Mapping[int, float]
"""length -> exact match"""


def curve(records: Iterable[EvalRecord], task: str) -> dict[int, float]:
    """One task's curve from the records of one evaluation, by ascending length."""
    return {r.length: r.exact_match for r in sorted(records, key=lambda r: r.length) if r.task == task}


def mean_curve(curves: Sequence[Curve]) -> dict[int, float]:
    """Mean of several curves at the lengths that all of them have."""
    if not curves:
        return {}
    shared = set(curves[0]).intersection(*curves[1:])
    return {length: fmean(c[length] for c in curves) for length in sorted(shared)}


@dataclass(frozen=True)
class Regimes:
    """Mean exact match of the target in three ranges of length (paper, figure 11).

    None where no length of the range was evaluated.
    """

    within: float | None
    """lengths that the target was trained on"""
    transfer: float | None
    """longer ones, up to the auxiliary's training length"""
    beyond: float | None
    """longer than any training length"""


def regimes(target_curve: Curve, target_length: int, auxiliary_length: int) -> Regimes:
    """Average a target's curve in the three regimes.

    Args:
        target_curve: length -> exact match.
        target_length: longest training length of the target.
        auxiliary_length: longest training length of the auxiliaries.
    """

    def mean(low: int, high: float) -> float | None:
        inside = [v for length, v in target_curve.items() if low < length <= high]
        return fmean(inside) if inside else None

    far = max(target_length, auxiliary_length)
    return Regimes(mean(0, target_length), mean(target_length, far), mean(far, float("inf")))


def smallest_length(config: Config) -> int:
    """The smallest length that all tasks of a mixture have."""
    if config.data.source == "dataset":
        return max(c.lengths[0] for c in config.mixture)
    return max(c.definition.smallest_length(c.options) for c in config.build_mixture().components)


def training_lengths(config: Config, role: str) -> list[tuple[str, int]]:
    """(task, longest training length) of each component of a role."""
    return [(c.task, c.lengths[1]) for c in config.mixture if c.role == role]
