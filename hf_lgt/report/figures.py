"""Figures: one function each. Colours are Okabe and Ito's, which colour-blind readers can tell apart."""

from __future__ import annotations

import io
import warnings
from collections.abc import Sequence
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

from data_builders.texts import line
from hf_lgt.config.schema import Config
from hf_lgt.evaluation.curves import curve, training_lengths
from hf_lgt.evaluation.records import EvalRecord
from hf_lgt.report.canvas import empty_figure
from hf_lgt.report.tables import mistake_kinds
from hf_lgt.utils.atomic_io import atomic_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TARGET_COLOR = "#D55E00"
COLORS = ("#0072B2", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
MARKERS = ("s", "^", "D", "v", "P", "X")
LONGEST_NAME = 60
"""characters of a user's text; more would leave no place for the curves"""
HATCHES = ("", "//", "..", "xx", "\\\\", "oo")


def new_figure(width: float, height: float, columns: int = 1) -> tuple[Figure, list[Axes]]:
    """A figure that needs no display, with one row of axes that share their scales."""
    figure = empty_figure(width, height)
    axes = figure.subplots(1, columns, sharex=True, sharey=True, squeeze=False)
    return figure, list(axes[0])


def literal(text: str) -> str:
    """A user's text as matplotlib draws it: no formula, on one line, also in a legend."""
    text = line(text)
    if len(text) > LONGEST_NAME:
        text = text[: LONGEST_NAME - 1] + "…"
    text = text.replace("$", r"\$")
    return f" {text}" if text.startswith("_") else text  # a legend leaves out what begins so


def save_figure(figure: Figure, path: Path) -> Path:
    """Write a figure whole or not at all; the ending of the name says the format."""
    image = io.BytesIO()
    with warnings.catch_warnings():
        # a name in a script that the font lacks is drawn as boxes; a user can do nothing about it here
        warnings.filterwarnings(
            "ignore", r"(Glyph [0-9]+|Matplotlib currently does not support)", UserWarning
        )
        figure.savefig(image, format=path.suffix[1:], dpi=150)
    # drawing takes a while, in which a run that is killed would leave a draft
    with atomic_file(path) as draft:
        draft.write_bytes(image.getvalue())
    return path


def style_length_axes(axes: Any, lengths: Sequence[int]) -> None:
    """Labels, limits and grid of an accuracy-by-length plot."""
    from matplotlib.ticker import MaxNLocator

    axes.set_xlabel("length")
    axes.set_ylim(-0.03, 1.03)
    axes.set_xlim(min(lengths) - 0.5, max(lengths) + 0.5)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.grid(color="#dddddd", linewidth=0.6)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def mark_training_lengths(axes: Any, target_length: int, auxiliary_length: int) -> None:
    """Shade the target's training lengths and draw both ends, each named at the top."""
    low, high = axes.get_xlim()
    axes.axvspan(low, min(max(target_length + 0.5, low), high), color="#f1f1f1", zorder=0)
    ends = {target_length: "target trained"}
    if auxiliary_length != target_length:
        ends[auxiliary_length] = "auxiliary trained"
    for length, label in ends.items():
        if not low < length < high:
            continue  # not among the evaluated lengths
        axes.axvline(length + 0.5, color="#666666", linestyle="--", linewidth=1)
        axes.annotate(
            f"{label} ≤ {length}",
            xy=(length + 0.5, 1.0),
            xycoords=("data", "axes fraction"),
            xytext=(-3, 2),
            textcoords="offset points",
            ha="right",
            fontsize=8,
            color="#444444",
        )


def curves_figure(config: Config, records: Sequence[EvalRecord]) -> Figure:
    """Exact match by length of every task of a run, with 95 % intervals (as the paper's figure 3)."""
    figure, (axes,) = new_figure(7.5, 4.2)
    style_length_axes(axes, [r.length for r in records])
    auxiliaries = cycle(zip(COLORS, MARKERS, strict=True))
    # targets last, so that their lines lie on top
    for component in sorted(config.mixture, key=lambda c: c.role == "target"):
        points = curve(records, component.task)
        bounds = {r.length: (r.ci_low, r.ci_high) for r in records if r.task == component.task}
        low, high = ([bounds[length][end] for length in points] for end in (0, 1))
        target = component.role == "target"
        color, marker = (TARGET_COLOR, "o") if target else next(auxiliaries)
        label = f"{literal(component.task)} ({component.role}, ≤ {component.lengths[1]})"
        width = 2.2 if target else 1.4
        axes.plot(*zip(*points.items(), strict=True), color=color, marker=marker, ms=4, lw=width, label=label)
        axes.fill_between(list(points), low, high, color=color, alpha=0.15, linewidth=0)
    ends = {role: [n for _, n in training_lengths(config, role)] for role in ("target", "auxiliary")}
    mark_training_lengths(axes, max(ends["target"]), max(ends["target"] + ends["auxiliary"]))
    axes.set_ylabel("exact match")
    axes.legend(loc="lower left", fontsize=8, framealpha=0.9)
    figure.suptitle(f"{literal(config.name)}, init seed {config.seed.init}", fontsize=10)
    return figure


def mistakes_figure(config: Config, records: Sequence[EvalRecord]) -> Figure:
    """Share of wrong answers by length, cut by kind of mistake: a panel a task that has kinds."""
    kinds = mistake_kinds(records)
    tasks = [c for c in config.mixture if any(r.mistakes for r in records if r.task == c.task)]
    figure, panels = new_figure(2.8 + 4.4 * len(tasks), 3.8, len(tasks))
    style_length_axes(panels[0], [r.length for r in records])
    ends = {role: [n for _, n in training_lengths(config, role)] for role in ("target", "auxiliary")}
    for axes, component in zip(panels, tasks, strict=True):
        own = [r for r in records if r.task == component.task]
        style_length_axes(axes, [r.length for r in own])
        bottom = [0.0] * len(own)
        for kind, color, hatch in zip(kinds, cycle(COLORS), cycle(HATCHES), strict=False):
            shares = [_share(r, kind) for r in own]
            axes.bar(
                [r.length for r in own], shares, bottom=bottom,
                color=color, hatch=hatch, edgecolor="white", linewidth=0, label=literal(kind),
            )  # fmt: skip
            bottom = [low + share for low, share in zip(bottom, shares, strict=True)]
        mark_training_lengths(axes, max(ends["target"]), max(ends["target"] + ends["auxiliary"]))
        axes.set_title(f"{literal(component.task)} ({component.role})", fontsize=10, pad=16)
    panels[0].set_ylabel("share of answers that are wrong")
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper", fontsize=8)
    figure.suptitle(f"{literal(config.name)}, init seed {config.seed.init}: kinds of mistakes", fontsize=10)
    return figure


def _share(record: EvalRecord, kind: str) -> float:
    """Share of all answers that are wrong in this way, from those that were looked at."""
    seen = sum((record.mistakes or {}).values())
    return (1 - record.exact_match) * (record.mistakes or {}).get(kind, 0) / seen if seen else 0.0
