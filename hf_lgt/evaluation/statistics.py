"""Statistics over seeds: intervals, paired differences, rank correlation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from data_builders.sampling import stream

RESAMPLES = 10_000


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
    if len(first) != len(second):
        raise ValueError(f"pairs need as many of each; there are {len(first)} and {len(second)}")
    differences = [a - b for a, b in zip(first, second, strict=True)]
    interval = bootstrap_interval(differences, level=level)
    return float(np.mean(differences)), interval


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
    both = np.asarray([x, y], dtype=np.float64)
    if not np.isfinite(both).all():
        raise ValueError("a correlation needs finite numbers")
    if len(set(x)) < 2 or len(set(y)) < 2:
        return None
    ranks = np.stack([_ranks(row) for row in both])
    ranks -= ranks.mean(axis=1, keepdims=True)
    products = ranks @ ranks.T
    rho = products[0, 1] / np.sqrt(products[0, 0] * products[1, 1])
    return float(np.clip(rho, -1.0, 1.0))


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rank of each of [n] values, from 1; equal values share the mean of theirs."""
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    mean: NDArray[np.float64] = last - (counts - 1) / 2
    return mean[which]
