"""The figures of an experiment: curves, gaps, stability and what each setting reached."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import cycle
from statistics import fmean
from typing import Any

import numpy as np

from hf_lgt.evaluation.curves import mean_curve
from hf_lgt.experiments.manifest import Manifest, grouped, setting_words
from hf_lgt.experiments.report.cells import GAP, REACH, mean_of, values_of
from hf_lgt.experiments.report.stability import REGIMES, shared_steps, swing
from hf_lgt.experiments.report.sweep_tables import gap_grids
from hf_lgt.experiments.results import SeedGroup
from hf_lgt.report.blocks import Picture
from hf_lgt.report.canvas import empty_figure
from hf_lgt.report.figures import (
    COLORS,
    MARKERS,
    TARGET_COLOR,
    literal,
    mark_training_lengths,
    style_length_axes,
)

MOST_PANELS = 12
ARM_COLORS = (TARGET_COLOR, *COLORS)
ARM_MARKERS = ("o", *MARKERS)
REGIME_COLORS = {"within": COLORS[0], "transfer": TARGET_COLOR, "beyond": "#777777"}


def sweep_pictures(manifest: Manifest, cells: Sequence[SeedGroup]) -> list[Picture]:
    """All pictures of an experiment."""
    if not cells:
        return []
    grids = [*gap_pictures(manifest, cells)]
    curves = [] if grids else [*curves_pictures(manifest, cells)]
    return [*grids, *curves, *reach_pictures(manifest, cells), *stability_pictures(manifest, cells)]


def _panels(count: int, width: float, height: float) -> tuple[Any, list[Any]]:
    """A figure of panels in rows of at most four."""
    columns = min(count, 3 if count in (3, 5, 6, 9) else 4)
    rows = math.ceil(count / columns)
    figure = empty_figure(0.9 + width * columns, 0.7 + height * rows)
    axes = figure.subplots(rows, columns, sharey=True, squeeze=False).ravel().tolist()
    for unused in axes[count:]:
        unused.remove()
    return figure, axes[:count]


def curves_pictures(manifest: Manifest, cells: Sequence[SeedGroup]) -> Iterator[Picture]:
    """The target's exact match by length: a panel a setting, in bold an arm's mean, thin its seeds.

    Where there is one arm from a few checkpoints, these are the lines.
    """
    line: Callable[[SeedGroup], str] = _arm_words
    shared = 3
    checkpoints = {cell.checkpoint for cell in cells}
    if len({cell.arm for cell in cells}) == 1 and 1 < len(checkpoints) <= len(ARM_COLORS):
        line = _checkpoint_words
        shared = 2
    settings = list(grouped(cells, lambda cell: cell.setting[:shared]).values())
    lines = list(dict.fromkeys(map(line, cells)))
    style = dict(zip(lines, zip(cycle(ARM_COLORS), cycle(ARM_MARKERS), strict=False), strict=False))
    for start in range(0, len(settings), MOST_PANELS):
        part = settings[start : start + MOST_PANELS]
        figure, panels = _panels(len(part), 4.3 if len(part) < 3 else 3.6, 3.2)
        for axes, own in zip(panels, part, strict=True):
            _draw_curves(axes, own, line, style)
        panels[0].legend(loc="lower left", fontsize=8, framealpha=0.9)  # where what is trained is at 1
        targets = {cell.results[0].summary.target for own in part for cell in own}
        of = literal(targets.pop()) if len(targets) == 1 else "the target"
        panels[0].set_ylabel(f"exact match of {of}")
        more = f", part {start // MOST_PANELS + 1}" if len(settings) > MOST_PANELS else ""
        figure.suptitle(f"{literal(manifest.name)}: exact match by length{more}", fontsize=11)
        name = "curves" if not more else f"curves-{start // MOST_PANELS + 1}"
        yield Picture(name, f"Exact match of the target by length{more}", _curves_alt(part, line), figure)


def _arm_words(cell: SeedGroup) -> str:
    return cell.arm.replace("_", " ") or "target"


def _checkpoint_words(cell: SeedGroup) -> str:
    return cell.checkpoint


def _draw_curves(
    axes: Any, own: Sequence[SeedGroup], line: Callable[[SeedGroup], str], style: dict[str, tuple[str, str]]
) -> None:
    style_length_axes(axes, [n for cell in own for r in cell.results for n in r.summary.curve])
    for cell in own:
        color, marker = style[line(cell)]
        label = f"{literal(line(cell))} (n={len(cell.results)})"
        for r in cell.results:
            axes.plot(*zip(*r.summary.curve.items(), strict=True), color=color, lw=0.7, alpha=0.4)
        mean = mean_curve([r.summary.curve for r in cell.results])
        axes.plot(*zip(*mean.items(), strict=True), color=color, marker=marker, ms=3.5, lw=2.2, label=label)
    first = next((c for c in own if c.results[0].auxiliary_curve), None)
    if first is not None:
        auxiliary = mean_curve([r.auxiliary_curve for r in first.results if r.auxiliary_curve])
        axes.plot(
            *zip(*auxiliary.items(), strict=True), color="#777777", lw=1.2, ls="--", label="auxiliaries"
        )
    summary = (first or own[0]).results[0].summary
    mark_training_lengths(axes, summary.target_length, summary.auxiliary_length)
    if words := _panel_words(own):
        axes.set_title(literal(words), fontsize=9, pad=16)


def _panel_words(own: Sequence[SeedGroup]) -> str:
    """What all lines of a panel share."""
    first = own[0]
    checkpoint = first.checkpoint if len({cell.checkpoint for cell in own}) == 1 else ""
    return setting_words(first.group, "", first.point, checkpoint)


def _curves_alt(settings: Sequence[Sequence[SeedGroup]], line: Callable[[SeedGroup], str]) -> str:
    parts = []
    for own in settings:
        numbers = [f"{line(cell)} {mean}" for cell in own if (mean := mean_of(cell, REACH)) is not None]
        words = _panel_words(own)
        parts.append(f"{words}: {'; '.join(numbers)}" if words else "; ".join(numbers))
    return (
        "Line chart. Mean exact match in the transfer region, with 95 % intervals: " + ". ".join(parts) + "."
    )


def gap_pictures(manifest: Manifest, cells: Sequence[SeedGroup]) -> Iterator[Picture]:
    """Mean generalization gap over target and auxiliary training length (as the paper's figure 10)."""
    rows, columns = (manifest.axes.get(axis, ()) for axis in ("target_length", "auxiliary_length"))
    for index, (words, grid) in enumerate(gap_grids(manifest, cells)):
        gaps = np.full((len(rows), len(columns)), np.nan)
        for i, target in enumerate(rows):
            for j, auxiliary in enumerate(columns):
                if (cell := grid.get((target, auxiliary))) and (values := values_of(cell, GAP)):
                    gaps[i, j] = fmean(values)
        figure = empty_figure(1.9 + 0.75 * len(columns), 1.5 + 0.65 * len(rows))
        axes = figure.subplots()
        image = axes.imshow(gaps, cmap="cividis_r", vmin=0, vmax=1, aspect="auto")
        for (i, j), mean in np.ndenumerate(gaps):
            text = "–" if np.isnan(mean) else f"{mean:.2f}"
            axes.text(
                j, i, text, ha="center", va="center", color="white" if mean > 0.5 else "black", fontsize=10
            )
        axes.set_xticks(range(len(columns)), columns)
        axes.set_yticks(range(len(rows)), rows)
        axes.set_xlabel("longest training length of the auxiliaries")
        axes.set_ylabel("longest training length of the target")
        figure.colorbar(image, label="generalization gap (0: the same curve)")
        figure.suptitle(literal(f"{manifest.name}{words}"), fontsize=10)
        listed = [
            f"target {rows[i]}, auxiliaries {columns[j]}: {mean:.2f}"
            for (i, j), mean in np.ndenumerate(gaps)
            if not np.isnan(mean)
        ]
        title = f"Generalization gap by training lengths{words}"
        name = "gap" if index == 0 else f"gap-{index + 1}"
        yield Picture(name, title, f"Heat map of the mean gap. {'; '.join(listed)}.", figure)


def reach_pictures(manifest: Manifest, cells: Sequence[SeedGroup]) -> Iterator[Picture]:
    """Exact match in the transfer region: a row a setting, a dot a seed, mean and interval in bold."""
    known = [cell for cell in cells if values_of(cell, REACH)]
    if not 2 <= len(known) <= 60:
        return
    figure = empty_figure(8.2, 1.3 + 0.34 * len(known))
    axes = figure.subplots()
    arms = list(dict.fromkeys(cell.arm for cell in cells))
    for row, cell in enumerate(known):
        color = ARM_COLORS[arms.index(cell.arm) % len(ARM_COLORS)]
        values, mean = values_of(cell, REACH), mean_of(cell, REACH)
        assert mean is not None, "it has values"
        axes.plot(values, [row] * len(values), ls="", marker="o", ms=5, mfc="none", mec=color, alpha=0.7)
        if mean.low is not None and mean.high is not None:
            axes.plot([mean.low, mean.high], [row, row], color=color, lw=3, alpha=0.5, solid_capstyle="butt")
        axes.plot([mean.value], [row], color=color, marker="|", ms=14, mew=3)
    axes.set_yticks(range(len(known)), [literal(cell.label) for cell in known], fontsize=8)
    axes.set_ylim(len(known) - 0.4, -0.6)
    axes.set_xlim(-0.03, 1.03)
    axes.set_xlabel("exact match in the transfer region (dots: seeds; bar: mean and 95 % interval)")
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    figure.suptitle(literal(manifest.name), fontsize=10)
    listed = [f"{cell.label}: {mean_of(cell, REACH)}" for cell in known]
    alt = f"Dot plot of every seed, mean and 95 % interval. {'; '.join(listed)}."
    yield Picture("reach", "Exact match in the transfer region, every seed", alt, figure)


def stability_pictures(manifest: Manifest, cells: Sequence[SeedGroup]) -> Iterator[Picture]:
    """Exact match by regime against the training step (as the paper's figure 11)."""
    shown = [cell for cell in cells if len(shared_steps(cell)) > 3][:MOST_PANELS]
    if not shown:
        return
    figure, panels = _panels(len(shown), 4.2 if len(shown) < 3 else 3.4, 2.9)
    for axes, cell in zip(panels, shown, strict=True):
        steps = shared_steps(cell)
        for regime, color in REGIME_COLORS.items():
            lines = [[getattr(r.by_step[step], regime) for step in steps] for r in cell.results]
            lines = [line for line in lines if None not in line]
            for line in lines:
                axes.plot(steps, line, color=color, lw=0.7, alpha=0.5)
            if lines:
                mean = [fmean(values) for values in zip(*lines, strict=True)]
                axes.plot(steps, mean, color=color, lw=2.2, label=REGIMES[regime])
        axes.set_ylim(-0.03, 1.03)
        axes.set_xlabel("training step")
        axes.grid(color="#dddddd", linewidth=0.6)
        axes.set_title(literal(cell.label), fontsize=9)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    panels[0].set_ylabel("exact match of the target")
    panels[0].legend(fontsize=8, framealpha=0.9)
    figure.suptitle(f"{literal(manifest.name)}: exact match by regime, thin lines are seeds", fontsize=10)
    listed = [f"{cell.label}: {_swing_words(cell)}" for cell in shown]
    yield Picture(
        "stability", "Exact match by regime against the step", f"Line chart. {'; '.join(listed)}.", figure
    )


def _swing_words(cell: SeedGroup) -> str:
    changes = [mean_of(cell, swing(regime)) for regime in ("within", "transfer")]
    if None in changes:
        return f"transfer region {mean_of(cell, REACH)}"
    return (
        f"in the second half of training, exact match changes by {changes[0]} between evaluations on "
        f"trained lengths and by {changes[1]} in the transfer region"
    )
