"""What tables and figures say of a setting of an experiment: one number a seed, their mean, its name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import fmean

from hf_lgt.evaluation.statistics import mean_interval, paired_difference
from hf_lgt.experiments.manifest import Manifest
from hf_lgt.experiments.results import SeedGroup, SeedResult
from hf_lgt.report.blocks import Number


@dataclass(frozen=True)
class Measure:
    """One number of every run."""

    name: str
    of: Callable[[SeedResult], float | None]
    bounds: tuple[float, float] | None = (0.0, 1.0)
    """what it can be, which its interval needs; None: it has no interval"""
    minus: Callable[[SeedResult], float | None] | None = None
    """what is taken from `of`, both between 0 and 1: a paired difference; None: nothing"""
    digits: int = 3
    """of its mean"""

    def value(self, result: SeedResult) -> float | None:
        """The number of a run, None where it has none."""
        first = self.of(result)
        if first is None or self.minus is None:
            return first
        second = self.minus(result)
        return None if second is None else first - second


WITHIN = Measure("within", lambda r: r.summary.regimes.within)
REACH = Measure("transfer region", lambda r: r.reach)
BEYOND = Measure("beyond", lambda r: r.summary.regimes.beyond)
GAIN = Measure("gain", lambda r: r.reach, minus=lambda r: r.alone)
RECOVERED = Measure("recovered", lambda r: r.recovered, None)
EFFECTIVE_90 = Measure("effective length at .9", lambda r: r.summary.effective_length_90, None, digits=1)
EFFECTIVE_50 = Measure("at .5", lambda r: r.summary.effective_length_50, None, digits=1)
STEPS = Measure("steps to criterion", lambda r: r.reached, None, digits=0)
TOKENS = Measure("training tokens, millions", lambda r: r.tokens and r.tokens / 1e6, None, digits=2)
GAP = Measure("gap", lambda r: r.summary.gap)


def at_length(length: int) -> Measure:
    """The target's exact match at one length."""
    return Measure(str(length), lambda r: r.summary.curve.get(length), None)


def mean_of(cell: SeedGroup, measure: Measure) -> Number | None:
    """Mean over the seeds that have a value, with its interval; None without any."""
    values = values_of(cell, measure)
    if not values:
        return None
    if len(values) == 1 or measure.bounds is None:
        return Number(fmean(values), digits=measure.digits)
    if measure.minus is not None:
        known = [r for r in cell.results if measure.value(r) is not None]
        both = ([v for r in known if (v := of(r)) is not None] for of in (measure.of, measure.minus))
        mean, interval = paired_difference(*both)
        return Number(mean, *interval)
    return Number(fmean(values), *mean_interval(values, bounds=measure.bounds))


def values_of(cell: SeedGroup, measure: Measure) -> list[float]:
    """One number of every seed, without those that have none."""
    return [value for result in cell.results if (value := measure.value(result)) is not None]


def names(
    manifest: Manifest, cells: Sequence[SeedGroup]
) -> tuple[tuple[str, ...], Callable[[SeedGroup], tuple[str, ...]]]:
    """Headers that tell settings apart, those that differ at all, and what stands below them."""
    kinds: list[tuple[str, Callable[[SeedGroup], str]]] = [
        ("group", lambda c: c.group),
        ("arm", lambda c: c.arm),
    ]
    kinds += [(axis, _on_axis(axis)) for axis in manifest.axes]
    kinds.append(("checkpoint", lambda c: c.checkpoint))
    used = [(name, of) for name, of in kinds if name == "arm" or len({of(cell) for cell in cells}) > 1]
    return tuple(name for name, _ in used), lambda cell: tuple(of(cell) for _, of in used)


def _on_axis(axis: str) -> Callable[[SeedGroup], str]:
    return lambda cell: cell.point.get(axis, "")


def run_ids(cell: SeedGroup) -> tuple[str, ...]:
    """Ids of a setting's runs."""
    return tuple(result.entry.id for result in cell.results)
