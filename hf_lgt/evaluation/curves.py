"""Accuracy-by-length curves: the gap between two, transfer, and the three regimes of length."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from statistics import fmean

from hf_lgt.config.schema import Config
from hf_lgt.evaluation.records import EvalRecord

Curve = Mapping[int, float]
"""length -> exact match"""

LEARNED = 0.5
"""mean exact match on trained lengths from which a task is learned; below it a small gap is no transfer"""


def curve(records: Iterable[EvalRecord], task: str) -> dict[int, float]:
    """One task's curve from the records of one evaluation, by ascending length."""
    return {r.length: r.exact_match for r in sorted(records, key=lambda r: r.length) if r.task == task}


def mean_curve(curves: Sequence[Curve]) -> dict[int, float]:
    """Mean of several curves at the lengths that all of them have."""
    if not curves:
        return {}
    shared = set(curves[0]).intersection(*curves[1:])
    return {length: fmean(c[length] for c in curves) for length in sorted(shared)}


def generalization_gap(
    target_curve: Curve, auxiliary_curve: Curve, up_to: int, *, smallest: int = 1
) -> float:
    """Mean absolute difference of two curves over lengths `smallest`..`up_to`; 0 = the same curve.

    The paper sums the discrepancy over the evaluated lengths and prints numbers in [0, 1]; the mean
    over all lengths up to the longer training length is our reading (paper, figure 10). Where only
    every k-th length was evaluated, the mean is over those.

    Args:
        target_curve: length -> exact match of the target.
        auxiliary_curve: the same of the auxiliary, or the mean of several (`mean_curve`).
        up_to: the longer of the two training lengths.
        smallest: the smallest length that both tasks have.

    Raises:
        ValueError: the curves do not reach from `smallest` to `up_to`.
    """
    shared = [length for length in target_curve if length in auxiliary_curve and length <= up_to]
    reach = min(max(target_curve, default=0), max(auxiliary_curve, default=0))
    if not shared or reach < up_to:
        raise ValueError(f"the gap needs both curves up to length {up_to}; they reach {reach}")
    if min(shared) > smallest:
        raise ValueError(f"the gap needs both curves from length {smallest}; they start at {min(shared)}")
    return fmean(abs(target_curve[length] - auxiliary_curve[length]) for length in shared)


def normalized_gap(gap: float, target_length: int, auxiliary_length: int) -> float:
    """``gap / (1 - min/max)`` of the two training lengths: about 1 with no transfer at all.

    Raises:
        ValueError: the training lengths are equal, so that no transfer could be seen.
    """
    low, high = sorted((target_length, auxiliary_length))
    if low == high:
        raise ValueError(f"both tasks were trained up to length {low}: there is no gap to close")
    return gap / (1 - low / high)


def transfer(gap: float, target_length: int, auxiliary_length: int) -> float:
    """``1 - normalized_gap``: 1 = the target follows its auxiliaries, about 0 = no transfer."""
    return 1 - normalized_gap(gap, target_length, auxiliary_length)


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


@dataclass(frozen=True)
class Summary:
    """What one evaluation says about one target task."""

    target: str
    target_length: int
    """longest training length"""
    auxiliary_length: int
    curve: dict[int, float]
    regimes: Regimes
    learned: bool | None
    """whether what was trained on the longer lengths was learned there; None where it was not evaluated"""
    gap: float | None
    """None without an auxiliary, where the evaluation ends too early, and where nothing was learned: two
    curves near zero are alike, and show no transfer"""
    normalized_gap: float | None
    """None where `gap` is, or where both were trained up to the same length"""
    transfer: float | None
    auxiliary_mean: float | None
    """mean exact match of the auxiliaries on lengths they were trained on"""


def _trained_mean(records: Sequence[EvalRecord], auxiliaries: Sequence[tuple[str, int]]) -> float | None:
    """Mean exact match of the auxiliaries, each over the lengths it was trained up to."""
    means = [_mean_up_to(curve(records, task), longest) for task, longest in auxiliaries]
    known = [mean for mean in means if mean is not None]
    return fmean(known) if known else None


def _mean_up_to(found: Curve, longest: int) -> float | None:
    """Mean of a curve over lengths up to the longest; None where there are none."""
    values = [v for length, v in found.items() if length <= longest]
    return fmean(values) if values else None


def _learned(mean: float | None) -> bool | None:
    return None if mean is None else mean >= LEARNED


def smallest_length(config: Config) -> int:
    """The smallest length that all tasks of a mixture have."""
    if config.data.source == "dataset":
        return max(c.lengths[0] for c in config.mixture)
    return max(c.definition.smallest_length(c.options) for c in config.build_mixture().components)


def training_lengths(config: Config, role: str) -> list[tuple[str, int]]:
    """(task, longest training length) of each component of a role."""
    return [(c.task, c.lengths[1]) for c in config.mixture if c.role == role]


def summarize(
    records: Sequence[EvalRecord],
    target: tuple[str, int],
    auxiliaries: Sequence[tuple[str, int]],
    auxiliary_curve: Curve | None = None,
    smallest: int = 1,
) -> Summary:
    """Gap, transfer and regimes of one target.

    Args:
        records: of one evaluation.
        target: task name and longest training length.
        auxiliaries: the same of each auxiliary.
        auxiliary_curve: measure against this curve instead of the records' own, as `compare` does
            for an arm that has no auxiliary.
        smallest: the smallest length that all tasks have.
    """
    name, target_length = target
    auxiliary_length = max((length for _, length in auxiliaries), default=target_length)
    own = curve(records, name)
    against = auxiliary_curve or mean_curve([curve(records, task) for task, _ in auxiliaries])
    found = regimes(own, target_length, auxiliary_length)
    mean = _trained_mean(records, auxiliaries)
    learned = _learned(mean if auxiliary_curve is None else _mean_up_to(against, auxiliary_length))
    if learned and target_length > auxiliary_length:
        learned = _learned(found.within)
    far, gap, normalized = max(target_length, auxiliary_length), None, None
    if learned:
        with suppress(ValueError):  # not evaluated over the whole range
            gap = generalization_gap(own, against, far, smallest=smallest)
    if gap is not None and target_length != auxiliary_length:
        normalized = normalized_gap(gap, target_length, auxiliary_length)
    return Summary(
        target=name,
        target_length=target_length,
        auxiliary_length=auxiliary_length,
        curve=own,
        regimes=found,
        learned=learned,
        gap=gap,
        normalized_gap=normalized,
        transfer=None if normalized is None else 1 - normalized,
        auxiliary_mean=mean,
    )
