"""Training to a criterion: whether a run has learned its tasks on the lengths that it is trained on.

A run that stops at a fixed step may not have learned its task, which looks the same as not extrapolating.
With ``train.until`` it ends once it has, and one that has not by ``train.steps`` is reported as such.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from hf_lgt.config.schema import Config
from hf_lgt.evaluation.curves import curve
from hf_lgt.evaluation.records import EvalRecord


@dataclass(frozen=True)
class Criterion:
    """What ``train.until`` asks for."""

    exact_match: float
    evaluations: int
    """in a row"""
    after: int
    """steps of the warm-up: evaluations up to there do not count"""
    lengths: Mapping[str, tuple[int, int]]
    """task -> smallest and largest trained length, of the tasks that must be learned"""

    @classmethod
    def of(cls, config: Config) -> Criterion | None:
        """That of a run; None where ``train.steps`` alone ends it."""
        train, until = config.train, config.train.until
        if until.exact_match is None:
            return None
        lengths = {c.task: c.lengths for c in config.mixture if c.role == "target" or until.auxiliaries}
        return cls(until.exact_match, until.evaluations, round(train.warmup * train.steps), lengths)

    def holds(self, step: int, records: Sequence[EvalRecord]) -> bool:
        """Whether one evaluation has it: each task in the mean over its evaluated trained lengths.

        Args:
            step: steps taken before it.
            records: of the evaluation.
        """
        return step > self.after and all(
            fmean(value for length, value in curve(records, task).items() if low <= length <= high)
            >= self.exact_match
            for task, (low, high) in self.lengths.items()
        )

    def reached(self, by_step: Mapping[int, Sequence[EvalRecord]]) -> int | None:
        """The step at which a run reached it; None if it did not.

        Args:
            by_step: step -> the records of its evaluation.
        """
        held = 0
        for step, records in sorted(by_step.items()):
            held = held + 1 if self.holds(step, records) else 0
            if held == self.evaluations:
                return step
        return None
