"""Figures of the arms of a comparison."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from hf_lgt.evaluation.curves import mean_curve, training_lengths
from hf_lgt.experiments.manifest import Manifest
from hf_lgt.experiments.report.cells import REACH, mean_of
from hf_lgt.experiments.report.sweep_figures import reach_pictures
from hf_lgt.experiments.results import SeedGroup
from hf_lgt.report.blocks import Picture
from hf_lgt.report.figures import (
    COLORS,
    TARGET_COLOR,
    literal,
    mark_training_lengths,
    new_figure,
    style_length_axes,
)


def comparison_pictures(manifest: Manifest, cells: Sequence[SeedGroup]) -> Iterator[Picture]:
    """The target's exact match by length: a panel an arm, a line a seed, their mean in bold; then every
    seed's in the transfer region.
    """
    figure, panels = new_figure(1.2 + 3.6 * len(cells), 3.8, len(cells))
    for axes, cell in zip(panels, cells, strict=True):
        curves = [r.summary.curve for r in cell.results]
        style_length_axes(axes, [length for own in curves for length in own])
        for i, own in enumerate(curves):
            label = f"target, each of {len(curves)} seeds" if i == 0 else None
            axes.plot(*zip(*own.items(), strict=True), color=TARGET_COLOR, lw=0.9, alpha=0.6, label=label)
        mean = mean_curve(curves)
        axes.plot(
            *zip(*mean.items(), strict=True),
            color=TARGET_COLOR, lw=2.6, marker="o", ms=4, label="target, mean",
        )  # fmt: skip
        auxiliary = mean_curve([r.auxiliary_curve for r in cell.results if r.auxiliary_curve])
        if auxiliary:
            axes.plot(
                *zip(*auxiliary.items(), strict=True),
                color=COLORS[0], lw=1.4, ls="--", marker="s", ms=3, label="auxiliaries, mean",
            )  # fmt: skip
        # the arm's own, which need not be those that it is measured by
        (_, longest), *_ = training_lengths(cell.results[0].config, "target")
        others = [length for _, length in training_lengths(cell.results[0].config, "auxiliary")]
        mark_training_lengths(axes, longest, max(others, default=longest))
        axes.set_title(literal(cell.arm.replace("_", " ")), fontsize=10, pad=16)
        axes.legend(loc="lower left", fontsize=7, framealpha=0.9)
    panels[0].set_ylabel(f"exact match of {literal(cells[0].results[0].summary.target)}")
    figure.suptitle(literal(manifest.name), fontsize=11)
    numbers = [f"{cell.label} {mean_of(cell, REACH)}" for cell in cells]
    alt = f"Line charts, a panel an arm. Mean exact match in the transfer region: {'; '.join(numbers)}."
    yield Picture("comparison", "Exact match of the target by length, every seed", alt, figure)
    yield from reach_pictures(manifest, cells)
