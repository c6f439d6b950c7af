"""Statistics over seeds: intervals, paired differences and tests, seeds needed, rank correlation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist, stdev

import numpy as np
from numpy.typing import NDArray

from data_builders.sampling import stream
from hf_lgt.evaluation.metrics import wilson_interval

RESAMPLES = 10_000
CORRELATION_RESAMPLES = 2_000
MOST_SIGNS = 100_000
"""changes of sign that a permutation test goes through, all of up to 16 seeds, drawn ones of more"""
MOST_SEEDS = 2**20


def bootstrap_interval(values: Sequence[float], *, level: float = 0.95) -> tuple[float, float]:
    """Percentile bootstrap interval of the mean over seeds, from its own fixed stream.

    Args:
        values: one number a seed.
        level: coverage.

    Raises:
        ValueError: no value.
    """
    if not values:
        raise ValueError("an interval needs at least one value")
    data = np.asarray(values, dtype=np.float64)
    draws = stream(0, "bootstrap", len(data)).integers(0, len(data), size=(RESAMPLES, len(data)))
    tail = (1 - level) / 2
    low, high = np.quantile(data[draws].mean(axis=1), [tail, 1 - tail])
    return float(low), float(high)


def paired_difference(
    first: Sequence[float], second: Sequence[float], *, level: float = 0.95
) -> tuple[float, tuple[float, float]]:
    """Mean of ``first - second`` over seeds, and its percentile bootstrap interval.

    Seeds are drawn whole, both of their numbers together: what a seed does to both is no difference.

    Args:
        first: one number a seed.
        second: one number for each of the same seeds, in the same order.
        level: coverage.

    Raises:
        ValueError: no value, or not one of each for every seed.
    """
    differences = _differences(first, second)
    interval = bootstrap_interval(differences, level=level)
    return float(np.mean(differences)), interval


def _differences(first: Sequence[float], second: Sequence[float]) -> list[float]:
    if len(first) != len(second):
        raise ValueError(f"pairs need as many of each; there are {len(first)} and {len(second)}")
    if not first:
        raise ValueError("pairs need at least one seed")
    return [a - b for a, b in zip(first, second, strict=True)]


def permutation_test(first: Sequence[float], second: Sequence[float]) -> float:
    """Two-sided p-value of a paired permutation test on the mean of ``first - second`` over seeds.

    If the two arms did not differ, each seed's difference could as well have the other sign: the share of all
    sign changes under which the mean is at least as far from 0 as it is. Every one is counted up to 16 seeds;
    with more, 100,000 are drawn from a fixed stream. With n seeds no p-value is below ``2 / 2 ** n``: 0.0625
    with 5 seeds, 0.25 with 3.

    Args:
        first: one number a seed.
        second: one number for each of the same seeds, in the same order.

    Raises:
        ValueError: no value, or not one of each for every seed.
    """
    from scipy import stats

    differences = np.array(_differences(first, second))
    if len(differences) == 1:  # which scipy does not take: both signs are as far
        return 1.0
    total = float(np.abs(differences).sum()) or 1.0

    def distance(signed: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
        # from 1 on, as scipy takes for equal what differs by 1e-14 of the statistic: sums of the same numbers
        # with other signs differ up to floating-point error, also where they are 0
        return np.asarray(1 + np.abs(signed.sum(axis=axis)) / total)

    return float(
        stats.permutation_test(
            (differences,),
            distance,
            permutation_type="samples",
            alternative="greater",
            vectorized=True,
            n_resamples=MOST_SIGNS,
            rng=stream(0, "permutation", len(differences)),
        ).pvalue
    )


def seeds_for_width(values: Sequence[float], width: float, *, level: float = 0.95) -> int | None:
    """How many seeds make the interval of the mean so narrow, judged by the spread of those at hand.

    From the normal approximation, ``(2 z s / width) ** 2`` with the sample's standard deviation s. A plan,
    no promise: the spread of few seeds is itself uncertain.

    Args:
        values: one number a seed.
        width: of the whole interval, from its lower to its upper end.
        level: coverage.

    Returns:
        At least 2; None with fewer than two values, which have no spread.

    Raises:
        ValueError: the width is not above 0.
    """
    if width <= 0:
        raise ValueError(f"the width of an interval must be above 0; it is {width}")
    if len(values) < 2:
        return None
    z = NormalDist().inv_cdf(0.5 + level / 2)
    return max(2, math.ceil((2 * z * stdev(values) / width) ** 2))


def seeds_for_rate_width(successes: int, n: int, width: float) -> int | None:
    """How many seeds make the Wilson interval of a success rate so narrow, if the rate stays as it is.

    Args:
        successes: seeds that succeeded.
        n: seeds at hand.
        width: of the whole 95 % interval.

    Returns:
        None without seeds, or where more than a million would be needed.

    Raises:
        ValueError: the width is not above 0.
    """
    if width <= 0:
        raise ValueError(f"the width of an interval must be above 0; it is {width}")
    if n < 1:
        return None
    rate = successes / n

    def is_enough(seeds: int) -> bool:
        low, high = wilson_interval(rate * seeds, seeds)
        return high - low <= width

    high = 1
    while not is_enough(high):
        high *= 2
        if high > MOST_SEEDS:
            return None
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if is_enough(middle) else (middle, high)
    return high


def spearman(x: Sequence[float], y: Sequence[float]) -> float | None:
    """Rank correlation of two series, from -1 to 1: whether one grows with the other, however fast.

    Equal values share the mean of their ranks.

    Args:
        x: one number an observation.
        y: the same observations' other number.

    Returns:
        None where all numbers of one series are equal, so that nothing can grow.

    Raises:
        ValueError: not as many of each, or one is not finite.
    """
    if len(x) != len(y):
        raise ValueError(f"a correlation needs as many of each; there are {len(x)} and {len(y)}")
    if not np.isfinite([*x, *y]).all():
        raise ValueError("a correlation needs finite numbers")
    if len(set(x)) < 2 or len(set(y)) < 2:
        return None
    from scipy import stats

    return round(float(stats.spearmanr(x, y).statistic), 12)  # 1 is 1, not 0.9999999999999999


def spearman_interval(
    x: Sequence[float], y: Sequence[float], groups: Sequence[object], *, level: float = 0.95
) -> tuple[float, float] | None:
    """Percentile bootstrap interval of `spearman`, whole groups drawn.

    Observations that hang together, as the checkpoints of one run do, are no draws of their own.

    Args:
        x: one number an observation.
        y: the same observations' other number.
        groups: what each belongs to, as its seed.
        level: coverage.

    Returns:
        None with fewer than three groups, or where most draws have no correlation.
    """
    names = list(dict.fromkeys(groups))
    if len(names) < 3:
        return None
    rows = [np.flatnonzero([group == name for group in groups]) for name in names]
    draws = stream(0, "bootstrap of groups", len(names)).integers(
        0, len(names), size=(CORRELATION_RESAMPLES, len(names))
    )
    both = np.asarray([x, y], dtype=np.float64)
    found = []
    for draw in draws:
        taken = both[:, np.concatenate([rows[i] for i in draw])]
        if (rho := spearman(taken[0].tolist(), taken[1].tolist())) is not None:
            found.append(rho)
    if len(found) < CORRELATION_RESAMPLES / 2:
        return None
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
