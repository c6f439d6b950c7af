"""How far each arm extrapolates from each checkpoint, and whether that grows with pretraining."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from data_builders.reading import read_json
from hf_lgt.checkpointing.run_folder import CHECKPOINT_FILE
from hf_lgt.config.schema import Config
from hf_lgt.evaluation.curves import curve, smallest_length, training_lengths
from hf_lgt.evaluation.measures import Auxiliaries, Summary, summarize
from hf_lgt.evaluation.records import EvalRecord, last_step
from hf_lgt.evaluation.statistics import paired_difference, spearman
from hf_lgt.experiments.plan import PlannedRun
from hf_lgt.experiments.results import read_evaluations
from hf_lgt.experiments.revisions import ListedCheckpoint
from hf_lgt.utils.errors import ConfigError


@dataclass(frozen=True)
class CheckpointResult:
    """One seed of one arm from one checkpoint; exact match is that of the first target."""

    arm: str
    seed: int
    checkpoint: ListedCheckpoint
    config: Config
    summary: Summary
    """after fine-tuning, against the arm's own auxiliaries"""
    within: float | None
    """mean exact match over the evaluated lengths that the target was trained on"""
    extrapolation: float | None
    """the same over all longer ones"""
    zero_shot_curve: dict[int, float]
    """length -> exact match before the first step, empty where that was not evaluated"""
    commit: str | None
    pretraining_step: int | None
    """None where nothing tells it, and for the random twin"""
    validation_loss: float | None
    """of the pretraining, nats a token; None where it is not known, and for the random twin"""

    @property
    def zero_shot(self) -> float | None:
        """Mean exact match before the first step, over all evaluated lengths."""
        return fmean(self.zero_shot_curve.values()) if self.zero_shot_curve else None


@dataclass(frozen=True)
class Point:
    """One checkpoint of a series: its seeds, in one order for all points of a series."""

    checkpoint: ListedCheckpoint
    runs: tuple[CheckpointResult, ...]

    @property
    def validation_loss(self) -> float | None:
        """Nats a token, the same for all seeds; None if not known."""
        return next((r.validation_loss for r in self.runs if r.validation_loss is not None), None)

    def known(self, value: Callable[[CheckpointResult], float | None]) -> list[float]:
        """One number of every seed, without those that are not known."""
        return [v for v in map(value, self.runs) if v is not None]


@dataclass(frozen=True)
class CheckpointSeries:
    """One arm from all checkpoints of one repository."""

    arm: str
    name_or_path: str
    twin: Point | None
    points: tuple[Point, ...]
    """by pretraining step; as listed where the step of one is not known"""
    positions: tuple[int, ...]
    """pretraining step of each point, or 1, 2, ... where the step of one is not known"""
    steps_known: bool

    @property
    def every(self) -> list[Point]:
        """The twin, if any, then the points."""
        return [*([self.twin] if self.twin else []), *self.points]

    @property
    def target(self) -> tuple[str, int]:
        """The first target and its longest training length."""
        summary = self.points[0].runs[0].summary
        return summary.target, summary.target_length

    @property
    def trends(self) -> list[float]:
        """Spearman's correlation of pretraining (step, or order) and extrapolation, one a seed.

        Within a seed, because seeds are runs over the same checkpoints: pooled, their differences would
        hide a growth that each of them shows. Seeds whose checkpoints all extrapolate alike, and all
        where there is only one checkpoint, have none.
        """
        pairs: dict[int, list[tuple[float, float]]] = {}
        for position, point in zip(self.positions, self.points, strict=True):
            for run in point.runs:
                if run.extrapolation is not None:
                    pairs.setdefault(run.seed, []).append((float(position), run.extrapolation))
        found = [spearman([x for x, _ in seed], [y for _, y in seed]) for seed in pairs.values()]
        return [value for value in found if value is not None]

    @property
    def trend(self) -> float | None:
        """Mean of `trends`, None without any."""
        return fmean(self.trends) if self.trends else None

    @property
    def measured(self) -> bool:
        """Whether any length beyond the training length was evaluated."""
        return any(run.extrapolation is not None for point in self.every for run in point.runs)

    def gain(self, point: Point) -> list[float]:
        """Extrapolation minus the twin's, seed by seed; empty without a twin."""
        return [a - b for a, b in self._pairs(point)]

    def difference(self, point: Point) -> tuple[float, tuple[float, float]] | None:
        """Mean of `gain` with its 95 % interval; None without a twin."""
        pairs = self._pairs(point)
        return paired_difference([a for a, _ in pairs], [b for _, b in pairs]) if pairs else None

    def _pairs(self, point: Point) -> list[tuple[float, float]]:
        if self.twin is None or point is self.twin:
            return []
        of_twin = {run.seed: run.extrapolation for run in self.twin.runs}
        both = [(run.extrapolation, of_twin.get(run.seed)) for run in point.runs]
        return [(a, b) for a, b in both if a is not None and b is not None]


def collect_checkpoints(planned: Sequence[PlannedRun]) -> list[CheckpointResult]:
    """Read what every run scored and what it had loaded.

    Args:
        planned: of a comparison with checkpoints, all finished.

    Raises:
        ConfigError: with every file that cannot be read.
    """
    faults: list[str] = []
    loaded: list[dict[str, Any]] = []
    try:
        read = read_evaluations(planned)
    except ConfigError as error:
        faults += error.faults
    for item in planned:
        try:
            loaded.append(_read_loaded(item.run_dir / CHECKPOINT_FILE))
        except ConfigError as error:
            faults += error.faults
    if faults:
        raise ConfigError(faults)
    return [_result(item, read[item.run_dir], about) for item, about in zip(planned, loaded, strict=True)]


def _result(item: PlannedRun, records: Sequence[EvalRecord], loaded: dict[str, Any]) -> CheckpointResult:
    checkpoint, config = item.checkpoint, item.config
    assert checkpoint is not None
    target = training_lengths(config, "target")[0]
    auxiliaries = training_lengths(config, "auxiliary")
    last = last_step(records)
    summary = summarize(last, target, Auxiliaries.of(last, auxiliaries), smallest_length(config))
    first, longest = next(c.lengths for c in config.mixture if c.role == "target")
    within = [v for length, v in summary.curve.items() if first <= length <= longest]
    beyond = [v for length, v in summary.curve.items() if length > longest]
    # the twin has nothing of what was learned there
    about = {} if checkpoint.random else loaded.get("pretraining") or {}
    step = _number(about.get("step"))
    commit = loaded.get("commit")
    return CheckpointResult(
        arm=item.arm,
        seed=item.seed,
        checkpoint=checkpoint,
        config=config,
        summary=summary,
        within=fmean(within) if within else None,
        extrapolation=fmean(beyond) if beyond else None,
        zero_shot_curve=curve([r for r in records if r.step == 0], target[0]),
        commit=commit if isinstance(commit, str) else None,
        pretraining_step=None if checkpoint.random else _step(step, checkpoint.revision),
        validation_loss=_number(about.get("validation_loss")),
    )


def _read_loaded(path: Path) -> dict[str, Any]:
    """A run's ``checkpoint.json``, empty where there is none."""
    try:
        data = read_json(path)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ConfigError([f"{path}: {error.strerror}"]) from None
    if not isinstance(data.get("pretraining") or {}, dict):
        raise ConfigError([f"{path}: must say what was loaded: name_or_path, revision, commit, pretraining"])
    return data


def _number(value: Any) -> float | None:
    """A finite number, None for anything else: others write ``pretraining.json`` too."""
    return float(value) if type(value) in (int, float) and math.isfinite(value) else None


def _step(recorded: float | None, revision: str) -> int | None:
    return int(recorded) if recorded is not None and recorded >= 0 else pretraining_step_of(revision)


def pretraining_step_of(revision: str) -> int | None:
    """The pretraining step that a revision's name tells, None if it tells none.

    It is the last number after the word step, else the last number; a commit's hash tells none.

    >>> names = ("step-160000", "stage1-step40000-tokens84B", "v1-700", "main")
    >>> [pretraining_step_of(name) for name in names]
    [160000, 40000, 700, None]
    """
    if re.fullmatch(r"[0-9a-f]{7,40}", revision) and not revision.isdecimal():
        return None
    found = re.findall(r"step[-_ ]?([0-9]{1,18})", revision.lower()) or re.findall("[0-9]{1,18}", revision)
    return int(found[-1]) if found else None


def checkpoint_series(results: Sequence[CheckpointResult]) -> list[CheckpointSeries]:
    """The results by arm and repository, each with its checkpoints in the order of pretraining."""
    groups: dict[tuple[str, str], dict[ListedCheckpoint, list[CheckpointResult]]] = {}
    for r in results:
        groups.setdefault((r.arm, r.checkpoint.name_or_path), {}).setdefault(r.checkpoint, []).append(r)
    made = []
    for (arm, name_or_path), members in groups.items():
        every = [Point(checkpoint, tuple(runs)) for checkpoint, runs in members.items()]
        twin = next((p for p in every if p.checkpoint.random), None)
        points = [p for p in every if not p.checkpoint.random]
        steps = [p.runs[0].pretraining_step for p in points]
        known = [step for step in steps if step is not None]
        steps_known = len(known) == len(points)
        if steps_known:
            points = [p for _, p in sorted(zip(known, points, strict=True), key=lambda pair: pair[0])]
        positions = sorted(known) if steps_known else range(1, len(points) + 1)
        series = CheckpointSeries(arm, name_or_path, twin, tuple(points), tuple(positions), steps_known)
        made.append(series)
    return made
