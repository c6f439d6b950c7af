"""The tables of an experiment: what every setting reached, how the arms differ, every seed's numbers.

All are over seeds: means with their intervals and success rates with Wilson's. There is no summary of the
best seed. The measures are those of `hf_lgt.evaluation.measures`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from hf_lgt.evaluation.measures import FOLLOWED, SUCCESS
from hf_lgt.evaluation.metrics import wilson_interval
from hf_lgt.evaluation.statistics import (
    holm,
    least_p,
    paired_difference,
    permutation_test,
    seeds_for_rate_width,
    seeds_for_width,
)
from hf_lgt.experiments.manifest import Manifest, setting_words
from hf_lgt.experiments.report.cells import (
    BEYOND,
    EFFECTIVE_50,
    EFFECTIVE_90,
    GAIN,
    GAP,
    REACH,
    RECOVERED,
    STEPS,
    TOKENS,
    WITHIN,
    Measure,
    at_length,
    mean_of,
    names,
    run_ids,
    values_of,
)
from hf_lgt.experiments.report.stability import stability_table
from hf_lgt.experiments.results import SeedGroup
from hf_lgt.experiments.verdicts import FEWEST_SEEDS
from hf_lgt.report.blocks import Number, Row, Table, Value

WIDTH = 0.2
"""of an interval, for which the seeds needed are reported"""
MOST_LENGTHS = 12
"""columns of a table by length"""

_DEFINITIONS = (
    "Means over seeds with 95 % intervals (normal, with 1.5 pseudo-observations at each bound); success rate "
    "with its Wilson interval. Within: lengths that the target was trained on; transfer region: longer ones, "
    "up to the auxiliaries' longest (of the first arm that has some; without any, every longer length); "
    "beyond: all others. Gain: exact match in the transfer region minus that of the target alone with the "
    "same seed; recovered: its share of what training the target on the long lengths gains. Success: at "
    f"least {SUCCESS} in the transfer region. Gap: the paper's, a mean over the seeds on which every "
    f"auxiliary is at {FOLLOWED} or more on its own lengths."
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
        cost_table(manifest, cells),
        stability_table(manifest, cells),
        seed_table(manifest, cells),
    ]
    return [table for table in made if table.rows]


def summary_table(manifest: Manifest, cells: Sequence[SeedGroup]) -> Table:
    """A row a setting: the three regimes, what is gained, success, and the paper's gap."""
    headers, name = names(manifest, cells)
    measures = (WITHIN, REACH, BEYOND, GAIN, RECOVERED, EFFECTIVE_90, STEPS, GAP)
    means = [[mean_of(cell, measure) for measure in measures] for cell in cells]
    rates = [_success(cell) for cell in cells]
    # a column that no setting has a number for says nothing
    kept = [i for i in range(len(measures)) if any(row[i] is not None for row in means)]
    rows = [
        Row((*name(cell), len(cell.results), *(own[i] for i in kept), *rate), run_ids(cell))
        for cell, own, rate in zip(cells, means, rates, strict=True)
    ]
    shown = [measures[i].name for i in kept]
    return Table(
        "summary",
        "Exact match of the target by regime, and what it gains",
        (*headers, "seeds", *shown, f"seeds with ≥ {SUCCESS} there", "success rate"),
        tuple(rows),
        (_DEFINITIONS, *_pilot(cells), *_other_targets(cells), *_without_gap(cells),
         *_without_criterion(cells), *_unfinished(manifest, cells)),
    )  # fmt: skip


def _success(cell: SeedGroup) -> tuple[Value, Value]:
    """Seeds that succeed, and their share."""
    reached = values_of(cell, REACH)
    if not reached:
        return None, None
    won = sum(value >= SUCCESS for value in reached)
    rate = Number(won / len(reached), *wilson_interval(won, len(reached)), 2)
    return f"{won}/{len(reached)}", rate


def _pilot(cells: Sequence[SeedGroup]) -> Iterator[str]:
    """What few seeds are."""
    fewest = min(len(cell.results) for cell in cells)
    if fewest < FEWEST_SEEDS:
        count = "is only 1 seed" if fewest == 1 else f"are only {fewest} seeds"
        yield f"A pilot: of some settings there {count}, fewer than {FEWEST_SEEDS}."


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


def _without_gap(cells: Sequence[SeedGroup]) -> Iterator[str]:
    """Settings with seeds that have no gap, and the first one's reason."""
    for cell in cells:
        reasons = [r.summary.gap_reason for r in cell.results if r.summary.gap_reason]
        if reasons and cell.results[0].summary.auxiliaries:
            yield f"{cell.label}: no gap on {len(reasons)} of {len(cell.results)} seeds ({reasons[0]})."


def _without_criterion(cells: Sequence[SeedGroup]) -> Iterator[str]:
    """Settings with seeds that ended before they had met ``train.until``."""
    for cell in cells:
        train, missed = cell.results[0].config.train, sum(r.reached is None for r in cell.results)
        wanted = train.until.exact_match
        if wanted is not None and missed:
            yield (
                f"{cell.label}: exact match {wanted} on the trained lengths was not reached within "
                f"{train.steps} steps on {missed} of {len(cell.results)} seeds, which count as they ended."
            )


def _unfinished(manifest: Manifest, cells: Sequence[SeedGroup]) -> Iterator[str]:
    every = {entry.id for entry in manifest.runs}
    missing = every - {result.entry.id for cell in cells for result in cell.results}
    if missing:
        yield f"{len(missing)} of {len(every)} runs are not finished and do not count."


def curve_table(manifest: Manifest, cells: Sequence[SeedGroup]) -> Table:
    """A row a setting, a column a length: mean exact match of the target. The figure has the intervals."""
    headers, name = names(manifest, cells)
    lengths = chosen_lengths(cells)
    rows = tuple(
        Row(
            (*name(cell), *(mean_of(cell, at_length(n)) for n in lengths)),
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
            means: list[Value] = [None if c is None else mean_of(c, GAP) for c in own]
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
    compared = [(cell, other, paired_values(cell, other, REACH)) for cell, other in pairs(manifest, cells)]
    compared = [(cell, other, both) for cell, other, both in compared if both[0]]
    p_values = [permutation_test(*both) for _, _, both in compared]
    rows = []
    for (cell, other, (first, second)), p, adjusted in zip(compared, p_values, holm(p_values), strict=True):
        mean, (low, high) = paired_difference(first, second)
        several = len(first) > 1
        difference = Number(mean, low, high) if several else Number(mean)
        values: tuple[Value, ...] = (
            cell.label, other.label, len(first), difference,
            *((Number(p), Number(adjusted)) if several else (None, None)), Number(least_p(len(first))),
            seeds_for_width([a - b for a, b in zip(first, second, strict=True)], WIDTH),
            seeds_for_rate_width(sum(v >= SUCCESS for v in first), len(first), WIDTH),
        )  # fmt: skip
        rows.append(Row(values, (*run_ids(cell), *run_ids(other))))
    return Table(
        "differences",
        "Paired differences in the transfer region",
        ("setting", "minus", "seeds", "difference", "p", "p, Holm", "least p", f"seeds for width {WIDTH}",
         f"seeds for success rate ± {WIDTH / 2}"),
        tuple(rows),
        ("Exact match in the transfer region, the same seeds in both; p: two-sided paired permutation test; "
         f"Holm: corrected for the {len(rows)} comparisons of this table; least p: the least that so many "
         "seeds can give. Seeds needed are planned from the spread seen here.",),
    )  # fmt: skip


def cost_table(manifest: Manifest, cells: Sequence[SeedGroup]) -> Table:
    """A row a setting: how far it reaches, beside the tokens that it was trained on."""
    headers, name = names(manifest, cells)
    measures = (REACH, GAIN, EFFECTIVE_90, EFFECTIVE_50, TOKENS)
    rows = [
        Row(
            (*name(cell), len(cell.results), *(mean_of(cell, measure) for measure in measures)), run_ids(cell)
        )
        for cell in cells
        if values_of(cell, TOKENS)
    ]
    return Table(
        "cost",
        "What each setting reaches, and the tokens it takes",
        (*headers, "seeds", *(measure.name for measure in measures)),
        tuple(rows),
        ("Tokens of training, prompts and answers, without padding.",),
    )


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
    second = {r.seed: measure.value(r) for r in other.results}
    both = [(measure.value(r), second.get(r.seed)) for r in cell.results]
    known = [(a, b) for a, b in both if a is not None and b is not None]
    return [a for a, _ in known], [b for _, b in known]


def seed_table(manifest: Manifest, cells: Sequence[SeedGroup]) -> Table:
    """A row a run."""
    headers, name = names(manifest, cells)
    rows = []
    for cell in cells:
        for r in cell.results:
            s = r.summary
            numbers = [s.regimes.within, r.reach, s.regimes.beyond, r.gain, r.recovered, s.gap]
            errors = [s.errors.stopped_early, s.errors.ran_on, s.errors.content] if s.errors else 3 * [None]
            lowest = min(s.auxiliaries.values(), default=None) if r.auxiliary_curve else None
            values = [None if value is None else Number(value) for value in (*numbers, lowest, *errors)]
            lengths = (s.effective_length_90, s.effective_length_50)
            rows.append(Row((*name(cell), r.seed, *values, *lengths), (r.entry.id,)))
    return Table(
        "seeds",
        "Every run",
        (*headers, "seed", "within", "transfer region", "beyond", "gain", "recovered", "gap",
         "lowest auxiliary", "stopped early", "ran on", "other errors", "effective length at .9", "at .5"),
        tuple(rows),
        ("Lowest auxiliary: mean exact match on its own lengths. Errors: shares of all answers in the "
         "transfer region, by their first wrong token. Effective length: the longest up to which exact match "
         "stays at .9, at .5 or above.",),
    )  # fmt: skip
