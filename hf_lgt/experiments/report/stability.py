"""How steady training is once the target is learned (the paper's figure 11)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from statistics import fmean

from hf_lgt.experiments.manifest import Manifest
from hf_lgt.experiments.report.cells import Measure, mean_of, names, run_ids
from hf_lgt.experiments.results import SeedGroup, SeedResult
from hf_lgt.report.blocks import Row, Table

REGIMES = {"within": "trained lengths", "transfer": "transfer region", "beyond": "beyond"}
"""regimes of the target's lengths, and how tables and figures call them"""
FEWEST = 3
"""evaluations in the second half of training, whose changes are reported"""


def shared_steps(cell: SeedGroup) -> list[int]:
    """Evaluated steps that all seeds have."""
    return sorted(set.intersection(*(set(r.by_step) for r in cell.results)))


def swing(cell: SeedGroup, regime: str) -> Measure:
    """A seed's mean absolute change of exact match between evaluations, in the second half of training.

    Args:
        cell: the setting, whose shared steps count.
        regime: one of `REGIMES`.

    Returns:
        Of a result the change; None where the regime is missing or there are fewer than `FEWEST` such
        evaluations.
    """
    return lambda result: _mean([abs(b - a) for a, b in pairwise(_late(cell, result, regime))])


def fall(cell: SeedGroup, regime: str) -> Measure:
    """A seed's largest fall from one evaluation to the next; as `swing` otherwise."""
    return lambda result: max(
        (max(0.0, a - b) for a, b in pairwise(_late(cell, result, regime))), default=None
    )


def _late(cell: SeedGroup, result: SeedResult, regime: str) -> list[float]:
    steps = shared_steps(cell)
    values = [getattr(result.by_step[step], regime) for step in steps if step >= steps[-1] / 2]
    return [] if len(values) < FEWEST or None in values else values


def _mean(values: Sequence[float]) -> float | None:
    return fmean(values) if values else None


def stability_table(manifest: Manifest, cells: Sequence[SeedGroup]) -> Table:
    """A row a setting with enough evaluations: how far exact match goes up and down between them."""
    headers, name = names(manifest, cells)
    rows = []
    for cell in cells:
        changes = [mean_of(cell, swing(cell, regime)) for regime in REGIMES]
        if any(change is not None for change in changes):
            values = (*name(cell), len(cell.results), *changes, mean_of(cell, fall(cell, "transfer")))
            rows.append(Row(values, run_ids(cell)))
    return Table(
        "stability",
        "Change of exact match between evaluations, in the second half of training",
        (*headers, "seeds", *REGIMES.values(), "largest fall in the transfer region"),
        tuple(rows),
        ("Mean absolute change from one evaluation to the next. The test sets are the same at each, so the "
         "drawing of examples is no part of it.",),
    )  # fmt: skip
