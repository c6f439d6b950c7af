"""Statistics over seeds: intervals, paired differences and tests, seeds needed, rank correlation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist, stdev

import numpy as np
from numpy.typing import NDArray

from data_builders.sampling import stream
from hf_lgt.evaluation.metrics import wilson_interval

PSEUDO_OBSERVATIONS = 1.5
"""at each bound, of `mean_interval`: Bernoulli outcomes are covered at 92 % or more with any number of seeds,
where 1 falls to 87 % with 4 seeds, and z² / 2 to 88 % with 2"""
ROUNDING = 1e-9
"""of the width between the bounds, by which a value may be outside them"""
CORRELATION_RESAMPLES = 2_000
MOST_SIGNS = 100_000
"""changes of sign that a permutation test goes through, all of up to 16 seeds, drawn ones of more"""
MOST_SEEDS = 2**20


def mean_interval(
    values: Sequence[float], *, bounds: tuple[float, float] = (0.0, 1.0), level: float = 0.95
) -> tuple[float, float]:
    """Interval of the mean of a few bounded outcomes, which may be bimodal over seeds.

    One and a half pseudo-observations are added at each bound, and the interval is that of the normal
    approximation on what is then there, within the bounds. With the values scaled to 0..1, their sum S,
    ``N = n + 3``, ``m = (S + 1.5) / N`` and ``s² = (Σ (x - m)² + 1.5 m² + 1.5 (1 - m)²) / (N - 1)``:
    ``m ± z s / √N``. The idea is that of Agresti and Coull (1998), who add ``z² / 2`` = 1.9 at each end of a
    share. Of Bernoulli outcomes at level 0.95 at least 92 % of the intervals hold the mean, from 2 seeds on;
    for others see ``benchmarks/coverage.py``, where it is compared. It is not centred on the sample mean,
    and values that are all equal have an interval too: n seeds that agree do not rule out that some other
    fails.

    Args:
        values: one number a seed, each within the bounds.
        bounds: the least and the largest value possible: (0, 1) for exact match, (-1, 1) for differences.
        level: coverage; simulated at 0.95.

    Returns:
        Lower and upper end, within the bounds. Of one value it is all between the bounds.

    Raises:
        ValueError: no value, a value outside the bounds or not a number, bounds that are not in order, or a
            level outside 0..1.
    """
    least, most = bounds
    if not values:
        raise ValueError("an interval needs at least one value")
    if not (math.isfinite(least) and math.isfinite(most) and least < most):
        raise ValueError(f"bounds must be finite and in order; they are {least} and {most}")
    if not 0 < level < 1:
        raise ValueError(f"the level of an interval must be between 0 and 1; it is {level}")
    width = most - least
    for value in values:
        if not least - ROUNDING * width <= value <= most + ROUNDING * width:
            raise ValueError(f"{value} is not between the bounds {least} and {most}")
    if len(values) == 1:
        return float(least), float(most)
    shares = [(value - least) / width for value in values]
    n = len(shares) + 2 * PSEUDO_OBSERVATIONS
    mean = (math.fsum(shares) + PSEUDO_OBSERVATIONS) / n
    squares = math.fsum((share - mean) ** 2 for share in shares)
    squares += PSEUDO_OBSERVATIONS * (mean**2 + (1 - mean) ** 2)
    half = NormalDist().inv_cdf(0.5 + level / 2) * math.sqrt(squares / (n - 1) / n)
    return least + width * max(0.0, mean - half), least + width * min(1.0, mean + half)


def student_interval(values: Sequence[float], *, level: float = 0.95) -> tuple[float, float]:
    """Student's t interval of the mean of numbers that are about normal over seeds, such as a cosine.

    Not for exact match: where few seeds of a bimodal outcome agree, it says that none could differ.

    Args:
        values: one number a seed.
        level: coverage.

    Raises:
        ValueError: fewer than two values, which have no spread.
    """
    from scipy import stats

    if len(values) < 2:
        raise ValueError(f"Student's interval needs at least two values; there are {len(values)}")
    mean = math.fsum(values) / len(values)
    half = float(stats.t.ppf(0.5 + level / 2, len(values) - 1)) * stdev(values) / math.sqrt(len(values))
    return mean - half, mean + half


def paired_difference(
    first: Sequence[float], second: Sequence[float], *, level: float = 0.95
) -> tuple[float, tuple[float, float]]:
    """Mean of ``first - second`` over seeds, and its interval, which is put together from those of the means.

    With the means a, b, their `mean_interval` (a1, a2) and (b1, b2) and the correlation r over seeds, it is
    ``a - b - √((a - a1)² + (b2 - b)² - 2 r (a - a1) (b2 - b))`` to
    ``a - b + √((a2 - a)² + (b - b1)² - 2 r (a2 - a) (b - b1))``: Newcombe (1998) for pairs of shares, Zou and
    Donner (2008) for others. r is that of the sample, times n / (n + 3), as much as its spread counts in the
    intervals. Narrower than the interval of the differences between -1 and 1, and covers as well
    (``benchmarks/coverage.py``); wider where all of both are at the same bound, with 8 seeds by 8 %.

    Args:
        first: one number a seed, from 0 to 1.
        second: one number for each of the same seeds, in the same order.
        level: coverage.

    Raises:
        ValueError: no value, not one of each for every seed, or one outside 0..1.
    """
    a, b = float(np.mean(first or [0])), float(np.mean(second or [0]))
    difference = float(np.mean(_differences(first, second)))
    (a1, a2), (b1, b2) = mean_interval(first, level=level), mean_interval(second, level=level)
    spread = float(np.std(first) * np.std(second))
    r = float(np.mean((np.array(first) - a) * (np.array(second) - b))) / spread if spread > 0 else 0.0
    r *= len(first) / (len(first) + 2 * PSEUDO_OBSERVATIONS)
    down, up = (
        math.sqrt(max(0.0, x * x + y * y - 2 * r * x * y)) for x, y in ((a - a1, b2 - b), (a2 - a, b - b1))
    )
    return difference, (max(-1.0, difference - down), min(1.0, difference + up))


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
    with more, 100,000 are drawn from a fixed stream. With n seeds no p-value is below `least_p`: 0.0625 with
    5 seeds, 0.25 with 3.

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


def least_p(n: int) -> float:
    """The least two-sided p-value that `permutation_test` can give: ``2 / 2 ** n``, at most 1.

    It is that of all changes of sign, where every seed's difference has the same sign. From 17 seeds on,
    where signs are drawn, the test stays above it.

    Args:
        n: seeds.

    Raises:
        ValueError: no seed.
    """
    if n < 1:
        raise ValueError(f"a permutation test needs at least one seed; there are {n}")
    return 2.0 ** (1 - n)


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted for their number (Holm 1979).

    Rejecting those that are at most alpha errs in any of them with at most probability alpha, whatever their
    dependence. The least of m p-values is multiplied by m, the next by m - 1, and so on; none ends up below
    one before it, nor above 1.

    Args:
        p_values: those of the comparisons that belong together, each from 0 to 1.

    Returns:
        One for each, in the order given.

    Raises:
        ValueError: a p-value outside 0..1 or not a number.
    """
    for p in p_values:
        if not 0 <= p <= 1:
            raise ValueError(f"a p-value is from 0 to 1; there is {p}")
    adjusted, largest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        largest = min(1.0, max(largest, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = largest
    return adjusted


def seeds_for_width(values: Sequence[float], width: float, *, level: float = 0.95) -> int | None:
    """How many seeds make the interval of the mean so narrow, judged by the spread of those at hand.

    From the normal approximation, ``(2 z s / width) ** 2`` with the sample's standard deviation s, without
    the pseudo-observations of `mean_interval`, which matter less the more seeds there are. A plan, no
    promise: the spread of few seeds is itself uncertain.

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
