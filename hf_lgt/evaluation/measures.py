"""What exact match by length comes to. Every word has one meaning, this one:

- **transfer region**: lengths beyond the target's longest trained one, up to the auxiliaries' longest.
- **reach**: mean exact match of the target in the transfer region. The primary measure.
- **gain**: reach minus that of the target trained alone with the same seed. Transfer is a gain above 0; that
  of a control, such as an unrelated task in the auxiliaries' place, is not owed to related tasks.
- **recovered fraction**: the gain as a share of what training the target on the long lengths gains.
- **effective length**: the longest length up to which exact match stays at a level or above.
- **success**: a seed with a reach of at least `SUCCESS`.

The paper's **generalization gap** is kept as the paper's number. It takes the auxiliaries for perfect and
rewards a target that fails like them, so it is given only where each of them is learned (`FOLLOWED`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from hf_lgt.evaluation.curves import Curve, Regimes, curve, mean_curve, regimes
from hf_lgt.evaluation.records import EvalRecord

SUCCESS = 0.5
"""reach from which a seed is a success"""
FOLLOWED = 0.95
"""mean exact match on its own lengths that every auxiliary must have for the gap to mean anything"""
LEARNED = 0.5
"""mean exact match on its trained lengths below which a target is called not learned"""
LEAST_ROOM = 0.2
"""what training on the long lengths must gain for a share of it to mean anything"""


def gain(reach: float | None, alone: float | None) -> float | None:
    """Reach minus that of the target alone with the same seed; None where either is not known."""
    return None if reach is None or alone is None else reach - alone


def recovered_fraction(reach: float | None, alone: float | None, long: float | None) -> float | None:
    """``(reach - alone) / (long - alone)``: 1 = as far as the target that was trained on the long lengths.

    Returns:
        None where one is not known, or training on the long lengths gains less than `LEAST_ROOM`.
    """
    if reach is None or alone is None or long is None or long - alone < LEAST_ROOM:
        return None
    return (reach - alone) / (long - alone)


def effective_length(own: Curve, level: float) -> int:
    """The longest evaluated length up to which exact match stays at `level` or above; 0 without any.

    Examples:
        >>> [effective_length({1: 1.0, 2: 0.9, 3: 0.4, 4: 0.6}, level) for level in (0.9, 0.5, 0.1)]
        [2, 2, 4]
    """
    longest = 0
    for length in sorted(own):
        if own[length] < level:
            break
        longest = length
    return longest


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


@dataclass(frozen=True)
class Auxiliaries:
    """What a target is measured against: the auxiliaries of a run, its own or another arm's."""

    lengths: Mapping[str, int]
    """task -> longest training length"""
    curve: Mapping[int, float]
    """their mean; empty where the run is not finished"""
    means: Mapping[str, float]
    """task -> mean exact match on the lengths that it was trained on; without those not evaluated there"""

    @classmethod
    def of(cls, records: Sequence[EvalRecord], lengths: Sequence[tuple[str, int]]) -> Auxiliaries:
        """Those of one evaluation.

        Args:
            records: of the evaluation, none where there is none yet.
            lengths: (task, longest training length) of each.
        """
        curves = {task: curve(records, task) for task, _ in lengths}
        means = {}
        for task, longest in lengths:
            if own := [value for length, value in curves[task].items() if length <= longest]:
                means[task] = fmean(own)
        return cls(dict(lengths), mean_curve([own for own in curves.values() if own]), means)

    @property
    def longest(self) -> int:
        """Their longest training length, 0 without any."""
        return max(self.lengths.values(), default=0)


@dataclass(frozen=True)
class Errors:
    """Wrong answers of the target in the transfer region, as shares of all its answers there.

    Each is sorted by its first wrong token, so that a stopping error is right up to there.
    """

    stopped_early: float
    ran_on: float
    content: float
    """any other wrong token"""


@dataclass(frozen=True)
class Summary:
    """What one evaluation says about one target task."""

    target: str
    target_length: int
    """longest training length"""
    auxiliary_length: int
    """of the auxiliaries; the target's without any"""
    curve: Mapping[int, float]
    regimes: Regimes
    effective_length_90: int
    effective_length_50: int
    errors: Errors | None
    """None where the evaluation did not count them, or has no length of the transfer region"""
    auxiliaries: Mapping[str, float]
    """task -> mean exact match on the lengths that it was trained on"""
    gap: float | None
    """the paper's"""
    normalized_gap: float | None
    """None where `gap` is, or where both were trained up to the same length"""
    gap_reason: str | None
    """why there is no gap"""

    @property
    def reach(self) -> float | None:
        """Mean exact match in the transfer region, None where that was not evaluated."""
        return self.regimes.transfer


def summarize(
    records: Sequence[EvalRecord], target: tuple[str, int], auxiliaries: Auxiliaries, smallest: int = 1
) -> Summary:
    """What one evaluation says about one target.

    Args:
        records: of one evaluation.
        target: task name and longest training length.
        auxiliaries: what it is measured against.
        smallest: the smallest length that all tasks have.
    """
    name, target_length = target
    auxiliary_length = auxiliaries.longest or target_length
    own = curve(records, name)
    found = regimes(own, target_length, auxiliary_length)
    gap, normalized = None, None
    reason = _gap_reason(target_length, found.within, auxiliaries)
    if reason is None:
        try:
            far = max(target_length, auxiliary_length)
            gap = generalization_gap(own, auxiliaries.curve, far, smallest=smallest)
        except ValueError as error:
            reason = str(error)
    if gap is not None and target_length != auxiliary_length:
        normalized = normalized_gap(gap, target_length, auxiliary_length)
    return Summary(
        target=name,
        target_length=target_length,
        auxiliary_length=auxiliary_length,
        curve=own,
        regimes=found,
        effective_length_90=effective_length(own, 0.9),
        effective_length_50=effective_length(own, 0.5),
        errors=_errors(records, name, target_length, auxiliary_length),
        auxiliaries=auxiliaries.means,
        gap=gap,
        normalized_gap=normalized,
        gap_reason=reason,
    )


def _gap_reason(target_length: int, within: float | None, auxiliaries: Auxiliaries) -> str | None:
    """Why the gap would mean nothing, None where it would."""
    if not auxiliaries.lengths:
        return "there are no auxiliaries"
    if not auxiliaries.curve:
        return "the run with the auxiliaries is not finished"
    low = [f"{task} {mean:.3f}" for task, mean in auxiliaries.means.items() if mean < FOLLOWED]
    low += [f"{task} unknown" for task in auxiliaries.lengths if task not in auxiliaries.means]
    if target_length > auxiliaries.longest and (within is None or within < FOLLOWED):
        low.append("the target, trained longer, " + ("unknown" if within is None else f"{within:.3f}"))
    if low:
        return f"exact match on own lengths is below {FOLLOWED}: {', '.join(low)}"
    return None


def _errors(records: Sequence[EvalRecord], task: str, low: int, high: int) -> Errors | None:
    own = [r for r in records if r.task == task and low < r.length <= high]
    if not own or any(r.stopped_early is None or r.ran_on is None for r in own):
        return None
    early, late = (fmean((getattr(r, kind) or 0) / r.n for r in own) for kind in ("stopped_early", "ran_on"))
    return Errors(early, late, max(0.0, 1 - fmean(r.exact_match for r in own) - early - late))
