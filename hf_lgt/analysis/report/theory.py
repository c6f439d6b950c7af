"""Theory's labels beside what was measured: a table, a figure and the numbers."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING

from hf_lgt.analysis.report.causes import mean_with_interval
from hf_lgt.analysis.theory import EXTRAPOLATES, LEARNED, TheoryResult, auc_of
from hf_lgt.report.blocks import Number, Row, Table
from hf_lgt.report.canvas import AGAIN, empty_figure, optional
from hf_lgt.report.figures import COLORS, MARKERS, literal, save_figure
from hf_lgt.utils.atomic_io import atomic_directory

if TYPE_CHECKING:
    from matplotlib.figure import Figure

THEORY_FILES = {"theory.json", "theory.md"}
"""what is written, beside the figure"""
WORDS = {"yes": "predicted", "open": "open", "no": "predicted not to"}


def write_theory(results: Sequence[TheoryResult], folder: Path, *, replace: bool = False) -> list[Table]:
    """Write ``theory.json``, ``theory.md`` and ``theory.png``, whole or not at all."""
    ordered = sorted(results, key=lambda own: -fmean(own.above_chance))
    learned = [own for own in ordered if own.learned]
    tables = [_auc_table(ordered, learned), _task_table(ordered)]
    areas = {"all": auc_of(ordered), "learned": auc_of(learned)}
    data = {
        "tasks": [
            {**asdict(own), "above_chance": own.above_chance, "extrapolates": own.extrapolates}
            for own in ordered
        ],
        "auc": {name: None if area is None else asdict(area) for name, area in areas.items()},
    }
    with atomic_directory(folder, replace=replace) as draft:
        (draft / "theory.json").write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
        text = "\n\n".join(["# Theory and measurement", *(table.markdown() for table in tables)])
        (draft / "theory.md").write_text(text + "\n", encoding="utf-8")
        with optional("theory.png", AGAIN):
            save_figure(theory_figure(ordered), draft / "theory.png")
    return tables


def _auc_table(ordered: Sequence[TheoryResult], learned: Sequence[TheoryResult]) -> Table:
    rows = []
    for name, own in (("all tasks", ordered), (f"learned, {LEARNED} within", learned)):
        area = auc_of(own)
        decided = sum(result.predicted != "open" for result in own)
        if area is None:
            rows.append(Row((name, decided, None, None, None)))
            continue
        told = [f"{right} of {count}" for count, right in (area.hits, area.rejections)]
        rows.append(Row((name, decided, Number(area.value, area.low, area.high, digits=2), *told)))
    return Table(
        "auc",
        "Do the labels tell which tasks extrapolate?",
        ("tasks", "with a label", "AUC", "extrapolate, labelled so", "do not, labelled so"),
        tuple(rows),
        (
            f"A task extrapolates where exact match at twice the trained length is above {EXTRAPOLATES} of "
            "what is left above a constant answer, on the mean of its seeds. AUC with a 95 % interval "
            "(Wilson's of both shares, joined by Newcombe's method); .5 is what labels without meaning give. "
            "Tasks that no theory speaks of are left out.",
        ),
    )


def _task_table(ordered: Sequence[TheoryResult]) -> Table:
    rows = [
        Row(
            (
                own.task,
                WORDS[own.predicted],
                len(own.twice),
                mean_with_interval(own.within),
                mean_with_interval(own.twice),
                Number(own.chance, digits=2),
                "yes" if own.extrapolates else "no" if own.learned else "not learned",
            )
        )
        for own in ordered
    ]
    return Table(
        "tasks",
        "Every task, trained alone",
        ("task", "theory", "seeds", "within", "at twice the length", "constant answer", "extrapolates"),
        tuple(rows),
        ("Exact match, means over seeds with 95 % intervals.",),
    )


def theory_figure(ordered: Sequence[TheoryResult]) -> Figure:
    """A row a task: its seeds at twice the trained length, coloured by label."""
    figure = empty_figure(7.5, 1.4 + 0.27 * len(ordered))
    axes = figure.subplots()
    for kind, color, marker in zip(WORDS, COLORS, MARKERS, strict=False):
        places = [(i, own) for i, own in enumerate(ordered) if own.predicted == kind]
        for i, own in places:
            axes.plot(own.above_chance, [i] * len(own.twice), marker, ms=4, color=color, alpha=0.45)
        means = [fmean(own.above_chance) for _, own in places]
        axes.plot(means, [i for i, _ in places], marker, ms=8, color=color, label=WORDS[kind])
    names = [literal(own.task if own.learned else f"{own.task} (not learned)") for own in ordered]
    axes.set_yticks(range(len(ordered)), names, fontsize=8)
    axes.invert_yaxis()
    axes.axvline(EXTRAPOLATES, color="#888888", linewidth=1, linestyle=":")
    axes.set_xlabel("exact match at twice the trained length, above a constant answer")
    axes.grid(axis="x", color="#dddddd", linewidth=0.6)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.legend(title="theory", fontsize=8, title_fontsize=8, loc="lower right")
    return figure
