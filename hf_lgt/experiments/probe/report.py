"""What a probe found, for people: tables, a ranking, advice, a figure with a panel a family."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

from data_builders.texts import plain
from hf_lgt.evaluation.curves import mean_curve
from hf_lgt.evaluation.statistics import holm, least_p, mean_interval, paired_difference, permutation_test
from hf_lgt.experiments.probe.answers import Missing, Probe, ProbedFamily, ProbedModel, Training
from hf_lgt.experiments.probe.subjects import ALONE, JOINT
from hf_lgt.report.blocks import Number, Picture, Row, Table, Value, shown
from hf_lgt.report.figures import COLORS, MARKERS, literal, style_length_axes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

GAINED = 0.1
"""a gain from which an auxiliary is advised, where its interval is above 0"""
PANELS = 3
"""in a row of the figure"""


def tables_of(probe: Probe, notes: Sequence[str] = ()) -> list[Table]:
    """Answers, and with several models their ranking and how they differ."""
    models = [m for m in probe.models if not m.twin and not m.reference]
    several = len(models) > 1
    if several and not shared_families(probe, models):
        notes = [*notes, "No ranking: there is no family that every model has learned."]
    made = [answer_table(probe, notes)]
    if several:
        made += [ranking_table(probe, models), model_difference_table(probe, models)]
    return [table for table in made if table.rows]


def answer_table(probe: Probe, notes: Sequence[str] = ()) -> Table:
    """A row a family and model."""
    rows = []
    for family, model in itertools.product(probe.families, probe.models):
        alone = probe.trainings.get((family.name, model.label, ALONE), ())
        joint = probe.trainings.get((family.name, model.label, JOINT), ())
        if alone or joint:
            seeds = " and ".join(map(str, sorted({len(alone), len(joint)})))
            answer = (*_answer(family, alone, joint), gain_of(probe, family, model))
            rows.append(Row((family.name, _words(model), seeds, *answer)))
    explained = (
        "Every training ends at its criterion, or at the last step (then not reached). Zero-shot: mean exact "
        "match at all lengths before training. Effective length, of trainings that reached it: the longest "
        "up to which exact match stays at the level, mean over seeds; times: the joint training's as a "
        "multiple of the trained length. "
        "Gain: exact match beyond the trained length, up to the auxiliaries', minus that of the target "
        "alone with the same seed, with its 95 % interval."
    )
    fewest = min(map(len, probe.trainings.values()), default=0)
    pilot = (f"{fewest} seed{'s' if fewest > 1 else ''}: a pilot.",) if 0 < fewest < 5 else ()
    missing = probe.missing
    told = {
        "Not run, for time": missing.not_run,
        "Failed, and not counted": missing.failed,
        "Settings of the command line": probe.changes,
    }
    left_out = tuple(f"{what}: {'; '.join(own)}." for what, own in told.items() if own)
    refused = tuple(f"{label}: not probed: {reason}" for label, reason in missing.refused.items())
    headers = ("family", "model", "seeds", "zero-shot", "steps to criterion, alone", "jointly",
               "effective length at .9, alone", "jointly", "at .5, jointly", "times the trained length",
               "gain")  # fmt: skip
    return Table(
        "answers",
        "How far each model extrapolates, alone and with auxiliaries",
        headers,
        tuple(rows),
        (explained, *pilot, *left_out, *refused, *notes),
    )


def _words(model: ProbedModel) -> str:
    return f"{model.label} (reference)" if model.reference else model.label


def _answer(family: ProbedFamily, alone: Sequence[Training], joint: Sequence[Training]) -> tuple[Value, ...]:
    before = [fmean(t.zero_shot.values()) for t in (*alone, *joint) if t.zero_shot]
    far = _mean(joint, 0.9)
    return (
        Number(fmean(before)) if before else None,
        _steps(alone),
        _steps(joint),
        _mean(alone, 0.9),
        far,
        _mean(joint, 0.5),
        None if far is None else Number(far.value / family.trained, digits=1),
    )


def _mean(own: Sequence[Training], level: float) -> Number | None:
    learned = [t.effective(level) for t in own if t.reached is not None]
    return Number(fmean(learned), digits=1) if learned else None


def _steps(own: Sequence[Training]) -> Value:
    """Mean steps of the seeds that reached the criterion, and how many did not."""
    reached = [t.reached for t in own if t.reached is not None]
    if not own:
        return None
    if not reached:
        return f"not reached in {max(t.steps for t in own)}"
    missed = len(own) - len(reached)
    return f"{fmean(reached):.0f}" + (f" ({missed} of {len(own)} not reached)" if missed else "")


def gain_of(probe: Probe, family: ProbedFamily, model: ProbedModel) -> Number | None:
    """What the auxiliaries gave, paired by seed; None where a training is missing, or neither learned."""
    alone: list[float] = []
    joint: list[float] = []
    for pair in probe.pair(family.name, model.label):
        first, second = (t.beyond(family.trained, family.far) for t in pair)
        learned = any(t.reached is not None for t in pair)
        if learned and first is not None and second is not None:
            alone.append(first)
            joint.append(second)
    if not alone:
        return None
    if len(alone) == 1:
        return Number(joint[0] - alone[0])
    difference, interval = paired_difference(joint, alone)
    return Number(difference, *interval)


def shared_families(probe: Probe, models: Sequence[ProbedModel]) -> list[ProbedFamily]:
    """The families that each of the models has learned, alone or jointly, with every seed."""

    def learned(family: ProbedFamily, model: ProbedModel) -> bool:
        pairs = probe.pair(family.name, model.label)
        return bool(pairs) and all(any(t.reached is not None for t in pair) for pair in pairs)

    return [f for f in probe.families if all(learned(f, model) for model in models)]


def extrapolation(probe: Probe, model: str, families: Sequence[ProbedFamily]) -> dict[int, float]:
    """Seed -> exact match beyond the trained length, all evaluated ones, the mean over the families of the
    better of both trainings; of the seeds that have every family.
    """
    found: dict[int, list[float]] = {}
    for family in families:
        for alone, joint in probe.pair(family.name, model):
            values = [v for t in (alone, joint) if (v := t.beyond(family.trained)) is not None]
            found.setdefault(alone.seed, []).append(max(values, default=0.0))
    return {seed: fmean(values) for seed, values in found.items() if len(values) == len(families)}


def ranked(probe: Probe, models: Sequence[ProbedModel]) -> dict[str, dict[int, float]]:
    """Model -> its `extrapolation` over the families and seeds that all have, the furthest first."""
    shared = shared_families(probe, models)
    found = {m.label: extrapolation(probe, m.label, shared) for m in models} if shared else {}
    seeds = set.intersection(*(set(reach) for reach in found.values())) if found else set()
    found = {label: {s: reach[s] for s in sorted(seeds)} for label, reach in found.items()}
    known = {label: reach for label, reach in found.items() if reach}
    return dict(sorted(known.items(), key=lambda item: -fmean(item[1].values())))


def ranking_table(probe: Probe, models: Sequence[ProbedModel]) -> Table:
    """A row a model, the furthest first."""
    rows, learned = [], ", ".join(f.name for f in shared_families(probe, models))
    for place, (label, reach) in enumerate(ranked(probe, models).items(), 1):
        values = list(reach.values())
        interval = mean_interval(values) if len(values) > 1 else (None, None)
        rows.append(Row((place, label, len(values), Number(fmean(values), *interval))))
    note = (
        "Exact match at all evaluated lengths beyond the trained one, of the better of both trainings of "
        f"each family; mean over those that every model has learned, with the seeds that all have: {learned}."
    )
    headers = ("place", "model", "seeds", "exact match beyond the trained length")
    return Table("ranking", "Which model extrapolates furthest", headers, tuple(rows), (note,))


def model_difference_table(probe: Probe, models: Sequence[ProbedModel]) -> Table:
    """Every pair of models, paired by seed."""
    reach = ranked(probe, models)
    found = []
    for first, second in itertools.combinations(reach, 2):
        pair = list(reach[first].values()), list(reach[second].values())  # of the same seeds
        if (count := len(pair[0])) > 1:
            found.append((first, second, count, paired_difference(*pair), permutation_test(*pair)))
    corrected = holm([p for *_, p in found])
    rows = [
        Row(
            (
                f"{first} minus {second}",
                n,
                Number(mean, *interval),
                Number(p),
                _verdict(first, second, interval),
            )
        )
        for (first, second, n, (mean, interval), _), p in zip(found, corrected, strict=True)
    ]
    least = f" With {found[0][2]} seeds no p can be below {least_p(found[0][2]):.3f}." if found else ""
    note = f"p: exact permutation test of the paired differences, with Holm's correction.{least}"
    headers = ("models", "seeds", "difference", "p", "in words")
    return Table("differences", "How the models differ", headers, tuple(rows), (note,))


def _verdict(first: str, second: str, interval: tuple[float, float]) -> str:
    low, high = interval
    if low > 0:
        return f"{first} extrapolates further"
    return f"{second} extrapolates further" if high < 0 else "not significant: the interval holds 0"


def advice(probe: Probe) -> Iterator[str]:
    """What follows by rule, a line a family and model that was probed here, twins aside."""
    for model in (m for m in probe.models if not m.twin and not m.reference):
        best: tuple[float, str] | None = None
        for family in probe.families:
            alone = probe.trainings.get((family.name, model.label, ALONE), ())
            joint = probe.trainings.get((family.name, model.label, JOINT), ())
            if not alone or not joint:
                continue
            gain = gain_of(probe, family, model)
            yield f"{model.label}, {family.name}: {_advised(family, alone, joint, gain)}"
            if gain is not None and gain.value >= GAINED and (best is None or gain.value > best[0]):
                best = gain.value, family.name
        if best is not None:
            yield f"{model.label}: the auxiliaries of {best[1]} gave the most ({best[0]:+.3f})"


def _advised(
    family: ProbedFamily, alone: Sequence[Training], joint: Sequence[Training], gain: Number | None
) -> str:
    by_itself = any(t.reached is not None for t in alone)
    if not by_itself and all(t.reached is None for t in joint):
        return f"not learned within {max(t.steps for t in alone)} steps; train longer before asking how far"
    helpers = ", ".join(family.auxiliaries)
    if gain is not None and gain.value >= GAINED:
        sure = gain.low is not None and gain.low > 0
        more = "" if sure else "; more seeds would tell whether that holds (--seeds 0,1,2,3,4)"
        return f"{helpers} help: exact match {gain} higher up to length {family.far}{more}"
    factor = fmean(t.effective(0.9) for t in alone) / family.trained
    if by_itself and factor > 1:
        return f"extrapolates by itself, to {factor:.1f} times the trained length"
    if not by_itself:
        return "learned with its auxiliaries alone, and not beyond the trained length"
    return f"learned, but not beyond the trained length, and {helpers} do not change that"


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
    figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=8)
    told = []
    for family, model in itertools.product(probe.families, probe.models):
        own = probe.trainings.get((family.name, model.label, JOINT), ())
        if own:
            told.append(f"{family.name}, {model.label}: {shown(_mean(own, 0.9))}")
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
                label=literal(f"{_words(model)}, {words}"),
            )  # fmt: skip
    axes.axvspan(lengths[0] - 0.5, family.trained + 0.5, color="#f1f1f1", zorder=0)
    if family.auxiliaries:
        axes.axvline(family.far + 0.5, color="#666666", ls=":", lw=1)
    axes.set_title(literal(f"{family.name} (target {family.target})"), fontsize=10)


def markdown_of(probe: Probe, notes: Sequence[str] = ()) -> str:
    """All tables and the advice, as Markdown."""
    name, version, digest = probe.battery
    lines = [f"# Battery {plain(name)}, version {version} ({digest})"]
    lines += [table.markdown() for table in tables_of(probe, notes)]
    if told := [plain(sentence) for sentence in advice(probe)]:
        lines.append("\n".join(["**What follows**", "", *(f"- {sentence}" for sentence in told)]))
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
