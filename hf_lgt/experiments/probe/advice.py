"""What follows from a probe, in words and by rule."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import fmean

from hf_lgt.experiments.probe.answers import Probe, ProbedFamily, ProbedModel, Training
from hf_lgt.experiments.probe.subjects import ALONE, JOINT
from hf_lgt.experiments.probe.tables import gain_of, mean_effective, model_difference_table, ranked
from hf_lgt.report.blocks import Number, shown

GAINED = 0.1
"""a gain from which an auxiliary is advised, where its interval is above 0"""


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
            pretraining = _beside_twin(probe, family, model, [*alone, *joint])
            yield f"{model.label}, {family.name}: {_advised(family, alone, joint, gain)}{pretraining}"
            if gain is not None and gain.value >= GAINED and (best is None or gain.value > best[0]):
                best = gain.value, family.name
        if best is not None:
            yield f"{model.label}: the auxiliaries of {best[1]} gave the most ({best[0]:+.3f})"


def _beside_twin(probe: Probe, family: ProbedFamily, model: ProbedModel, own: Sequence[Training]) -> str:
    """What is to be said where a random twin reaches as far; empty: nothing."""
    twins = [
        m.label for m in probe.models if m.twin and m.name.partition("@")[0] == model.name.partition("@")[0]
    ]
    others = [
        t
        for twin in twins
        for arm in (ALONE, JOINT)
        for t in probe.trainings.get((family.name, twin, arm), ())
    ]
    far, twin_far = (mean_effective(trainings, 0.9) for trainings in (own, others))
    if far is None or twin_far is None or twin_far.value < far.value:
        return ""
    return "; its random twin reaches as far, so it owes this to the training here"


def comparison(probe: Probe) -> Iterator[str]:
    """How several models compare, in words."""
    models = [m for m in probe.models if not m.twin and not m.reference]
    reach = ranked(probe, models) if len(models) > 1 else {}
    if len(reach) < 2:
        return
    listed = ", ".join(f"{label} {fmean(values.values()):.3f}" for label, values in reach.items())
    yield f"exact match beyond the trained lengths: {listed}"
    differences = model_difference_table(probe, models).rows
    if not differences:
        yield "one seed cannot show whether they differ: --seeds 0,1,2,3,4"
    for row in differences:
        names, _, difference, _, words = row.values
        yield f"{names}: {shown(difference)}, {words}"


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
        verb = "help" if len(family.auxiliaries) > 1 else "helps"
        return f"{helpers} {verb}: exact match {gain} higher up to length {family.far}{more}"
    factor = fmean(t.effective(0.9) for t in alone) / family.trained
    if by_itself and factor > 1:
        return f"extrapolates by itself, to {factor:.1f} times the trained length"
    if not by_itself:
        return "learned with its auxiliaries alone, and not beyond the trained length"
    return f"learned, but not beyond the trained length; training with {helpers} does not change that"
