"""Text tables of the arms of a comparison."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from tabulate import tabulate

from data_builders.texts import plain
from hf_lgt.evaluation.metrics import wilson_interval
from hf_lgt.evaluation.statistics import bootstrap_interval
from hf_lgt.experiments.manifest import grouped
from hf_lgt.experiments.results import SeedResult
from hf_lgt.report.tables import STYLE, number

SUCCESS = 0.5
"""transfer from which on a seed counts as a success"""


def comparison_table(results: Sequence[SeedResult]) -> str:
    """Every seed of every arm: the target's exact match by length, gap and transfer; then the means.

    The interval is a percentile bootstrap over seeds.
    """
    lengths = _transfer_lengths(results)
    near = max(r.summary.target_length for r in results)
    far = max(r.summary.auxiliary_length for r in results)
    headers = ["arm", "seed", f"worst ≤ {near}", *map(str, lengths), f"mean > {far}", "gap", "transfer"]
    rows: list[list[str]] = []
    for arm, members in grouped(results, lambda r: r.arm).items():
        columns = [_columns(r, lengths) for r in members]
        name = plain(arm)
        rows += [
            [name, str(r.seed), *map(number, values)] for r, values in zip(members, columns, strict=True)
        ]
        means, intervals = [], []
        for values in zip(*columns, strict=True):
            known = [v for v in values if v is not None]
            means.append(number(fmean(known)) if known else "–")
            intervals.append("{:.2f}–{:.2f}".format(*bootstrap_interval(known)) if known else "–")
        rows += [[name, "mean", *means], [name, "95 %", *intervals]]
    return tabulate(rows, headers, tablefmt=STYLE, disable_numparse=True)


def success_lines(results: Sequence[SeedResult]) -> list[str]:
    """Share of each arm's seeds with transfer >= 0.5, with a Wilson interval."""
    lines = []
    for arm, members in grouped(results, lambda r: r.arm).items():
        known = [r.summary.transfer for r in members if r.summary.transfer is not None]
        unlearned = sum(r.summary.learned is False for r in members)
        if not known and not unlearned:
            lines.append(f"{plain(arm)}: no transfer can be measured (no auxiliary to follow)")
            continue
        count = len(known) + unlearned
        if not known:
            lines.append(
                f"{plain(arm)}: the auxiliaries themselves were not learned on any of {count} seeds, so "
                "there is no gap and no transfer"
            )
            continue
        # a seed on which nothing was learned is no success
        won = sum(t >= SUCCESS for t in known)
        low, high = wilson_interval(won, count)
        without = f" of the {len(known)} whose auxiliaries were learned" if unlearned else ""
        lines.append(
            f"{plain(arm)}: transfer {fmean(known):.3f}{without}, success rate {won}/{count} seeds "
            f"(95 % {low:.2f}–{high:.2f})"
        )
    return lines


def _columns(result: SeedResult, lengths: Sequence[int]) -> list[float | None]:
    s = result.summary
    worst = min((v for length, v in s.curve.items() if length <= s.target_length), default=None)
    by_length = [s.curve.get(length) for length in lengths]
    return [worst, *by_length, s.regimes.beyond, s.gap, s.transfer]


def _transfer_lengths(results: Sequence[SeedResult], most: int = 10) -> list[int]:
    """Evaluated lengths of the transfer region, thinned out to `most`, its end always there."""
    start = min(r.summary.target_length for r in results)
    end = max(r.summary.auxiliary_length for r in results)
    lengths = sorted({n for r in results for n in r.summary.curve if start < n <= end}, reverse=True)
    return lengths[:: -(-len(lengths) // most) or 1][::-1]
