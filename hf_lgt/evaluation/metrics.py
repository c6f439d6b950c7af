"""Exact match, token accuracy and their interval: plain functions on arrays."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Z_95 = 1.959963984540054


def score_tokens(
    predicted: NDArray[np.int64], reference: NDArray[np.int64], scored: NDArray[np.bool_]
) -> tuple[NDArray[np.bool_], NDArray[np.int64], NDArray[np.int64]]:
    """Compare token by token.

    Args:
        predicted: int64 [n, K].
        reference: int64 [n, K].
        scored: bool [n, K], the tokens that count.

    Returns:
        Exact match bool [n], right tokens int64 [n], scored tokens int64 [n].
    """
    right = (predicted == reference) & scored
    total = scored.sum(axis=1)
    return right.sum(axis=1) == total, right.sum(axis=1), total


def stopping_errors(
    predicted: NDArray[np.int64], reference: NDArray[np.int64], scored: NDArray[np.bool_], end: int
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Which wrong answers are right up to the place where they stop, or should.

    The first wrong token says it, since up to there greedy decoding gives the reference.

    Args:
        predicted: int64 [n, K].
        reference: int64 [n, K].
        scored: bool [n, K], the tokens that count.
        end: id of the end-of-sequence token.

    Returns:
        Whether each answer stops too early, and whether it runs on: bool [n] each.
    """
    wrong = (predicted != reference) & scored
    first = wrong.argmax(axis=1)[:, None]  # 0 where nothing is wrong
    got, due, missed = (np.take_along_axis(a, first, axis=1)[:, 0] for a in (predicted, reference, wrong))
    return missed & (got == end), missed & (due == end)


def exact_match(predictions: Sequence[str], references: Sequence[str]) -> float:
    """Share of predictions that equal their reference, character by character.

    Raises:
        ValueError: the two are of different or of zero length.
    """
    if not references or len(predictions) != len(references):
        raise ValueError(f"{len(predictions)} predictions and {len(references)} references")
    return sum(p == r for p, r in zip(predictions, references, strict=True)) / len(references)


def wilson_interval(successes: float, n: int, z: float = Z_95) -> tuple[float, float]:
    """Score interval of a binomial share (Wilson 1927), 95 % by default.

    `successes` may be a fraction, for a rate that is assumed.

    Raises:
        ValueError: `n` is not positive or `successes` is outside 0..n.
    """
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n}")
    share = successes / n
    spread = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    centre, scale = share + z * z / (2 * n), 1 + z * z / n
    # the bounds at 0 and n are exact; rounding would put them beside 0 and 1
    low = 0.0 if successes == 0 else (centre - spread) / scale
    return low, 1.0 if successes == n else (centre + spread) / scale
