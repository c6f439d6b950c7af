"""Text tables of a comparison of pretraining checkpoints, and the same as plain data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from tabulate import tabulate

from data_builders.texts import plain
from hf_lgt.evaluation.measures import LEARNED
from hf_lgt.evaluation.statistics import mean_interval, paired_difference
from hf_lgt.experiments.checkpoint_series import CheckpointResult, CheckpointSeries, Point
from hf_lgt.report.tables import STYLE, number

MOST_LENGTHS = 8
"""columns of single lengths beyond the training length"""


def series_title(series: CheckpointSeries, every: Sequence[CheckpointSeries]) -> str:
    """The arm, and its repository where there are several."""
    several = len({s.name_or_path for s in every}) > 1
    return f"{series.arm} ({series.name_or_path})" if several else series.arm


def checkpoint_report(every_series: Sequence[CheckpointSeries], *, every_seed: bool = True) -> str:
    """In Markdown, for each arm: its checkpoints, what they say, and every seed.

    Args:
        every_series: at least one.
        every_seed: with the tables of single seeds, which are long.
    """
    parts = []
    for series in every_series:
        target, longest = series.target
        parts += [
            f"## {plain(series_title(series, every_series))}",
            f"Exact match of {plain(target)}, trained on lengths ≤ {longest}: means over seeds, in brackets "
            "95 % intervals over seeds (normal, with 1.5 pseudo-observations at each bound). Validation loss "
            "in nats a token.",
            checkpoint_table(series),
            "\n".join(f"- {line}" for line in checkpoint_lines(series)),
        ]
        if every_seed:
            parts += ["Every seed:", checkpoint_seed_table(series)]
    return "\n\n".join(parts)


def checkpoint_table(series: CheckpointSeries) -> str:
    """A row a checkpoint, the random twin first, then by pretraining: means over seeds."""
    rows = [((plain(point.checkpoint.label),), point.runs) for point in series.every]
    return _table(series, ("checkpoint",), rows)


def checkpoint_seed_table(series: CheckpointSeries) -> str:
    """The same for every seed of every checkpoint."""
    rows = [
        ((plain(point.checkpoint.label), str(run.seed)), (run,))
        for point in series.every
        for run in point.runs
    ]
    return _table(series, ("checkpoint", "seed"), rows)


def _table(
    series: CheckpointSeries,
    names: Sequence[str],
    rows: Sequence[tuple[Sequence[str], Sequence[CheckpointResult]]],
) -> str:
    """A table of rows, each with its name and the runs that it is about."""
    columns = _columns(series)
    texts = [[*name, *(column.text(runs) for column in columns)] for name, runs in rows]
    headers = [*names, *(column.header for column in columns)]
    return tabulate(texts, headers, tablefmt=STYLE, disable_numparse=True)


_Value = Callable[[CheckpointResult], "float | None"]


@dataclass(frozen=True)
class _Column:
    """A number of every run."""

    header: str
    value: _Value
    interval: bool = False
    """whether a mean has its interval"""
    minus: _Value | None = None
    """what is taken from `value`, both of exact match; None: nothing"""

    def text(self, runs: Sequence[CheckpointResult]) -> str:
        """``0.431 (0.312–0.550)``: the mean over the runs that have it; of one run only the number."""
        both = [(self.value(run), 0.0 if self.minus is None else self.minus(run)) for run in runs]
        known = [(a, b) for a, b in both if a is not None and b is not None]
        if not known:
            return "–"
        mean = fmean(a - b for a, b in known)
        shown = number(mean) if self.minus is None else _signed(mean)
        if not self.interval or len(known) == 1:
            return shown
        values = [a for a, _ in known]
        if self.minus is None:
            low, high = mean_interval(values)
            return f"{shown} ({low:.3f}–{high:.3f})"
        _, (low, high) = paired_difference(values, [b for _, b in known])
        return f"{shown} ({_signed(low)} to {_signed(high)})"


def _columns(series: CheckpointSeries) -> list[_Column]:
    longest = series.target[1]
    columns = [
        _Column("validation loss", lambda r: r.validation_loss),
        _Column("zero-shot", lambda r: r.zero_shot),
        _Column(f"within ≤ {longest}", lambda r: r.within),
        *(_Column(str(length), _at_length(length)) for length in shown_lengths(series)),
        _Column(f"mean > {longest}", lambda r: r.extrapolation, interval=True),
    ]
    if series.twin:
        columns.append(_Column("minus twin's", lambda r: r.extrapolation, True, lambda r: _twin_s(series, r)))
    if any(r.summary.gap is not None for p in series.every for r in p.runs):
        columns.append(_Column("gap", lambda r: r.summary.gap, interval=True))
    return columns


def _at_length(length: int) -> _Value:
    return lambda run: run.summary.curve.get(length)


def shown_lengths(series: CheckpointSeries) -> list[int]:
    """Evaluated lengths beyond the training length, evenly thinned out, the last one always there."""
    longest = series.target[1]
    lengths = sorted({n for p in series.every for r in p.runs for n in r.summary.curve if n > longest})
    step = -(-len(lengths) // MOST_LENGTHS) or 1
    return lengths[::-1][::step][::-1]


def checkpoint_lines(series: CheckpointSeries) -> list[str]:
    """Whether extrapolation grows with pretraining, and what the numbers cannot say."""
    arm = plain(series.arm)
    if not series.measured:
        lines = [f"{arm}: nothing beyond the training length was evaluated (eval.lengths)"]
    else:
        lines = [_trend_line(series)]
    if series.twin and series.measured:
        won = sum(bool(gains) and min(gains) > 0 for gains in map(series.gain, series.points))
        lines.append(
            f"{arm}: {won} of {len(series.points)} checkpoints extrapolate further than the random "
            "twin on every seed"
        )
    poor = [p for p in series.every if (seeds := p.known(lambda r: r.within)) and min(seeds) < LEARNED]
    if poor:
        told = ", ".join(_not_learned(point) for point in poor)
        lines.append(
            f"{arm}: the task itself was not learned (exact match on trained lengths below {LEARNED}) "
            f"from {told}; extrapolation there says nothing"
        )
        if series.twin in poor:
            lines.append(
                f"{arm}: a difference to a twin that did not learn the task is not one of extrapolation alone"
            )
    lines += _auxiliary_lines(series)
    if len(series.points[0].runs) == 1:
        lines.append(f"{arm}: one seed, so there are no intervals")
    for point in series.every:
        commits = sorted({r.commit for r in point.runs if r.commit})
        if len(commits) > 1:
            lines.append(f"{arm}: {plain(point.checkpoint.label)} is not one model: {', '.join(commits)}")
    return lines


def _trend_line(series: CheckpointSeries) -> str:
    arm = plain(series.arm)
    what = "pretraining step" if series.steps_known else "order in the list (a step is not known)"
    seeds = len(series.points[0].runs)
    over = f"{len(series.points)} checkpoints, {seeds} {'seed' if seeds == 1 else 'seeds'}"
    if series.trend is None:
        why = "one checkpoint" if len(series.points) == 1 else "all extrapolate alike"
        return f"{arm}: whether extrapolation grows with pretraining is unknown: {why}"
    each = ", ".join(f"{value:+.2f}" for value in series.trends)
    return (
        f"{arm}: Spearman correlation of {what} and extrapolation {series.trend:+.2f}, mean of the "
        f"seeds' {each} ({over}; +1: it grows throughout, 0: no trend)"
    )


def _not_learned(point: Point) -> str:
    within = point.known(lambda r: r.within)
    low = sum(v < LEARNED for v in within)
    return f"{plain(point.checkpoint.label)} ({number(fmean(within))}, {low} of {len(within)} seeds)"


def _auxiliary_lines(series: CheckpointSeries) -> list[str]:
    lines = []
    for point in series.every:
        reasons = [r.summary.gap_reason for r in point.runs if r.summary.gap_reason and r.summary.auxiliaries]
        if reasons:
            where = f"{plain(series.arm)}, {plain(point.checkpoint.label)}"
            lines.append(
                f"{where}: no gap on {len(reasons)} of {len(point.runs)} seeds ({plain(reasons[0])})"
            )
    return lines


def checkpoint_data(every_series: Sequence[CheckpointSeries]) -> dict[str, Any]:
    """Every run, every checkpoint and every trend as plain data."""
    return {
        "runs": [_run_data(s, r) for s in every_series for point in s.every for r in point.runs],
        "checkpoints": [_point_data(s, point) for s in every_series for point in s.every],
        "trends": [
            {
                "arm": s.arm,
                "name_or_path": s.name_or_path,
                "spearman": s.trend,
                "spearman_of_seeds": s.trends,
                "steps_known": s.steps_known,
                "checkpoints": len(s.points),
                "beat_twin_on_every_seed": sum(min(s.gain(p), default=0.0) > 0 for p in s.points)
                if s.twin
                else None,
            }
            for s in every_series
        ],
    }


def _run_data(series: CheckpointSeries, run: CheckpointResult) -> dict[str, Any]:
    return {
        "arm": run.arm,
        "seed": run.seed,
        **_which(run),
        "zero_shot": run.zero_shot,
        "within": run.within,
        "extrapolation": run.extrapolation,
        "difference_to_twin": _gain(series, run),
        "zero_shot_curve": run.zero_shot_curve,
        **asdict(run.summary),
    }


def _point_data(series: CheckpointSeries, point: Point) -> dict[str, Any]:
    extrapolation = point.known(lambda r: r.extrapolation)
    difference = series.difference(point)
    return {
        "arm": series.arm,
        **_which(point.runs[0]),
        "validation_loss": point.validation_loss,
        "zero_shot": _mean(point, lambda r: r.zero_shot),
        "within": _mean(point, lambda r: r.within),
        "extrapolation": _mean(point, lambda r: r.extrapolation),
        "extrapolation_interval": mean_interval(extrapolation) if len(extrapolation) > 1 else None,
        "difference_to_twin": difference[0] if difference else None,
        "difference_interval": difference[1] if difference and len(extrapolation) > 1 else None,
    }


def _which(run: CheckpointResult) -> dict[str, Any]:
    return {
        "name_or_path": run.checkpoint.name_or_path,
        "revision": run.checkpoint.revision,
        "random_twin": run.checkpoint.random,
        "commit": run.commit,
        "pretraining_step": run.pretraining_step,
        "validation_loss": run.validation_loss,
    }


def _gain(series: CheckpointSeries, run: CheckpointResult) -> float | None:
    """One seed's extrapolation minus the twin's of the same seed."""
    twin_s = _twin_s(series, run)
    return None if run.extrapolation is None or twin_s is None else run.extrapolation - twin_s


def _twin_s(series: CheckpointSeries, run: CheckpointResult) -> float | None:
    """The twin's extrapolation with a run's seed, None of the twin itself."""
    if series.twin is None or run.checkpoint == series.twin.checkpoint:
        return None
    return next((own.extrapolation for own in series.twin.runs if own.seed == run.seed), None)


def _mean(point: Point, value: _Value) -> float | None:
    known = point.known(value)
    return fmean(known) if known else None


def _signed(value: float) -> str:
    """With its sign, and no minus before what rounds to zero."""
    return f"{round(value, 3) + 0.0:+.3f}"
