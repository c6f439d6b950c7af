"""What tables and figures say of a setting of an experiment: one number a seed, their mean, its name."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean

from hf_lgt.evaluation.statistics import bootstrap_interval
from hf_lgt.experiments.manifest import Manifest
from hf_lgt.experiments.results import SeedGroup, SeedResult
from hf_lgt.report.blocks import Number

Measure = Callable[[SeedResult], "float | None"]


def reach_of(result: SeedResult) -> float | None:
    """See `SeedResult.reach`."""
    return result.reach


def gap_of(result: SeedResult) -> float | None:
    """The generalization gap, None where the auxiliaries were not learned and it would mean nothing."""
    return result.summary.gap if result.comparable else None


def transfer_of(result: SeedResult) -> float | None:
    """1 minus the normalised gap, None where `gap_of` is."""
    return result.summary.transfer if result.comparable else None


def mean_of(cell: SeedGroup, measure: Measure) -> Number | None:
    """Mean over the seeds that have a value, with its interval; None without any."""
    values = values_of(cell, measure)
    if not values:
        return None
    return Number(fmean(values), *bootstrap_interval(values)) if len(values) > 1 else Number(values[0])


def values_of(cell: SeedGroup, measure: Measure) -> list[float]:
    """One number of every seed, without those that have none."""
    return [value for result in cell.results if (value := measure(result)) is not None]


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
