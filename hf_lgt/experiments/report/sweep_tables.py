"""The tables of an experiment: what every setting reached, how the arms differ, every seed's numbers.

All are over seeds: means with 95 % bootstrap intervals and success rates with Wilson's. There is no summary
of the best seed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from hf_lgt.evaluation.curves import LEARNED
from hf_lgt.evaluation.metrics import wilson_interval
from hf_lgt.evaluation.statistics import (
    paired_difference,
    permutation_test,
    seeds_for_rate_width,
    seeds_for_width,
)
from hf_lgt.experiments.manifest import Manifest, setting_words
from hf_lgt.experiments.report.cells import (
    Measure,
    gap_of,
    mean_of,
    names,
    reach_of,
    run_ids,
    transfer_of,
    values_of,
)
from hf_lgt.experiments.report.stability import stability_table
from hf_lgt.experiments.results import SeedGroup
from hf_lgt.report.blocks import Number, Row, Table, Value

SUCCESS = 0.5
"""mean exact match in the transfer region from which a seed counts as a success"""
WIDTH = 0.2
"""of an interval, for which the seeds needed are reported"""
MOST_LENGTHS = 12
"""columns of a table by length"""

_DEFINITIONS = (
    "Means over seeds with 95 % bootstrap intervals (of 3 seeds: about least to most); success rate with its "
    "Wilson interval. Regimes: lengths "
    "that the target was trained on; longer ones up to the auxiliaries' longest; beyond all. Arms without "
    "auxiliaries are measured against the regimes and the auxiliaries of the setting's first arm that has "
    "some; where none has, the transfer region is every longer length. Success: at least "
    f"{SUCCESS} in the transfer region."
)


def sweep_tables(manifest: Manifest, cells: Sequence[SeedGroup]) -> list[Table]:
    """All tables of an experiment, the summary first."""
    if not cells:
        return []
    made = [
        summary_table(manifest, cells),
        *gap_tables(manifest, cells),
        curve_table(manifest, cells),
        difference_table(manifest, cells),
        stability_table(manifest, cells),
        seed_table(manifest, cells),
    ]
    return [table for table in made if table.rows]


def summary_table(manifest: Manifest, cells: Sequence[SeedGroup]) -> Table:
    """A row a setting: the three regimes, gap, transfer and success."""
    headers, name = names(manifest, cells)
    rows = []
    for cell in cells:
        reached = values_of(cell, reach_of)
        won = sum(value >= SUCCESS for value in reached)
        rows.append(
            Row(
                (
                    *name(cell),
                    len(cell.results),
                    mean_of(cell, lambda r: r.summary.regimes.within),
                    mean_of(cell, reach_of),
                    mean_of(cell, lambda r: r.summary.regimes.beyond),
                    mean_of(cell, gap_of),
                    mean_of(cell, transfer_of),
                    f"{won}/{len(reached)}" if reached else None,
                    Number(won / len(reached), *wilson_interval(won, len(reached)), 2) if reached else None,
                ),
                run_ids(cell),
            )
        )
    return Table(
        "summary",
        "Exact match of the target by regime, gap and transfer",
        (*headers, "seeds", "within", "transfer region", "beyond", "gap", "transfer",
         f"seeds with ≥ {SUCCESS} there", "success rate"),
        tuple(rows),
        (_DEFINITIONS, *_other_targets(cells), *_unlearned(cells), *_unfinished(manifest, cells)),
    )  # fmt: skip


def _other_targets(cells: Sequence[SeedGroup]) -> Iterator[str]:
    """Settings with several targets, of which tables and figures show the first."""
    for cell in cells:
        result = cell.results[0]
        others = [c.task for c in result.config.mixture if c.role == "target"][1:]
        if others:
            yield (
                f"{cell.label}: the target is {result.summary.target}; {', '.join(others)} "
                f"{'is' if len(others) == 1 else 'are'} in the runs' eval.jsonl alone."
            )


def _unlearned(cells: Sequence[SeedGroup]) -> Iterator[str]:
    """Settings with seeds whose gap says nothing."""
    for cell in cells:
        known = [r for r in cell.results if r.auxiliary_mean is not None and not r.comparable]
        low = [r for r in known if r.auxiliary_mean is not None and r.auxiliary_mean < LEARNED]
        kinds = (
            (len(low), "the auxiliaries score", "their", "they were"),
            (len(known) - len(low), "the target, trained longer, scores", "its", "it was"),
        )
        for count, who, whose, was in kinds:
            if count:
                yield (
                    f"{cell.label}: on {count} of {len(cell.results)} seeds {who} below {LEARNED} on {whose} "
                    f"own lengths; {was} not learned, so gap and transfer leave these seeds out."
                )


def _unfinished(manifest: Manifest, cells: Sequence[SeedGroup]) -> Iterator[str]:
    every = {entry.id for entry in manifest.runs}
    missing = every - {result.entry.id for cell in cells for result in cell.results}
    if missing:
        yield f"{len(missing)} of {len(every)} runs are not finished and do not count."


def _at_length(length: int) -> Measure:
    return lambda result: result.summary.curve.get(length)


def curve_table(manifest: Manifest, cells: Sequence[SeedGroup]) -> Table:
    """A row a setting, a column a length: mean exact match of the target."""
    headers, name = names(manifest, cells)
    lengths = chosen_lengths(cells)
    rows = tuple(
        Row(
            (*name(cell), *(mean_of(cell, _at_length(n)) for n in lengths)),
            run_ids(cell),
        )
        for cell in cells
    )
    title = "Exact match of the target by length"
    return Table("lengths", title, (*headers, *map(str, lengths)), rows)


def chosen_lengths(cells: Sequence[SeedGroup]) -> list[int]:
    """The longest trained length of the targets, and longer ones, spread evenly where there are many."""
    longest = min(r.summary.target_length for cell in cells for r in cell.results)
    every = sorted({n for cell in cells for r in cell.results for n in r.summary.curve if n >= longest})
    if not every:
        every = sorted({n for cell in cells for r in cell.results for n in r.summary.curve})
    if len(every) <= MOST_LENGTHS:
        return every
    last = len(every) - 1
    return [every[round(i * last / (MOST_LENGTHS - 1))] for i in range(MOST_LENGTHS)]


def gap_tables(manifest: Manifest, cells: Sequence[SeedGroup]) -> Iterator[Table]:
    """Where both training lengths vary: the gap, rows the target's, columns the auxiliary's (figure 10)."""
    for title, grid in gap_grids(manifest, cells):
        columns = manifest.axes["auxiliary_length"]
        rows = []
        for target in manifest.axes["target_length"]:
            own = [grid.get((target, column)) for column in columns]
            means: list[Value] = [None if c is None else mean_of(c, gap_of) for c in own]
            rows.append(Row((target, *means), tuple(i for c in own if c is not None for i in run_ids(c))))
        words = "Generalization gap, rows: target's training length, columns: auxiliaries'"
        yield Table("gap", f"{words}{title}", ("target ≤", *(f"≤ {c}" for c in columns)), tuple(rows))


def gap_grids(
    manifest: Manifest, cells: Sequence[SeedGroup]
) -> Iterator[tuple[str, Mapping[tuple[str, str], SeedGroup]]]:
    """(what else they share, (target length, auxiliary length) -> cell) of arms with auxiliaries."""
    axes = ("target_length", "auxiliary_length")
    if not all(len(manifest.axes.get(axis, ())) > 1 for axis in axes):
        return
    grids: dict[str, dict[tuple[str, str], SeedGroup]] = {}
    for cell in cells:
        if not any(result.auxiliary_curve for result in cell.results):
            continue
        others = {key: value for key, value in cell.point.items() if key not in axes}
        key = setting_words(cell.group, cell.arm, others, cell.checkpoint)
        grids.setdefault(key, {})[cell.point[axes[0]], cell.point[axes[1]]] = cell
    for key, grid in grids.items():
        yield f" ({key})" if len(grids) > 1 else "", grid


def difference_table(manifest: Manifest, cells: Sequence[SeedGroup]) -> Table:
    """Paired differences in the transfer region, see `pairs`."""
    rows = []
    for cell, other in pairs(manifest, cells):
        first, second = paired_values(cell, other, reach_of)
        if not first:
            continue
        mean, (low, high) = paired_difference(first, second)
        difference = Number(mean, low, high) if len(first) > 1 else Number(mean)
        spread = [a - b for a, b in zip(first, second, strict=True)]
        values: tuple[Value, ...] = (
            cell.label, other.label, len(first), difference,
            Number(permutation_test(first, second)) if len(first) > 1 else None,
            seeds_for_width(spread, WIDTH),
            seeds_for_rate_width(sum(v >= SUCCESS for v in first), len(first), WIDTH),
        )  # fmt: skip
        rows.append(Row(values, (*run_ids(cell), *run_ids(other))))
    return Table(
        "differences",
        "Paired differences in the transfer region",
        ("setting", "minus", "seeds", "difference", "p", f"seeds for width {WIDTH}",
         f"seeds for success rate ± {WIDTH / 2}"),
        tuple(rows),
        ("Exact match in the transfer region, the same seeds in both; p: two-sided paired permutation test, "
         "which with n seeds cannot be below 2/2^n. Seeds needed are planned from the spread seen here.",),
    )  # fmt: skip


def pairs(manifest: Manifest, cells: Sequence[SeedGroup]) -> Iterator[tuple[SeedGroup, SeedGroup]]:
    """Every cell with those it is compared to: the setting's first arm, each axis's first value, the first
    checkpoint.
    """
    for cell in cells:
        first = next(c for c in cells if c.setting == cell.setting)
        if first is not cell:
            yield cell, first
        for axis, values in manifest.axes.items():
            if cell.point.get(axis) == values[0]:
                continue
            if axis in ("target_length", "auxiliary_length"):
                continue  # other lengths are another task, which no seed pairs
            point = {**cell.point, axis: values[0]}
            for other in cells:
                alike = (other.group, other.arm, other.checkpoint) == (cell.group, cell.arm, cell.checkpoint)
                if alike and other.point == point:
                    yield cell, other
        start = next(c for c in cells if (c.group, c.arm, c.point) == (cell.group, cell.arm, cell.point))
        if start is not cell:
            yield cell, start


def paired_values(cell: SeedGroup, other: SeedGroup, measure: Measure) -> tuple[list[float], list[float]]:
    """A number of both cells, for the seeds that both have, in one order."""
    second = {r.seed: measure(r) for r in other.results}
    both = [(measure(r), second.get(r.seed)) for r in cell.results]
    known = [(a, b) for a, b in both if a is not None and b is not None]
    return [a for a, _ in known], [b for _, b in known]


def seed_table(manifest: Manifest, cells: Sequence[SeedGroup]) -> Table:
    """A row a run."""
    headers, name = names(manifest, cells)
    rows = []
    for cell in cells:
        for r in cell.results:
            regimes = (r.summary.regimes.within, r.reach, r.summary.regimes.beyond)
            numbers = [*regimes, r.summary.gap, r.summary.transfer, r.auxiliary_mean]
            values: list[Value] = [None if value is None else Number(value) for value in numbers]
            rows.append(Row((*name(cell), r.seed, *values), (r.entry.id,)))
    return Table(
        "seeds",
        "Every run",
        (*headers, "seed", "within", "transfer region", "beyond", "gap", "transfer", "auxiliaries"),
        tuple(rows),
    )
