"""Figures of attention heads: ablation maps, and their differences against the gap."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hf_lgt.report.canvas import empty_figure
from hf_lgt.report.figures import COLORS, MARKERS, literal

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def maps_figure(
    title: str, rows: Mapping[str, Sequence[NDArray[np.float64]]], columns: Sequence[str]
) -> Figure:
    """Matrices of layers and heads (as the paper's figure 17): a row of panels a task, a column a checkpoint.

    Args:
        title: above all.
        rows: task -> what it loses without each head, [L, H], one a column.
        columns: titles of the columns.
    """
    layers, heads = next(iter(rows.values()))[0].shape
    width, height = max(1.5, 0.32 * heads + 0.5), max(1.2, 0.32 * layers + 0.6)
    figure = empty_figure(1.6 + width * len(columns), 0.9 + height * len(rows))
    panels = figure.subplots(len(rows), len(columns), squeeze=False, sharex=True, sharey=True)
    reach = max(0.05, max(float(np.abs(found).max()) for own in rows.values() for found in own))
    image = None
    for row, (own, (task, found)) in enumerate(zip(panels, rows.items(), strict=True)):
        for axes, column, matrix in zip(own, columns, found, strict=True):
            image = axes.imshow(matrix, cmap="RdBu_r", vmin=-reach, vmax=reach, aspect="auto")
            axes.set_xticks(range(heads), [str(h) for h in range(heads)], fontsize=7)
            axes.set_yticks(range(layers), [str(n) for n in range(layers)], fontsize=7)
            if row == 0:
                axes.set_title(column, fontsize=9)
            if layers * heads <= 64:
                for (layer, head), value in np.ndenumerate(matrix):
                    dark = abs(value) > 0.6 * reach
                    text = f"{value:.2f}".replace("0.", ".", 1)
                    axes.text(head, layer, text, ha="center", va="center", fontsize=6,
                              color="white" if dark else "black")  # fmt: skip
        own[0].set_ylabel(f"{literal(task)}\nlayer", fontsize=9)
    for axes in panels[-1]:
        axes.set_xlabel("head", fontsize=8)
    assert image is not None, "there is a task"
    figure.colorbar(image, ax=panels, label="exact match lost without the head", shrink=0.9)
    figure.suptitle(literal(title), fontsize=10)
    return figure


def measures_figure(
    title: str,
    measures: Mapping[str, Mapping[str, Sequence[float]]],
    gaps: Mapping[str, Sequence[float]],
    correlations: Mapping[str, str],
) -> Figure:
    """How far the maps of target and auxiliaries differ, against the generalization gap.

    Args:
        title: above all.
        measures: what a measure is called -> run -> its value at each checkpoint.
        gaps: run -> the gap at each checkpoint.
        correlations: what a measure is called -> its rank correlation with the gap, in words.
    """
    beside = 2  # legend columns, below the panels so that it hides no point
    rows = -(-len(gaps) // beside)
    figure = empty_figure(0.6 + 3.6 * len(measures), 3.6 + 0.17 * rows)
    panels = figure.subplots(1, len(measures), squeeze=False, sharey=True)[0]
    for axes, (name, runs) in zip(panels, measures.items(), strict=True):
        for i, (run, values) in enumerate(runs.items()):
            color, marker = COLORS[i % len(COLORS)], MARKERS[i % len(MARKERS)]
            axes.plot(
                values, gaps[run], color=color, marker=marker, ms=5, lw=0.8, alpha=0.8, label=literal(run)
            )
        axes.set_xlabel(name, fontsize=9)
        axes.set_title(correlations[name], fontsize=9)
        axes.grid(color="#dddddd", linewidth=0.6)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    panels[0].set_ylabel("generalization gap")
    lines, labels = panels[0].get_legend_handles_labels()
    figure.legend(lines, labels, loc="outside lower center", ncols=beside, fontsize=7, frameon=False)
    figure.suptitle(literal(title), fontsize=10)
    return figure
