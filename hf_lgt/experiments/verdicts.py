"""What came of an experiment's claims, by one rule for all.

A claim compares two settings seed by seed. Of the paired difference d with its 95 % interval:

- fewer than `FEWEST_SEEDS` seeds: **underpowered**, a pilot.
- A difference is expected. The interval lies above 0: **reproduces**, if on the mean the higher setting also
  has at least `SUCCESS` in the transfer region (where that is what is compared), else **partly**. The
  interval lies below `MARGIN`: **does not reproduce**. Else **underpowered**.
- None is expected. The interval lies below `RULED_OUT`: **reproduces**. It lies above 0: **does not
  reproduce**, or **partly** where d is below `MARGIN`. Else **underpowered**.

Of several: what they all are; **partly** where some reproduce and others do not, or only in part; else
**underpowered**.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import fmean

from hf_lgt.evaluation.measures import SUCCESS
from hf_lgt.evaluation.statistics import mean_interval, paired_difference
from hf_lgt.experiments.claims import Claim
from hf_lgt.experiments.results import SeedGroup, SeedResult

FEWEST_SEEDS = 5
"""of an experiment that is no pilot"""
MARGIN = 0.1
"""difference that matters"""
RULED_OUT = 0.35
"""difference that eight seeds without any can rule out: one seed in three that transfers would be seen"""
REPRODUCES, PARTLY, NOT, UNDERPOWERED = "reproduces", "partly", "does not reproduce", "underpowered"


@dataclass(frozen=True)
class Finding:
    """What came of a claim in one setting."""

    claim: Claim
    setting: str
    """in words"""
    higher: float
    """mean of the setting that is said to have more"""
    lower: float
    """of the one that it is compared with"""
    difference: float
    interval: tuple[float, float]
    seeds: int
    verdict: str
    runs: tuple[str, ...]
    """ids"""


def judge_claims(claims: Sequence[Claim], cells: Sequence[SeedGroup]) -> list[Finding]:
    """Every claim in every setting that it is about, where there are finished runs of both."""
    return [finding for claim in claims for finding in _judge(claim, cells)]


def overall(findings: Sequence[Finding]) -> str:
    """The verdict of all; see the module."""
    found = {finding.verdict for finding in findings}
    if len(found) == 1:
        return found.pop()
    if REPRODUCES in found or PARTLY in found:
        return PARTLY
    return UNDERPOWERED


def _judge(claim: Claim, cells: Sequence[SeedGroup]) -> Iterator[Finding]:
    places = {_key(_places(cell)): cell for cell in cells}
    for cell in cells:
        at = _places(cell)
        if any(at.get(key) != value for key, value in claim.more.items()):
            continue
        other = places.get(_key({**at, **claim.than})) if claim.than else None
        if claim.than and (other is None or other is cell):
            continue
        first = {r.seed: value for r in cell.results if (value := _measured(claim.measure, r)) is not None}
        second = dict.fromkeys(first, 0.0)
        if other is not None:
            second = {r.seed: v for r in other.results if (v := _measured(claim.measure, r)) is not None}
        seeds = [seed for seed in first if seed in second]
        if seeds:
            runs = tuple(r.entry.id for own in (cell, other) if own is not None for r in own.results)
            pairs = [first[seed] for seed in seeds], [second[seed] for seed in seeds]
            yield _finding(claim, cell.label, *pairs, runs)


def _places(cell: SeedGroup) -> dict[str, str]:
    return {"group": cell.group, "arm": cell.arm, "checkpoint": cell.checkpoint, **cell.point}


def _key(places: dict[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(places.items()))


def _measured(measure: str, r: SeedResult) -> float | None:
    if measure == "reach":
        return r.reach
    if measure == "gap":
        return r.summary.gap
    changes = [r.changes(regime) for regime in ("transfer", "within")]
    if not all(changes):
        return None
    far, near = (fmean(map(abs, own)) for own in changes)
    return far - near


def _finding(
    claim: Claim, setting: str, first: Sequence[float], second: Sequence[float], runs: tuple[str, ...]
) -> Finding:
    if claim.than and claim.measure != "instability":
        difference, interval = paired_difference(first, second)
    else:  # of an instability, itself a difference, what is taken from it need not be from 0 to 1
        differences = [a - b for a, b in zip(first, second, strict=True)]
        width = 2.0 if claim.than else 1.0
        difference, interval = fmean(differences), mean_interval(differences, bounds=(-width, width))
    higher = fmean(first)
    verdict = verdict_of(claim, len(first), higher, difference, interval)
    return Finding(claim, setting, higher, fmean(second), difference, interval, len(first), verdict, runs)


def verdict_of(
    claim: Claim, seeds: int, higher: float, difference: float, interval: tuple[float, float]
) -> str:
    """The rule of the module, for one setting."""
    low, high = interval
    if seeds < FEWEST_SEEDS:
        return UNDERPOWERED
    if claim.expected:
        if low > 0:
            return REPRODUCES if claim.measure != "reach" or higher >= SUCCESS else PARTLY
        return NOT if high < MARGIN else UNDERPOWERED
    if high < RULED_OUT and low <= 0:
        return REPRODUCES
    if low > 0:
        return NOT if difference >= MARGIN else PARTLY
    return UNDERPOWERED
