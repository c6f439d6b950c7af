"""What comes of scores of relatedness: the ranking of candidates, and how well scores predict gains."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import numpy as np

from data_builders.reading import UnreadableFileError, read_json
from hf_lgt.analysis.prediction import CHOSEN, Pair, Predictor
from hf_lgt.analysis.ranking import Measured, Place, Question, rank
from hf_lgt.analysis.relatedness import SCORES
from hf_lgt.analysis.report.causes import mean_with_interval
from hf_lgt.evaluation.statistics import student_interval
from hf_lgt.report.blocks import Number, Row, Table, Value
from hf_lgt.report.canvas import AGAIN, empty_figure, optional
from hf_lgt.report.figures import COLORS, MARKERS, TARGET_COLOR, literal, save_figure
from hf_lgt.utils.atomic_io import atomic_directory
from hf_lgt.utils.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RELATED_FILES = {"related.json", "related.md"}
PREDICTION_FILES = {"prediction.json", "prediction.md"}
"""what is written, beside figures"""


def write_related(
    question: Question, measured: Sequence[Measured], by: str, folder: Path, *, replace: bool = False
) -> list[Table]:
    """Write ``related.json``, ``related.md`` and ``related.png``, whole or not at all.

    Args:
        question: what was asked.
        measured: the scores of all candidates and seeds.
        by: the score that ranks.
        folder: where.
        replace: whether an analysis that is there is replaced.
    """
    rankings = {score: rank(measured, score) for score in SCORES}
    table = _ranking_table(question, rankings, by)
    data = {
        **asdict(question),
        "by": by,
        "rankings": {
            score: [{**asdict(place), "mean": place.mean} for place in places]
            for score, places in rankings.items()
        },
        "runs": [asdict(own) for own in measured],
    }
    with atomic_directory(folder, replace=replace) as draft:
        (draft / "related.json").write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
        text = f"# Auxiliaries for {question.target}\n\n{table.markdown()}\n"
        (draft / "related.md").write_text(text, encoding="utf-8")
        with optional("related.png", AGAIN):
            save_figure(_ranking_figure(question, rankings, by), draft / "related.png")
    return [table]


def _ranking_table(question: Question, rankings: Mapping[str, Sequence[Place]], by: str) -> Table:
    order = [place.candidate for place in rankings[by]]
    order += [name for name in question.candidates if name not in order]
    rows = []
    for i, name in enumerate(order):
        own = {score: _place(places, name) for score, places in rankings.items()}
        values: list[Value] = [None if place is None else _with_interval(place) for place in own.values()]
        ranked = own[by]
        sure = None if ranked is None else Number(ranked.first, digits=2)
        rows.append(Row((i + 1 if ranked else None, name, sure, *values)))
    return Table(
        "related",
        f"Candidates for {question.target}, after {question.steps} steps beside each",
        ("rank", "candidate", "comes first", *SCORES.values()),
        tuple(rows),
        (
            f"Ranked by {SCORES[by]}, larger is better. Means over {len(question.seeds)} seeds with 95 % "
            "Student's t intervals. Comes first: in this share of draws of the seeds its mean is the best; "
            f"{100 / max(1, len(rankings[by])):.0f} % is what chance gives.",
        ),
    )


def _with_interval(place: Place) -> Number:
    """Mean of a score over seeds, with its interval where there are several; scores are from -1 to 1."""
    if len(place.by_seed) < 2:
        return Number(place.mean)
    low, high = student_interval(place.by_seed)
    return Number(place.mean, max(-1.0, low), min(1.0, high))


def _place(places: Sequence[Place], name: str) -> Place | None:
    return next((place for place in places if place.candidate == name), None)


def _ranking_figure(question: Question, rankings: Mapping[str, Sequence[Place]], by: str) -> Figure:
    order = [place.candidate for place in rankings[by]]
    order += [name for name in question.candidates if name not in order]
    figure = empty_figure(1.2 + 2.0 * len(SCORES), 1.2 + 0.35 * len(order))
    panels = figure.subplots(1, len(SCORES), squeeze=False, sharey=True)[0]
    for axes, (score, places) in zip(panels, rankings.items(), strict=True):
        for place in places:
            at = order.index(place.candidate)
            axes.plot(place.by_seed, [at] * len(place.by_seed), "o", ms=4, color=COLORS[0], alpha=0.5)
            axes.plot(place.mean, at, "D", ms=6, color=TARGET_COLOR)
        axes.set_title(SCORES[score], fontsize=8, fontweight="bold" if score == by else "normal")
        axes.grid(axis="x", color="#dddddd", linewidth=0.6)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    panels[0].set_yticks(range(len(order)), [literal(name) for name in order], fontsize=8)
    panels[0].invert_yaxis()
    figure.suptitle(literal(f"auxiliaries for {question.target}: seeds (dots), mean (diamonds)"), fontsize=9)
    return figure


def read_related(folder: Path) -> tuple[str, dict[str, dict[str, float | None]]]:
    """The target of an earlier ranking, and candidate -> score -> mean over its seeds.

    Raises:
        ConfigError: there is none, or it is damaged.
    """
    path = folder / "related.json"
    try:
        data = read_json(path)
        found: dict[str, dict[str, list[float | None]]] = {}
        for run in data["runs"]:
            if not isinstance(run["candidate"], str):
                raise ValueError("a candidate must be a task's name")
            own = found.setdefault(run["candidate"], {name: [] for name in SCORES})
            for name in SCORES:
                own[name].append(_score(run["found"]["scores"][name]))
        means = {
            candidate: {name: _mean(values) for name, values in scores.items()}
            for candidate, scores in found.items()
        }
        return str(data["target"]), means
    except UnreadableFileError as error:
        told = f"--related: {path} is no ranking that analyze.py related wrote: it {error.strerror}"
        raise ConfigError([told]) from None
    except OSError as error:
        raise ConfigError([f"--related: {path}: {error.strerror}"]) from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise ConfigError([f"--related: {path} is no ranking that analyze.py related wrote"]) from None


def _score(value: Any) -> float | None:
    """A score as it was written: a finite number, or null."""
    if value is not None and (type(value) not in (int, float) or not math.isfinite(value)):
        raise ValueError("a score must be a finite number or null")
    return None if value is None else float(value)


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known and len(known) == len(values) else None


def write_prediction(
    pairs: Sequence[Pair], predictors: Sequence[Predictor], folder: Path, *, replace: bool = False
) -> list[Table]:
    """Write ``prediction.json``, ``prediction.md`` and two figures, whole or not at all.

    Args:
        pairs: measured and scored.
        predictors: from `hf_lgt.analysis.prediction.judge`.
        folder: where.
        replace: whether an analysis that is there is replaced.
    """
    tables = [_matrix_table(pairs), _predictor_table(predictors), _within_table(predictors)]
    data = {
        "pairs": [{**asdict(pair), "mean": pair.mean} for pair in pairs],
        "predictors": [
            {**asdict(own), "within_mean": own.within_mean, "hits": own.hits} for own in predictors
        ],
    }
    with atomic_directory(folder, replace=replace) as draft:
        (draft / "prediction.json").write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
        text = "\n\n".join(["# Predicted and measured gains", *(table.markdown() for table in tables)])
        (draft / "prediction.md").write_text(text + "\n", encoding="utf-8")
        with optional("transfer.png", AGAIN):
            save_figure(_matrix_figure(pairs), draft / "transfer.png")
        with optional("scores.png", AGAIN):
            save_figure(_score_figure(pairs, predictors), draft / "scores.png")
    return tables


def _names(pairs: Sequence[Pair]) -> tuple[list[str], list[str]]:
    """Targets, and auxiliaries in the same order where they are targets too."""
    targets = list(dict.fromkeys(pair.target for pair in pairs))
    others = [name for name in dict.fromkeys(pair.auxiliary for pair in pairs) if name not in targets]
    return targets, [name for name in [*targets, *others] if any(p.auxiliary == name for p in pairs)]


def _matrix_table(pairs: Sequence[Pair]) -> Table:
    targets, auxiliaries = _names(pairs)
    found = {(pair.target, pair.auxiliary): mean_with_interval(pair.gains, least=-1.0) for pair in pairs}
    rows = [Row((target, *(found.get((target, name)) for name in auxiliaries))) for target in targets]
    return Table(
        "pairs",
        "Measured gain, rows: target, columns: auxiliary",
        ("target", *auxiliaries),
        tuple(rows),
        ("Exact match of the target in the transfer region, trained jointly with the auxiliary, minus that "
         "of the target alone with the same seed, where the sweep has it; means over seeds with 95 % "
         "intervals.",),
    )  # fmt: skip


def _predictor_table(predictors: Sequence[Predictor]) -> Table:
    rows = []
    for own in predictors:
        without = [value for value in own.without.values() if value is not None]
        low, high = own.interval or (None, None)
        rho = None if own.rho is None else Number(own.rho, low, high, digits=2)
        left = f"{min(without):.2f} to {max(without):.2f}" if without else None
        within = None if own.within_mean is None else Number(own.within_mean, digits=2)
        columns = zip(*((c.gain, c.best, c.average) for c in own.choices), strict=True)
        gained: list[Value] = [Number(fmean(values)) for values in columns]
        gained = gained or [None] * 3
        rows.append(
            Row((_called(own.score), own.pairs, rho, None if own.p is None else Number(own.p), left, within,
                 f"{own.hits} of {len(own.choices)}", *gained))
        )  # fmt: skip
    return Table(
        "predictors",
        "Which score predicts the measured gain?",
        ("score", "pairs", "Spearman", "p", "without one target", "within a target", "best one found",
         "gain of its choice", "of the best", "of all"),
        tuple(rows),
        ("Spearman over all pairs with its 95 % bootstrap interval, whole targets drawn; p: two-sided, "
         "against gains shuffled among the candidates of each target. Without one target: least and most "
         "over the target that is left out. Within a target: mean correlation over one target's candidates. "
         "The last columns: measured gain of the candidate that the score puts first, of the best one, "
         "and of all on the mean. Chosen on the others: for each target the score that does best within the "
         "other targets.",),
    )  # fmt: skip


def _called(score: str) -> str:
    return "chosen on the others" if score == CHOSEN else SCORES[score]


def _within_table(predictors: Sequence[Predictor]) -> Table:
    targets = list(dict.fromkeys(target for own in predictors for target in own.within))
    rows = []
    for own in predictors:
        values = [own.within.get(target) for target in targets]
        rows.append(Row((_called(own.score), *(None if v is None else Number(v, digits=2) for v in values))))
    return Table("within", "Spearman over the candidates of each target", ("score", *targets), tuple(rows))


def _matrix_figure(pairs: Sequence[Pair]) -> Figure:
    targets, auxiliaries = _names(pairs)
    values = np.full((len(targets), len(auxiliaries)), np.nan)
    for pair in pairs:
        values[targets.index(pair.target), auxiliaries.index(pair.auxiliary)] = pair.mean
    reach = max(0.1, float(np.nanmax(np.abs(values))))
    figure = empty_figure(2.6 + 0.95 * len(auxiliaries), 1.8 + 0.6 * len(targets))
    axes = figure.subplots()
    image = axes.imshow(values, cmap="RdBu_r", vmin=-reach, vmax=reach, aspect="auto")
    for (row, column), value in np.ndenumerate(values):
        if not np.isnan(value):
            axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=9,
                      color="white" if abs(value) > 0.6 * reach else "black")  # fmt: skip
    axes.set_xticks(range(len(auxiliaries)), [literal(n) for n in auxiliaries], rotation=25, ha="right")
    axes.set_yticks(range(len(targets)), [literal(n) for n in targets])
    axes.set_xlabel("auxiliary")
    axes.set_ylabel("target")
    figure.colorbar(image, ax=axes, label="exact match gained in the transfer region")
    return figure


def _score_figure(pairs: Sequence[Pair], predictors: Sequence[Predictor]) -> Figure:
    shown = [own for own in predictors if own.score in SCORES]
    columns = min(3, len(shown))
    rows = -(-len(shown) // columns)
    figure = empty_figure(0.8 + 3.0 * columns, 0.8 + 2.7 * rows)
    panels: Any = figure.subplots(rows, columns, squeeze=False, sharey=True)
    targets, _ = _names(pairs)
    for axes, own in zip(panels.flat, shown, strict=False):
        for i, target in enumerate(targets):
            points = [(pair.scores.get(own.score), pair.mean) for pair in pairs if pair.target == target]
            known = [(x, y) for x, y in points if x is not None]
            axes.plot([x for x, _ in known], [y for _, y in known], MARKERS[i % len(MARKERS)], ms=6,
                      color=COLORS[i % len(COLORS)], alpha=0.85, label=literal(target))  # fmt: skip
        rho = "" if own.rho is None else f", Spearman {own.rho:.2f}"
        axes.set_title(f"{SCORES[own.score]}{rho}", fontsize=9)
        axes.locator_params(axis="x", nbins=5)  # long numbers stay apart
        axes.grid(color="#dddddd", linewidth=0.6)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    for axes in list(panels.flat)[len(shown) :]:
        axes.set_visible(False)
    for row in panels:
        row[0].set_ylabel("measured gain", fontsize=9)
    panels.flat[0].legend(title="target", fontsize=7, title_fontsize=7)
    return figure
