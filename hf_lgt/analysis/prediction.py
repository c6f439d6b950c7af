"""Do scores of relatedness predict the gain that is measured in the long run?

A pair is a target and one auxiliary. What matters to who chooses an auxiliary is the order of the candidates
of one target; so, beside the correlation over all pairs, each score is judged target by target.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from data_builders.sampling import stream
from hf_lgt.evaluation.statistics import spearman, spearman_interval

MOST_SHUFFLES = 10_000
CHOSEN = "chosen"
"""name of the row that takes, for each target, the score that does best on the other targets"""


@dataclass(frozen=True)
class Pair:
    """A target and an auxiliary: what was measured, and what was predicted."""

    target: str
    auxiliary: str
    gains: tuple[float, ...]
    """measured, one a seed"""
    scores: Mapping[str, float | None]
    """mean over the seeds of the short runs, None where not known"""

    @property
    def mean(self) -> float:
        """Measured gain, the mean over seeds."""
        return fmean(self.gains)


@dataclass(frozen=True)
class Choice:
    """What comes of taking, for one target, the candidate that a score puts first."""

    target: str
    taken: str
    gain: float
    """measured, of the candidate that was taken"""
    best: float
    """of the best candidate"""
    average: float
    """of all candidates, which is what a blind choice gives on the mean"""


@dataclass(frozen=True)
class Predictor:
    """How well a score predicts."""

    score: str
    pairs: int
    rho: float | None
    """Spearman's correlation over all pairs"""
    interval: tuple[float, float] | None
    """95 %, whole targets drawn"""
    without: Mapping[str, float | None]
    """target -> the correlation over the pairs of all other targets"""
    within: Mapping[str, float | None]
    """target -> the correlation over its own candidates"""
    p: float | None
    """two-sided, of `rho` against measured gains shuffled among the candidates of each target"""
    choices: tuple[Choice, ...]

    @property
    def within_mean(self) -> float | None:
        """Mean of `within` over the targets that have one."""
        known = [value for value in self.within.values() if value is not None]
        return fmean(known) if known else None

    @property
    def hits(self) -> int:
        """Targets for which the candidate that is taken is the best."""
        return sum(choice.gain >= choice.best for choice in self.choices)


def judge(pairs: Sequence[Pair], scores: Sequence[str]) -> list[Predictor]:
    """Every score's predictor, then one that chooses among them on the other targets, see `CHOSEN`.

    Args:
        pairs: measured and scored.
        scores: names.
    """
    found = [_judge(pairs, score) for score in scores]
    return [*found, *_chosen(found)]


def _judge(pairs: Sequence[Pair], score: str) -> Predictor:
    own = [(p, value) for p in pairs if (value := p.scores.get(score)) is not None]
    targets = list(dict.fromkeys(p.target for p, _ in own))
    values, measured = [value for _, value in own], [p.mean for p, _ in own]
    names = [p.target for p, _ in own]
    rho = _rho(values, measured)
    return Predictor(
        score,
        len(own),
        rho,
        None if rho is None else spearman_interval(values, measured, names),
        {t: _rho(*_columns([(p, v) for p, v in own if p.target != t])) for t in targets},
        {t: _rho(*_columns([(p, v) for p, v in own if p.target == t])) for t in targets},
        None if rho is None else _shuffled(values, measured, names, rho),
        tuple(_choice([(p, v) for p, v in own if p.target == t]) for t in targets),
    )


def _columns(own: Sequence[tuple[Pair, float]]) -> tuple[list[float], list[float]]:
    return [value for _, value in own], [pair.mean for pair, _ in own]


def _rho(x: Sequence[float], y: Sequence[float]) -> float | None:
    return spearman(x, y) if len(x) >= 3 else None


def _choice(own: Sequence[tuple[Pair, float]]) -> Choice:
    taken, _ = max(own, key=lambda one: one[1])
    measured = [pair.mean for pair, _ in own]
    return Choice(taken.target, taken.auxiliary, taken.mean, max(measured), fmean(measured))


def _shuffled(values: Sequence[float], measured: Sequence[float], names: Sequence[str], rho: float) -> float:
    """Share of the orders, of candidates within their targets, with a correlation as far from 0."""
    places = [np.flatnonzero([own == name for own in names]) for name in dict.fromkeys(names)]
    data, other = np.asarray(measured), list(values)
    orders = math.prod(math.factorial(len(own)) for own in places)

    def correlation(shuffled: Sequence[np.ndarray]) -> float:
        moved = data.copy()
        for own, new in zip(places, shuffled, strict=True):
            moved[own] = data[new]
        found = spearman(other, moved.tolist())
        assert found is not None, "an order changes no set of values"
        return found

    if orders <= MOST_SHUFFLES:
        every = itertools.product(*(itertools.permutations(own) for own in places))
        found = [correlation([np.array(part) for part in order]) for order in every]
    else:
        rng = stream(0, "shuffled candidates", len(measured))
        found = [rho]  # what was observed is one of them
        found += [correlation([rng.permutation(own) for own in places]) for _ in range(MOST_SHUFFLES - 1)]
    return float(np.mean(np.abs(found) >= abs(rho) - 1e-12))


def _chosen(found: Sequence[Predictor]) -> list[Predictor]:
    """For each target, what the score gives that does best within the other targets."""
    targets = list(dict.fromkeys(t for own in found for t in own.within))
    within: dict[str, float | None] = {}
    choices: list[Choice] = []
    for target in targets:
        judged = []
        for own in found:
            others = [v for t, v in own.within.items() if t != target and v is not None]
            if others and target in own.within:
                judged.append((fmean(others), own))
        if judged:
            _, best = max(judged, key=lambda pair: pair[0])
            within[target] = best.within[target]
            choices += [choice for choice in best.choices if choice.target == target]
    if not within:
        return []
    return [Predictor(CHOSEN, found[0].pairs, None, None, {}, within, None, tuple(choices))]
