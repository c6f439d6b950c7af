"""Figures of the arms of a comparison."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from hf_lgt.evaluation.curves import mean_curve, training_lengths
from hf_lgt.experiments.manifest import grouped
from hf_lgt.experiments.results import SeedResult
from hf_lgt.report.figures import (
    COLORS,
    TARGET_COLOR,
    literal,
    mark_training_lengths,
    new_figure,
    style_length_axes,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def comparison_figure(name: str, results: Sequence[SeedResult]) -> Figure:
    """The target's exact match by length: a panel an arm, a line a seed, their mean in bold."""
    arms = grouped(results, lambda r: r.arm)
    figure, panels = new_figure(1.2 + 3.6 * len(arms), 3.8, len(arms))
    for axes, (arm, members) in zip(panels, arms.items(), strict=True):
        style_length_axes(axes, [length for r in members for length in r.summary.curve])
        for i, r in enumerate(members):
            label = f"target, each of {len(members)} seeds" if i == 0 else None
            axes.plot(
                *zip(*r.summary.curve.items(), strict=True),
                color=TARGET_COLOR,
                lw=0.9,
                alpha=0.6,
                label=label,
            )
        mean = mean_curve([r.summary.curve for r in members])
        axes.plot(
            *zip(*mean.items(), strict=True),
            color=TARGET_COLOR,
            lw=2.6,
            marker="o",
            ms=4,
            label="target, mean",
        )
        auxiliary = mean_curve([r.auxiliary_curve for r in members if r.auxiliary_curve])
        if auxiliary:
            axes.plot(
                *zip(*auxiliary.items(), strict=True),
                color=COLORS[0], lw=1.4, ls="--", marker="s", ms=3, label="auxiliaries, mean",
            )  # fmt: skip
        config = members[0].config
        lengths = [n for role in ("target", "auxiliary") for _, n in training_lengths(config, role)]
        mark_training_lengths(axes, members[0].summary.target_length, max(lengths))
        axes.set_title(literal(arm.replace("_", " ")), fontsize=10, pad=16)
        axes.legend(loc="lower left", fontsize=7, framealpha=0.9)
    target = results[0].summary.target
    panels[0].set_ylabel(f"exact match of {literal(target)}")
    figure.suptitle(literal(name), fontsize=11)
    return figure
