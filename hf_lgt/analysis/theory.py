"""Does theory say which tasks extrapolate? The registry's labels against exact match at twice the length.

A task counts as extrapolating where its exact match there, less what a constant answer would get, is above .5
of what is left: a task with few answers would pass by chance. The labels are judged by the area under the ROC
curve, which for two labels is the mean of sensitivity and specificity.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from data_builders.registry import get_task
from data_builders.sampling import draw_test_set
from data_builders.symbols import PAD
from hf_lgt.config.schema import Config
from hf_lgt.evaluation.metrics import wilson_interval
from hf_lgt.evaluation.records import EvalRecord

LEARNED = 0.9
"""exact match on the trained lengths from which a task counts as learned"""
EXTRAPOLATES = 0.5


@dataclass(frozen=True)
class TheoryResult:
    """One task, trained alone over several seeds."""

    task: str
    predicted: str
    """the registry's label: yes, no or open"""
    source: str
    length: int
    """twice the trained length"""
    chance: float
    """exact match of the most common answer at that length, in what is scored"""
    within: tuple[float, ...]
    """exact match on the trained lengths, one a seed"""
    twice: tuple[float, ...]
    """exact match at twice the trained length"""

    @property
    def above_chance(self) -> tuple[float, ...]:
        """Exact match at twice the length, 0 at chance and 1 where all is right."""
        return tuple((value - self.chance) / (1 - self.chance) for value in self.twice)

    @property
    def learned(self) -> bool:
        return fmean(self.within) >= LEARNED

    @property
    def extrapolates(self) -> bool:
        return fmean(self.above_chance) > EXTRAPOLATES


@dataclass(frozen=True)
class Auc:
    """How well the labels yes and no tell the tasks apart."""

    value: float
    low: float
    high: float
    hits: tuple[int, int]
    """tasks that extrapolate, and those of them that are labelled yes"""
    rejections: tuple[int, int]
    """tasks that do not, and those of them that are labelled no"""


def theory_result(runs: Sequence[tuple[Config, Sequence[EvalRecord]]]) -> TheoryResult:
    """What the runs of one task measured, one a seed.

    Args:
        runs: config and records of the last evaluation of each.

    Raises:
        ValueError: a run has several tasks, or was not evaluated on its trained lengths or at twice the
            longest; or all answers there are one.
    """
    config = runs[0][0]
    if len(config.mixture) != 1:
        raise ValueError(f"{config.name} trains {len(config.mixture)} tasks; labels are of a task alone")
    component = config.mixture[0]
    task, length = get_task(component.task), 2 * component.lengths[1]
    by_length = [{r.length: r.exact_match for r in records} for _, records in runs]
    within = [[v for n, v in own.items() if n <= component.lengths[1]] for own in by_length]
    if not all(within) or not all(length in own for own in by_length):
        raise ValueError(f"{config.name} has no test set of the trained lengths, or none of length {length}")
    drawn = draw_test_set(
        config.build_mixture().components[0], length, config.eval.examples, config.eval.seed
    )
    scored = np.where(drawn.examples.loss_mask, drawn.examples.target, PAD)
    answers = Counter(map(bytes, scored))
    if len(answers) == 1:
        raise ValueError(f"{component.task} has one answer alone at length {length}")
    return TheoryResult(
        component.task,
        task.theory.predicted,
        task.theory.source,
        length,
        max(answers.values()) / answers.total(),
        tuple(map(fmean, within)),
        tuple(own[length] for own in by_length),
    )


def auc_of(results: Sequence[TheoryResult]) -> Auc | None:
    """The area under the curve with a 95 % interval; None where no task extrapolates, or all do.

    Tasks that are labelled open are left out. The interval joins Wilson's of the two shares by the squares of
    their distances from them (method 10 of Newcombe 1998, Statistics in Medicine 17, 873).
    """
    decided = [own for own in results if own.predicted != "open"]
    does = [own.predicted == "yes" for own in decided if own.extrapolates]
    does_not = [own.predicted == "no" for own in decided if not own.extrapolates]
    if not does or not does_not:
        return None
    shares, lows, highs = [], [], []
    for right in (does, does_not):
        share, (low, high) = fmean(right), wilson_interval(sum(right), len(right))
        shares.append(share)
        lows.append(share - low)
        highs.append(high - share)
    value = fmean(shares)
    return Auc(
        value,
        value - math.hypot(*lows) / 2,
        value + math.hypot(*highs) / 2,
        (len(does), sum(does)),
        (len(does_not), sum(does_not)),
    )
