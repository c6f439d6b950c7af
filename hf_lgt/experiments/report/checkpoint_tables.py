"""Text tables of a comparison of pretraining checkpoints, and the same as plain data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from statistics import fmean
from typing import Any

from tabulate import tabulate

from data_builders.texts import plain
from hf_lgt.evaluation.curves import LEARNED
from hf_lgt.evaluation.statistics import bootstrap_interval
from hf_lgt.experiments.checkpoint_curves import CheckpointResult, Point, Sweep
from hf_lgt.report.tables import STYLE, number

MOST_LENGTHS = 8
"""columns of single lengths beyond the training length"""


def sweep_title(sweep: Sweep, every: Sequence[Sweep]) -> str:
    """The arm, and its repository where there are several."""
    several = len({s.name_or_path for s in every}) > 1
    return f"{sweep.arm} ({sweep.name_or_path})" if several else sweep.arm


def checkpoint_report(sweeps: Sequence[Sweep], *, every_seed: bool = True) -> str:
    """In Markdown, for each arm: its checkpoints, what they say, and every seed.

    Args:
        sweeps: at least one.
        every_seed: with the tables of single seeds, which are long.
    """
    parts = []
    for sweep in sweeps:
        target, longest = sweep.target
        parts += [
            f"## {plain(sweep_title(sweep, sweeps))}",
            f"Exact match of {plain(target)}, trained on lengths ≤ {longest}: means over seeds, in brackets "
            "95 % bootstrap intervals over seeds. Validation loss in nats a token.",
            checkpoint_table(sweep),
            "\n".join(f"- {line}" for line in checkpoint_lines(sweep)),
        ]
        if every_seed:
            parts += ["Every seed:", seed_table(sweep)]
    return "\n\n".join(parts)


def checkpoint_table(sweep: Sweep) -> str:
    """A row a checkpoint, the random twin first, then by pretraining: means over seeds."""
    lengths = shown_lengths(sweep)
    headers = ["checkpoint", *_headers(sweep, lengths)]
    rows = []
    for point in sweep.every:
        numbers = [number(_mean(point, value)) for value in _values(lengths)]
        row = [plain(point.checkpoint.label), number(point.validation_loss), *numbers]
        row.append(_with_interval(point.known(lambda r: r.extrapolation)))
        if sweep.twin:
            row.append(_with_interval(sweep.gain(point), signed=True))
        if _has_auxiliaries(sweep):
            row += [_with_interval(point.known(value)) for value in (_gap, _transfer)]
        rows.append(row)
    return tabulate(rows, headers, tablefmt=STYLE, disable_numparse=True)


def seed_table(sweep: Sweep) -> str:
    """The same for every seed of every checkpoint."""
    lengths = shown_lengths(sweep)
    headers = ["checkpoint", "seed", *_headers(sweep, lengths)]
    rows = []
    for point in sweep.every:
        for run in point.runs:
            row = [plain(point.checkpoint.label), str(run.seed), number(run.validation_loss)]
            row += [number(value(run)) for value in _values(lengths)]
            row.append(number(run.extrapolation))
            if sweep.twin:
                difference = _gain(sweep, run)
                row.append("–" if difference is None else _signed(difference))
            if _has_auxiliaries(sweep):
                row += [number(_gap(run)), number(_transfer(run))]
            rows.append(row)
    return tabulate(rows, headers, tablefmt=STYLE, disable_numparse=True)


def shown_lengths(sweep: Sweep) -> list[int]:
    """Evaluated lengths beyond the training length, evenly thinned out, the last one always there."""
    longest = sweep.target[1]
    lengths = sorted({n for p in sweep.every for r in p.runs for n in r.summary.curve if n > longest})
    step = -(-len(lengths) // MOST_LENGTHS) or 1
    return lengths[::-1][::step][::-1]


def checkpoint_lines(sweep: Sweep) -> list[str]:
    """Whether extrapolation grows with pretraining, and what the numbers cannot say."""
    arm = plain(sweep.arm)
    if not sweep.measured:
        lines = [f"{arm}: nothing beyond the training length was evaluated (eval.lengths)"]
    else:
        lines = [_trend_line(sweep)]
    if sweep.twin and sweep.measured:
        won = sum(bool(gains) and min(gains) > 0 for gains in map(sweep.gain, sweep.points))
        lines.append(
            f"{arm}: {won} of {len(sweep.points)} checkpoints extrapolate further than the random "
            "twin on every seed"
        )
    poor = [p for p in sweep.every if (seeds := p.known(lambda r: r.within)) and min(seeds) < LEARNED]
    if poor:
        told = ", ".join(_not_learned(point) for point in poor)
        lines.append(
            f"{arm}: the task itself was not learned (exact match on trained lengths below {LEARNED}) "
            f"from {told}; extrapolation there says nothing"
        )
        if sweep.twin in poor:
            lines.append(
                f"{arm}: a difference to a twin that did not learn the task is not one of extrapolation alone"
            )
    lines += _auxiliary_lines(sweep)
    if len(sweep.points[0].runs) == 1:
        lines.append(f"{arm}: one seed, so there are no intervals")
    for point in sweep.every:
        commits = sorted({r.commit for r in point.runs if r.commit})
        if len(commits) > 1:
            lines.append(f"{arm}: {plain(point.checkpoint.label)} is not one model: {', '.join(commits)}")
    return lines


def _trend_line(sweep: Sweep) -> str:
    arm = plain(sweep.arm)
    what = "pretraining step" if sweep.steps_known else "order in the list (a step is not known)"
    seeds = len(sweep.points[0].runs)
    over = f"{len(sweep.points)} checkpoints, {seeds} {'seed' if seeds == 1 else 'seeds'}"
    if sweep.trend is None:
        why = "one checkpoint" if len(sweep.points) == 1 else "all extrapolate alike"
        return f"{arm}: whether extrapolation grows with pretraining cannot be told: {why}"
    each = ", ".join(f"{value:+.2f}" for value in sweep.trends)
    return (
        f"{arm}: Spearman correlation of {what} and extrapolation {sweep.trend:+.2f}, mean of the "
        f"seeds' {each} ({over}; +1: it grows throughout, 0: no trend)"
    )


def _not_learned(point: Point) -> str:
    within = point.known(lambda r: r.within)
    low = sum(v < LEARNED for v in within)
    return f"{plain(point.checkpoint.label)} ({number(fmean(within))}, {low} of {len(within)} seeds)"


def _auxiliary_lines(sweep: Sweep) -> list[str]:
    arm, poor = plain(sweep.arm), []
    for point in sweep.every:
        means = point.known(lambda r: r.summary.auxiliary_mean)
        if means and min(means) < LEARNED:
            poor.append(f"{plain(point.checkpoint.label)} ({number(fmean(means))})")
    if not poor:
        return []
    return [
        f"{arm}: the auxiliaries themselves were not learned from {', '.join(poor)}, so "
        "there is no gap and no transfer there"
    ]


def checkpoint_data(sweeps: Sequence[Sweep]) -> dict[str, Any]:
    """Every run, every checkpoint and every trend as plain data."""
    return {
        "runs": [_run_data(s, r) for s in sweeps for point in s.every for r in point.runs],
        "checkpoints": [_point_data(s, point) for s in sweeps for point in s.every],
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
            for s in sweeps
        ],
    }


def _run_data(sweep: Sweep, run: CheckpointResult) -> dict[str, Any]:
    return {
        "arm": run.arm,
        "seed": run.seed,
        **_which(run),
        "zero_shot": run.zero_shot,
        "within": run.within,
        "extrapolation": run.extrapolation,
        "difference_to_twin": _gain(sweep, run),
        "zero_shot_curve": run.zero_shot_curve,
        **asdict(run.summary),
    }


def _point_data(sweep: Sweep, point: Point) -> dict[str, Any]:
    extrapolation = point.known(lambda r: r.extrapolation)
    difference = sweep.difference(point)
    return {
        "arm": sweep.arm,
        **_which(point.runs[0]),
        "validation_loss": point.validation_loss,
        "zero_shot": _mean(point, lambda r: r.zero_shot),
        "within": _mean(point, lambda r: r.within),
        "extrapolation": _mean(point, lambda r: r.extrapolation),
        "extrapolation_interval": bootstrap_interval(extrapolation) if extrapolation else None,
        "difference_to_twin": difference[0] if difference else None,
        "difference_interval": difference[1] if difference else None,
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


_Value = Callable[[CheckpointResult], float | None]


def _values(lengths: Sequence[int]) -> list[_Value]:
    """The columns between validation loss and extrapolation."""
    by_length: list[_Value] = [lambda r, n=n: r.summary.curve.get(n) for n in lengths]  # type: ignore[misc]
    return [lambda r: r.zero_shot, lambda r: r.within, *by_length]


def _headers(sweep: Sweep, lengths: Sequence[int]) -> list[str]:
    longest = sweep.target[1]
    headers = ["validation loss", "zero-shot", f"within ≤ {longest}", *map(str, lengths), f"mean > {longest}"]
    if sweep.twin:
        headers.append("minus twin's")
    return headers + (["gap", "transfer"] if _has_auxiliaries(sweep) else [])


def _has_auxiliaries(sweep: Sweep) -> bool:
    return any(r.summary.auxiliary_mean is not None for p in sweep.every for r in p.runs)


def _gap(run: CheckpointResult) -> float | None:
    return run.summary.gap


def _transfer(run: CheckpointResult) -> float | None:
    return run.summary.transfer


def _gain(sweep: Sweep, run: CheckpointResult) -> float | None:
    """One seed's extrapolation minus the twin's of the same seed."""
    point = next(p for p in sweep.every if p.checkpoint == run.checkpoint)
    gains = sweep.gain(Point(point.checkpoint, (run,))) if point is not sweep.twin else []
    return gains[0] if gains else None


def _mean(point: Point, value: _Value) -> float | None:
    known = point.known(value)
    return fmean(known) if known else None


def _signed(value: float) -> str:
    """With its sign, and no minus before what rounds to zero."""
    return f"{round(value, 3) + 0.0:+.3f}"


def _with_interval(values: Sequence[float], *, signed: bool = False) -> str:
    """``0.431 (0.312–0.550)``; of one seed only the number."""
    if not values:
        return "–"
    mean = _signed(fmean(values)) if signed else number(fmean(values))
    if len(values) == 1:
        return mean
    low, high = bootstrap_interval(values)
    return f"{mean} ({_signed(low)} to {_signed(high)})" if signed else f"{mean} ({low:.3f}–{high:.3f})"
