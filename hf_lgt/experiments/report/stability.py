"""How steady training is once the target is learned (the paper's figure 11)."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from hf_lgt.experiments.manifest import Manifest
from hf_lgt.experiments.report.cells import Measure, mean_of, names, run_ids
from hf_lgt.experiments.results import SeedGroup
from hf_lgt.report.blocks import Row, Table

REGIMES = {"within": "trained lengths", "transfer": "transfer region", "beyond": "beyond"}
"""regimes of the target's lengths, and how tables and figures call them"""


def shared_steps(cell: SeedGroup) -> list[int]:
    """Evaluated steps that all seeds have."""
    return sorted(set.intersection(*(set(r.by_step) for r in cell.results)))


def swing(regime: str) -> Measure:
    """A seed's mean absolute change of exact match between evaluations, in the second half of training.

    Args:
        regime: one of `REGIMES`.
    """
    return Measure(regime, lambda r: fmean(map(abs, changes)) if (changes := r.changes(regime)) else None)


def fall(regime: str) -> Measure:
    """A seed's largest fall from one evaluation to the next; as `swing` otherwise."""
    return Measure(regime, lambda r: max((max(0.0, -change) for change in r.changes(regime)), default=None))


def stability_table(manifest: Manifest, cells: Sequence[SeedGroup]) -> Table:
    """A row a setting with enough evaluations: how far exact match goes up and down between them."""
    headers, name = names(manifest, cells)
    rows = []
    for cell in cells:
        changes = [mean_of(cell, swing(regime)) for regime in REGIMES]
        if any(change is not None for change in changes):
            values = (*name(cell), len(cell.results), *changes, mean_of(cell, fall("transfer")))
            rows.append(Row(values, run_ids(cell)))
    return Table(
        "stability",
        "Change of exact match between evaluations, in the second half of training",
        (*headers, "seeds", *REGIMES.values(), "largest fall in the transfer region"),
        tuple(rows),
        ("Mean absolute change from one evaluation to the next. The test sets are the same at each, so the "
         "drawing of examples is no part of it.",),
    )  # fmt: skip
