"""The runs that are looked into, what was found in each, and how it goes with the generalization gap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from hf_lgt.analysis.maps import MEASURES, TaskMaps, target_differences
from hf_lgt.checkpointing.checkpoints import list_checkpoints
from hf_lgt.checkpointing.run_folder import is_finished, read_run_config
from hf_lgt.config.consent import Consent
from hf_lgt.config.schema import Config
from hf_lgt.evaluation.curves import smallest_length, training_lengths
from hf_lgt.evaluation.measures import Auxiliaries, summarize
from hf_lgt.evaluation.records import RecordError, grouped_by_step, read_records, steps_taken
from hf_lgt.evaluation.statistics import spearman, spearman_interval
from hf_lgt.utils.errors import ConfigError


@dataclass(frozen=True)
class AnalysisOptions:
    """What is looked at."""

    tasks: tuple[str, ...] | None = None
    """None: all of the run's"""
    lengths: tuple[int, ...] | None = None
    """None: see `usual_lengths`, or `long_lengths` where `long` is set"""
    long: bool = False
    """only lengths beyond those that the target was trained on"""
    last: bool = False
    """the last weights alone, not every checkpoint"""
    examples: int = 256
    """test examples a task and length"""
    batch_tokens: int = 65_536
    consent: Consent = field(default_factory=Consent)
    """to code and pickles that come with the models"""


@dataclass(frozen=True, eq=False)
class AnalyzedRun:
    """A run to look into."""

    run_dir: Path
    config: Config
    states: tuple[tuple[int, Path], ...]
    """(step, folder of the weights)"""
    tasks: tuple[str, ...]
    lengths: tuple[int, ...]

    @property
    def label(self) -> str:
        """Name and seed."""
        return f"{self.run_dir.parent.name}/{self.run_dir.name}"

    @property
    def cells(self) -> list[tuple[str, int]]:
        """(task, length) of what can be looked at."""
        lengths = {c.task: c for c in self.config.build_mixture().components}
        return [
            (task, length)
            for task in self.tasks
            for length in self.lengths
            if lengths[task].definition.length_fault(length, lengths[task].options) is None
        ]


@dataclass
class HeadAnalysis:
    """What was found in one run."""

    subject: AnalyzedRun
    maps: dict[int, list[TaskMaps]] = field(default_factory=dict)
    """step -> of every task and length"""
    gaps: dict[int, float | None] = field(default_factory=dict)
    """step -> the generalization gap of the run's own evaluation, None where there is none"""

    @cached_property
    def differences(self) -> dict[int, dict[int, dict[str, float]]]:
        """Step -> length -> how far the maps of target and auxiliaries differ, by measure."""
        return {step: dict(target_differences(maps)) for step, maps in self.maps.items()}


def find_subjects(paths: Sequence[str | Path], wanted: AnalysisOptions) -> list[AnalyzedRun]:
    """The runs that a user names, checked.

    Args:
        paths: folders of runs.
        wanted: what to look at.

    Raises:
        ConfigError: with all that is wrong: no run, no checkpoint, a task or a length that a run does not
            have.
    """
    subjects, faults = [], []
    for path in dict.fromkeys(Path(path).resolve() for path in paths):
        try:
            subjects.append(_subject(path, wanted))
        except ConfigError as error:
            faults += error.faults
    if faults:
        raise ConfigError(faults)
    return subjects


def _subject(path: Path, wanted: AnalysisOptions) -> AnalyzedRun:
    config = read_run_config(path)
    found = list_checkpoints(path)
    if wanted.last:
        end = [(steps_taken(path, config.train.steps), path / "model")] if is_finished(path) else found[-1:]
        if not end:
            raise ConfigError([f"{path} is not finished and has no checkpoints: nothing to look into yet"])
        found = end
    elif not found:
        said = (
            "--checkpoints last looks into its model/" if is_finished(path) else "it is not finished either"
        )
        raise ConfigError(
            [f"{path} has no checkpoints (train.save_every is {config.train.save_every or 'null'}); {said}"]
        )
    have = [c.task for c in config.mixture]
    tasks = wanted.tasks or tuple(have)
    if unknown := [task for task in tasks if task not in have]:
        raise ConfigError(
            [f"--tasks: {path} was not trained on {', '.join(unknown)}; it has {', '.join(have)}"]
        )
    if config.data.source != "generated":
        raise ConfigError(
            [f"{path} was trained on a dataset; heads can be looked into for generated tasks alone"]
        )
    lengths = wanted.lengths or (long_lengths if wanted.long else usual_lengths)(config)
    subject = AnalyzedRun(path, config, tuple(found), tasks, lengths)
    for length in subject.lengths:
        if not any(own == length for _, own in subject.cells):
            raise ConfigError([f"--lengths: none of {', '.join(tasks)} has length {length}"])
    return subject


def usual_lengths(config: Config) -> tuple[int, ...]:
    """The target's longest training length, the auxiliaries' longest, and the length halfway."""
    (_, first), *_ = training_lengths(config, "target")
    last = max((length for _, length in training_lengths(config, "auxiliary")), default=first)
    return tuple(sorted({first, (first + last) // 2, last}))


def long_lengths(config: Config) -> tuple[int, ...]:
    """The transfer region: longer than the target was trained on, up to the auxiliaries' longest.

    Raises:
        ConfigError: there is none.
    """
    (_, first), *_ = training_lengths(config, "target")
    last = max((length for _, length in training_lengths(config, "auxiliary")), default=first)
    if last <= first:
        fault = f"{config.name} has no auxiliary that is trained longer than its target; give lengths"
        raise ConfigError([f"--lengths: {fault}"])
    return tuple(range(first + 1, last + 1))


def gaps_of(subject: AnalyzedRun) -> dict[int, float | None]:
    """Step -> the first target's generalization gap, of the evaluations that the run made."""
    try:
        records = read_records(subject.run_dir / "eval.jsonl")
    except (OSError, RecordError):
        return {}
    target, *_ = training_lengths(subject.config, "target")
    auxiliaries = training_lengths(subject.config, "auxiliary")
    if not auxiliaries:
        return {}
    smallest = smallest_length(subject.config)
    return {
        step: summarize(own, target, Auxiliaries.of(own, auxiliaries), smallest).gap
        for step, own in grouped_by_step(records).items()
    }


@dataclass(frozen=True)
class Correlation:
    """How a measure goes with the gap, over checkpoints and seeds."""

    measure: str
    length: int
    rho: float | None
    """Spearman's; None where one of the two does not change"""
    interval: tuple[float, float] | None
    """95 %, whole runs drawn; None for fewer than three runs"""
    points: int
    """checkpoints of all runs that have a gap"""


def correlations(found: Sequence[HeadAnalysis]) -> list[Correlation]:
    """Rank correlation of each measure at each length with the gap."""
    made = []
    for length in dict.fromkeys(n for own in found for n in own.subject.lengths):
        for measure in MEASURES:
            points = [
                (own.differences[step][length][measure], gap, own.subject.label)
                for own in found
                for step, gap in own.gaps.items()
                if gap is not None and length in own.differences[step]
            ]
            if len(points) < 3:
                continue
            values, gaps, runs = map(list, zip(*points, strict=True))
            rho, interval = spearman(values, gaps), spearman_interval(values, gaps, runs)
            made.append(Correlation(measure, length, rho, interval, len(points)))
    return made
