"""Candidate auxiliaries of a target in order, and how sure the order is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from data_builders.sampling import stream
from hf_lgt.analysis.relatedness import Relatedness

RESAMPLES = 10_000
"""of the seeds, from which it is estimated how often a candidate comes first"""


@dataclass(frozen=True)
class Question:
    """Which of the candidates is the best auxiliary of a target?"""

    target: str
    candidates: tuple[str, ...]
    steps: int
    """of each short training"""
    seeds: tuple[int, ...]
    examples: int = 128
    """test examples a task and length"""
    batch_tokens: int = 65_536


@dataclass(frozen=True)
class Measured:
    """What the short run of one candidate and seed says."""

    candidate: str
    seed: int
    run: str
    """name and seed of the run"""
    near: tuple[int, ...]
    """lengths that both are trained on"""
    far: tuple[int, ...]
    """longer ones, that the auxiliary alone is"""
    found: Relatedness


@dataclass(frozen=True)
class Place:
    """Where a candidate stands."""

    candidate: str
    by_seed: tuple[float, ...]
    """its score, a seed each"""
    first: float
    """share of the draws of seeds in which it has the best mean: how sure its first place would be"""

    @property
    def mean(self) -> float:
        """Over seeds."""
        return fmean(self.by_seed)


def rank(measured: Sequence[Measured], score: str) -> list[Place]:
    """Candidates by the mean of a score over seeds, the best first.

    Seeds are drawn with repetition, the same ones for all candidates, to see how often each comes first; with
    equal means the place is shared. Candidates that have no score on some seed are left out.

    Args:
        measured: from `measure`.
        score: one of `hf_lgt.analysis.relatedness.SCORES`.
    """
    by_candidate: dict[str, dict[int, float | None]] = {}
    for own in measured:
        by_candidate.setdefault(own.candidate, {})[own.seed] = own.found.scores[score]
    known: Mapping[str, list[float]] = {
        name: [value for value in values.values() if value is not None]
        for name, values in by_candidate.items()
        if None not in values.values()
    }
    if not known:
        return []
    table = np.array(list(known.values()))
    n = table.shape[1]
    draws = stream(0, "seeds of a ranking", n).integers(0, n, size=(RESAMPLES, n))
    means = table[:, draws].mean(axis=2)
    best = means == means.max(axis=0)
    first = (best / best.sum(axis=0)).mean(axis=1)
    places = [
        Place(name, tuple(own), float(share)) for (name, own), share in zip(known.items(), first, strict=True)
    ]
    return sorted(places, key=lambda place: -place.mean)
