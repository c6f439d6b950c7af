"""The figure of a comparison of pretraining checkpoints (as the paper's figure 9)."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

from hf_lgt.evaluation.curves import mean_curve
from hf_lgt.evaluation.statistics import mean_interval
from hf_lgt.experiments.checkpoint_series import CheckpointSeries
from hf_lgt.experiments.report.checkpoint_tables import series_title
from hf_lgt.experiments.revisions import repository_name
from hf_lgt.report.canvas import empty_figure
from hf_lgt.report.figures import TARGET_COLOR, literal, mark_training_lengths, style_length_axes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TWIN_COLOR = "#777777"
DECADES = 30.0
"""steps whose largest is at least this many times the smallest are drawn on a logarithmic axis"""
LONGEST_LEGEND = 18
"""entries in one column of a legend"""


def checkpoint_figure(name: str, every_series: Sequence[CheckpointSeries]) -> Figure:
    """A column an arm (and repository): exact match by length, then extrapolation against pretraining.

    Where a validation loss is known, a third row shows it. The legends stand in a column of their own.

    Args:
        name: of the comparison.
        every_series: at least one.
    """
    with_loss = any(p.validation_loss is not None for s in every_series for p in s.points)
    heights = [3.6, 2.9, 2.2][: 3 if with_loss else 2]
    columns = len(every_series)
    figure = empty_figure(2.6 + 4.8 * columns, sum(heights) + 0.6)
    grid = figure.subplots(
        len(heights),
        columns + 1,
        squeeze=False,
        gridspec_kw={"width_ratios": [1.0] * columns + [0.42], "height_ratios": heights},
    )
    several = len({s.name_or_path for s in every_series}) > 1
    for column, series in enumerate(every_series):
        # a revision's name may be another model in each repository, and so another colour
        prefix = f"{literal(repository_name(series.name_or_path))}, " if several else ""
        _draw_lengths(grid[0][column], series, prefix)
        grid[0][column].set_title(
            literal(series_title(series, every_series).replace("_", " ")), fontsize=10, pad=16
        )
        grid[0][column].set_ylabel(f"exact match of {literal(series.target[0])}")
        _draw_extrapolation(grid[1][column], series)
        if with_loss:
            _draw_loss(grid[2][column], series)
    for row in range(len(heights)):
        _draw_legend(grid[row][-1], grid[row][:-1])
    figure.suptitle(literal(name), fontsize=11)
    return figure


def _draw_lengths(axes: Any, series: CheckpointSeries, prefix: str) -> None:
    """Exact match by length after fine-tuning, a line a checkpoint."""
    style_length_axes(axes, [n for p in series.every for r in p.runs for n in r.summary.curve])
    for point, color in zip(series.points, _colors(len(series.points)), strict=True):
        curve = mean_curve([r.summary.curve for r in point.runs])
        axes.plot(
            *zip(*curve.items(), strict=True),
            color=color,
            lw=1.6,
            label=prefix + literal(point.checkpoint.label),
        )
    if series.twin:
        curve = mean_curve([r.summary.curve for r in series.twin.runs])
        axes.plot(
            *zip(*curve.items(), strict=True), color=TWIN_COLOR, lw=1.8, ls="--", label="random weights"
        )
    last = series.points[-1]
    before = mean_curve([r.zero_shot_curve for r in last.runs if r.zero_shot_curve])
    if before:
        label = f"{prefix}{literal(last.checkpoint.label)}, zero-shot"
        axes.plot(*zip(*before.items(), strict=True), color=TARGET_COLOR, lw=1.6, ls=":", label=label)
    summary = last.runs[0].summary
    mark_training_lengths(axes, summary.target_length, summary.auxiliary_length)


def _colors(n: int) -> list[Any]:
    """From light to dark in the order of pretraining; also without colour the order shows."""
    import matplotlib

    # its lightest yellow would be lost on white
    return [
        matplotlib.colormaps["viridis_r"](0.12 + 0.88 * (i / (n - 1) if n > 1 else 1.0)) for i in range(n)
    ]


def _draw_extrapolation(axes: Any, series: CheckpointSeries) -> None:
    """Mean over the lengths beyond the training length, against pretraining."""
    _style_pretraining_axis(axes, series)
    axes.set_ylim(-0.03, 1.03)
    axes.set_ylabel(f"exact match, mean > {series.target[1]}")
    values = [p.known(lambda r: r.extrapolation) for p in series.points]
    if series.twin and (of_twin := series.twin.known(lambda r: r.extrapolation)):
        if len(of_twin) > 1:
            axes.axhspan(*mean_interval(of_twin), color=TWIN_COLOR, alpha=0.2, lw=0, zorder=0)
        axes.axhline(fmean(of_twin), color=TWIN_COLOR, ls="--", lw=1.8, label="random weights, 95 %")
    measured = [(x, v) for x, v in zip(series.positions, values, strict=True) if v]
    if not measured:
        return
    means = [fmean(v) for _, v in measured]
    # of one seed there is no interval
    bounds = [mean_interval(v) if len(v) > 1 else (m, m) for (_, v), m in zip(measured, means, strict=True)]
    # means at a bound may miss it by a rounding
    below = [max(0.0, m - low) for m, (low, _) in zip(means, bounds, strict=True)]
    above = [max(0.0, high - m) for m, (_, high) in zip(means, bounds, strict=True)]
    several = max(map(len, values)) > 1
    axes.errorbar(
        [x for x, _ in measured], means, yerr=[below, above], color=TARGET_COLOR,
        marker="o", ms=5, lw=1.6, capsize=3, zorder=3, label="mean, 95 %" if several else "one seed",
    )  # fmt: skip
    if several:
        points = [(x, v) for x, seeds in measured for v in seeds]
        axes.scatter(*zip(*points, strict=True), s=9, color="#222222", zorder=2, label="single seed")
    before = [(x, fmean(v)) for x, v in _zero_shots(series) if v]
    if before:
        axes.plot(
            *zip(*before, strict=True),
            color=TARGET_COLOR, marker="o", mfc="white", ms=5, ls=":", lw=1.2, label="zero-shot, all lengths",
        )  # fmt: skip


def _zero_shots(series: CheckpointSeries) -> list[tuple[int, list[float]]]:
    return [(x, p.known(lambda r: r.zero_shot)) for x, p in zip(series.positions, series.points, strict=True)]


def _draw_loss(axes: Any, series: CheckpointSeries) -> None:
    """Validation loss of the pretraining; empty where it is not known."""
    known = [
        (x, p.validation_loss)
        for x, p in zip(series.positions, series.points, strict=True)
        if p.validation_loss is not None
    ]
    if not known:
        axes.axis("off")
        return
    _style_pretraining_axis(axes, series)
    axes.set_ylabel("loss, nats a token")
    axes.plot(
        *zip(*known, strict=True), color="#0072B2", marker="s", ms=4, lw=1.6, label="pretraining, validation"
    )


def _style_pretraining_axis(axes: Any, series: CheckpointSeries) -> None:
    """The horizontal axis of pretraining: steps, logarithmic where they span decades, or an order."""
    from matplotlib.ticker import EngFormatter, FixedLocator, MaxNLocator, NullLocator

    axes.grid(color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    if not series.steps_known:
        axes.set_xlabel("checkpoint, in the order of the list")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        return
    axes.set_xlabel("pretraining step")
    steps = sorted(set(series.positions))
    positive = [step for step in steps if step > 0]
    if positive and positive[-1] / positive[0] >= DECADES:
        if steps[0] == 0:
            # all of the way from 0 to the first step takes one unit, so that 0 stands beside it
            axes.set_xscale("symlog", linthresh=positive[0], linscale=0.5)
        else:
            axes.set_xscale("log")
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_locator(FixedLocator(steps))
    elif len(steps) == 1:
        axes.xaxis.set_major_locator(FixedLocator(steps))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))
    axes.tick_params(axis="x", labelsize=8)


def _draw_legend(place: Any, row: Sequence[Any]) -> None:
    """One legend for a row of axes, each label once, in an empty place."""
    entries: dict[str, Any] = {}
    for axes in row:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    place.axis("off")
    if entries:
        place.legend(
            list(entries.values()),
            list(entries),
            loc="upper left",
            fontsize=7.5,
            frameon=False,
            borderaxespad=0,
            ncols=-(-len(entries) // LONGEST_LEGEND),
        )
