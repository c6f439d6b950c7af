"""What a probe found, for people: in words, tables, and a figure with a panel a family."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from data_builders.texts import plain
from hf_lgt.evaluation.curves import mean_curve
from hf_lgt.experiments.probe.advice import advice, comparison
from hf_lgt.experiments.probe.answers import Missing, Probe, ProbedFamily
from hf_lgt.experiments.probe.subjects import ALONE, JOINT
from hf_lgt.experiments.probe.tables import answer_table, mean_effective, tables_of, words_of
from hf_lgt.report.blocks import Picture, Row, Table, shown
from hf_lgt.report.figures import COLORS, MARKERS, literal, style_length_axes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PANELS = 3
"""in a row of the figure"""


def short_table(probe: Probe) -> Table:
    """The answers in words, a row each."""
    rows = tuple(Row((sentence,)) for sentence in (*comparison(probe), *advice(probe)))
    return Table("short", "In short", ("answer",), rows)


def picture_of(probe: Probe) -> Picture:
    """A panel a family: exact match by length, a colour a model, alone dashed and jointly drawn through."""
    from hf_lgt.report.canvas import empty_figure

    count = len(probe.families)
    columns = min(PANELS, count)
    rows = -(-count // columns)
    figure: Figure = empty_figure(1.0 + 3.7 * columns, 0.9 + 2.9 * rows)
    axes = figure.subplots(rows, columns, sharey=True, squeeze=False)
    for panel in list(axes.flat)[count:]:
        panel.set_axis_off()
    for family, panel in zip(probe.families, axes.flat, strict=False):
        _draw(probe, family, panel)
    axes.flat[0].set_ylabel("exact match")
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=8, handlelength=4)
    told = []
    for family, model in itertools.product(probe.families, probe.models):
        own = probe.trainings.get((family.name, model.label, JOINT), ())
        if own:
            told.append(f"{family.name}, {model.label}: {shown(mean_effective(own, 0.9))}")
    alt = f"Line charts, a panel a family. Effective length at .9 jointly: {'; '.join(told)}."
    return Picture("probe", "Exact match by length of every family", alt, figure)


def _draw(probe: Probe, family: ProbedFamily, axes: Any) -> None:
    lengths = sorted({n for (name, *_), own in probe.trainings.items() if name == family.name
                      for t in own for n in t.curve})  # fmt: skip
    style_length_axes(axes, lengths)
    for i, model in enumerate(probe.models):
        color, marker = COLORS[i % len(COLORS)], MARKERS[i % len(MARKERS)]
        for arm, style, words in ((JOINT, "-", "jointly"), (ALONE, "--", "alone")):
            own = mean_curve([t.curve for t in probe.trainings.get((family.name, model.label, arm), ())])
            axes.plot(
                list(own), list(own.values()), color=color, ls=style, marker=marker, ms=3.5, lw=1.6,
                label=literal(f"{words_of(model)}, {words}"),
            )  # fmt: skip
    axes.axvspan(lengths[0] - 0.5, family.trained + 0.5, color="#f1f1f1", zorder=0)
    if family.auxiliaries:
        axes.axvline(family.far + 0.5, color="#666666", ls=":", lw=1)
    axes.set_title(literal(f"{family.name} (target {family.target})"), fontsize=10)


def markdown_of(probe: Probe, notes: Sequence[str] = ()) -> str:
    """All tables and the advice, as Markdown."""
    name, version, digest = probe.battery
    lines = [f"# Battery {plain(name)}, version {version} ({digest})"]
    if told := [plain(sentence) for sentence in (*comparison(probe), *advice(probe))]:
        lines.append("\n".join(["**In short**", "", *(f"- {sentence}" for sentence in told)]))
    lines += [table.markdown() for table in tables_of(probe, notes)]
    return "\n\n".join(lines) + "\n"


def card_section(probe: Probe, label: str) -> str:
    """A section for the card of a model that was probed.

    Args:
        probe: what was found.
        label: of the model.
    """
    name, version, digest = probe.battery
    models = tuple(m for m in probe.models if m.label == label)
    trainings = {key: own for key, own in probe.trainings.items() if key[1] == label}
    own = dataclasses.replace(probe, models=models, trainings=trainings, missing=Missing())
    table = answer_table(own)
    about = (
        f"Short trainings of hf_lgt's battery {plain(name)}, version {version} ({digest}), recipes/probe.py."
    )
    return "\n\n".join(["## Length extrapolation", about, table.markdown()]) + "\n"
