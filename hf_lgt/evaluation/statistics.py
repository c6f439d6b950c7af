"""Statistics over seeds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

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
