"""What a probe found, as tables: the answers of every model and family, a ranking, differences of models."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from statistics import fmean

from hf_lgt.evaluation.statistics import holm, least_p, mean_interval, paired_difference, permutation_test
from hf_lgt.experiments.probe.answers import Probe, ProbedFamily, ProbedModel, Training
from hf_lgt.experiments.probe.subjects import ALONE, JOINT
from hf_lgt.report.blocks import Number, Row, Table, Value


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
            rows.append(Row((family.name, words_of(model), seeds, *answer)))
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


def words_of(model: ProbedModel) -> str:
    """What a model is called in tables and figures."""
    return f"{model.label} (reference)" if model.reference else model.label


def _answer(family: ProbedFamily, alone: Sequence[Training], joint: Sequence[Training]) -> tuple[Value, ...]:
    before = [fmean(t.zero_shot.values()) for t in (*alone, *joint) if t.zero_shot]
    far = mean_effective(joint, 0.9)
    return (
        Number(fmean(before)) if before else None,
        _steps(alone),
        _steps(joint),
        mean_effective(alone, 0.9),
        far,
        mean_effective(joint, 0.5),
        None if far is None else Number(far.value / family.trained, digits=1),
    )


def mean_effective(own: Sequence[Training], level: float) -> Number | None:
    """Mean effective length of the trainings that reached their criterion, None where none did."""
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
    reach = ranked(probe, models)
    means = {label: round(fmean(values.values()), 3) for label, values in reach.items()}
    for label, by_seed in reach.items():
        values, place = list(by_seed.values()), 1 + sum(mean > means[label] for mean in means.values())
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
