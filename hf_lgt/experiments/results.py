"""What the runs of an experiment scored, read from the runs' folders.

Arms that have no auxiliaries are measured against others' that have some, or there would be no curve that
their target could follow. The two readers differ in which: in a sweep all arms of a setting are made of one
config, and the first that has auxiliaries bounds the transfer region of all, also of an arm that trains its
target longer (`collect`); the arms of a comparison come from files of their own, which need not share lengths
or tasks, so that an arm with auxiliaries is measured by its own, and each by its own target's length
(`collect_arms`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from hf_lgt.checkpointing.run_folder import is_finished, read_run_config
from hf_lgt.config.schema import Config
from hf_lgt.evaluation.curves import (
    LEARNED,
    Regimes,
    Summary,
    curve,
    mean_curve,
    regimes,
    smallest_length,
    summarize,
    training_lengths,
)
from hf_lgt.evaluation.records import EvalRecord, RecordError, last_step, read_records
from hf_lgt.evaluation.statistics import bootstrap_interval
from hf_lgt.experiments.manifest import Entry, Manifest, grouped
from hf_lgt.experiments.plan import PlannedRun
from hf_lgt.utils.errors import ConfigError


@dataclass(frozen=True)
class SeedResult:
    """One finished run."""

    entry: Entry
    run_dir: Path
    config: Config
    records: tuple[EvalRecord, ...]
    """of all evaluations"""
    summary: Summary
    """of the last one, for the first target; measured against the group's auxiliaries, see `collect`"""
    auxiliary_curve: Mapping[int, float]
    """mean of the run's own auxiliaries, empty without any"""
    auxiliary_mean: float | None
    """mean exact match, on their own lengths, of the auxiliaries that it is measured against; None without"""
    by_step: Mapping[int, Regimes]
    """step -> the target's mean exact match within its lengths, in the transfer region and beyond"""

    @property
    def arm(self) -> str:
        """The arm's name."""
        return self.entry.arm

    @property
    def seed(self) -> int:
        """The initialisation seed."""
        return self.entry.seed

    @property
    def comparable(self) -> bool:
        """Whether gap and transfer mean anything: what was trained on the longer examples was learned.

        These are the auxiliaries, which must be learned anyway, or the target where it is trained longer.
        """
        if self.auxiliary_mean is None or self.auxiliary_mean < LEARNED:
            return False
        within = self.summary.regimes.within
        shorter = self.summary.target_length <= self.summary.auxiliary_length
        return shorter or (within is not None and within >= LEARNED)

    @property
    def reach(self) -> float | None:
        """Mean exact match of the target in the transfer region: longer than it was trained on, up to the
        longest length of the group's auxiliaries; without any, up to the longest length evaluated. It means
        the same in every arm, also where an arm has no auxiliaries or trains the target long, where gap and
        transfer do not.
        """
        return self.summary.regimes.transfer


@dataclass(frozen=True)
class SeedGroup:
    """One setting of an experiment: its runs differ in the seed alone."""

    group: str
    arm: str
    point: Mapping[str, str]
    checkpoint: str
    results: tuple[SeedResult, ...]

    @property
    def label(self) -> str:
        """The setting in words."""
        return self.results[0].entry.label

    @property
    def setting(self) -> tuple[str, tuple[tuple[str, str], ...], str]:
        """What the arms of one setting share."""
        return self.group, tuple(self.point.items()), self.checkpoint

    @property
    def curve(self) -> dict[int, tuple[float, float, float]]:
        """Length -> the target's mean exact match, lower and upper end of its 95 % interval over seeds, where
        all seeds were evaluated.
        """
        curves = [result.summary.curve for result in self.results]
        return {
            length: (mean, *bootstrap_interval([own[length] for own in curves]))
            for length, mean in mean_curve(curves).items()
        }


def collect(manifest: Manifest, folder: Path) -> list[SeedGroup]:
    """Read the finished runs of an experiment; those that are not are left out.

    The first arm of a setting that has auxiliaries is what the others are measured against: its auxiliaries'
    curve (of the same seed), and the training lengths of its target and auxiliaries, which bound the transfer
    region.

    Args:
        manifest: the experiment's.
        folder: where the manifest lies.

    Raises:
        ConfigError: with every file that cannot be read.
    """
    read = _read(manifest, folder)
    planned = _planned(manifest, folder, read)
    cells = []
    for own in grouped(manifest.runs, lambda entry: entry.cell).values():
        first = own[0]
        found = tuple(
            _result(
                entry,
                manifest.run_dir(entry, folder),
                *read[entry.id],
                _reference(entry, manifest.runs, read, planned),
            )
            for entry in own
            if entry.id in read
        )
        if found:
            cells.append(SeedGroup(first.group, first.arm, first.point, first.checkpoint, found))
    return cells


def collect_arms(runs: Sequence[PlannedRun]) -> list[SeedResult]:
    """Read the finished runs of a comparison.

    An arm without auxiliaries is measured against the auxiliaries of the first arm that has some, of the same
    seed.

    Args:
        runs: all finished.

    Raises:
        ConfigError: with every run whose records cannot be read, or lack something.
    """
    read = read_evaluations(runs)
    with_auxiliaries = [run for run in runs if training_lengths(run.config, "auxiliary")]
    results = []
    for run in runs:
        other = run
        if not training_lengths(run.config, "auxiliary"):
            other = next((other for other in with_auxiliaries if other.seed == run.seed), run)
        reference = _reference_of(other.config, read[other.run_dir])
        length = training_lengths(run.config, "target")[0][1]
        reference = dataclasses.replace(reference, target_length=length)
        results.append(_result(run.entry, run.run_dir, run.config, read[run.run_dir], reference))
    return results


def read_evaluations(runs: Sequence[PlannedRun]) -> dict[Path, list[EvalRecord]]:
    """Folder of each of a comparison's runs -> its records, the last evaluation known to be whole.

    Raises:
        ConfigError: with every file that cannot be read or whose last evaluation lacks something.
    """
    faults: list[str] = []
    read: dict[Path, list[EvalRecord]] = {}
    for run in runs:
        file = run.run_dir / "eval.jsonl"
        try:
            read[run.run_dir] = read_records(file)
        except RecordError as error:
            faults.append(str(error))
            continue
        if missing := _missing(run.config, last_step(read[run.run_dir])):
            faults.append(f"{file}: its last evaluation lacks {missing[0]} and {len(missing) - 1} more")
    if faults:
        raise ConfigError(faults)
    return read


def _missing(config: Config, records: Sequence[EvalRecord]) -> list[str]:
    """What an evaluation of a config should hold and does not, as ``task length``."""
    there = {(r.task, r.length) for r in records}
    if config.data.source == "dataset":  # which lengths it has is not known here
        return [c.task for c in config.mixture if c.task not in {task for task, _ in there}]
    return [
        f"{c.task} {length}"
        for c in config.build_mixture().components
        for length in config.eval.grid
        if c.definition.length_fault(length, c.options) is None and (c.task, length) not in there
    ]


Read = Mapping[str, tuple[Config, list[EvalRecord]]]
"""id of each finished run -> its config and records"""


def _read(manifest: Manifest, folder: Path) -> Read:
    faults: list[str] = []
    read: dict[str, tuple[Config, list[EvalRecord]]] = {}
    for entry in manifest.runs:
        run_dir = manifest.run_dir(entry, folder)
        if entry.id in read or not is_finished(run_dir):
            continue
        try:
            read[entry.id] = read_run_config(run_dir), read_records(run_dir / "eval.jsonl")
        except ConfigError as error:
            faults += [fault if str(run_dir) in fault else f"{run_dir}: {fault}" for fault in error.faults]
        except RecordError as error:
            faults.append(str(error))
    if faults:
        raise ConfigError(faults)
    return read


def _planned(manifest: Manifest, folder: Path, read: Read) -> dict[str, Config]:
    """id of each run that was begun -> its config."""
    planned = {name: config for name, (config, _) in read.items()}
    for entry in manifest.runs:
        if entry.id not in planned:
            with suppress(ConfigError):  # not begun
                planned[entry.id] = read_run_config(manifest.run_dir(entry, folder))
    return planned


@dataclass(frozen=True)
class _Reference:
    """What the runs of a setting are measured against."""

    target_length: int
    auxiliaries: Sequence[tuple[str, int]]
    """tasks and longest training lengths"""
    smallest: int
    curve: Mapping[int, float]
    """mean of the auxiliaries, of the same seed; empty where that run is not finished"""
    mean: float | None
    """mean exact match of the auxiliaries, each on its own lengths; None where `curve` is empty"""


def _reference(
    entry: Entry, runs: Sequence[Entry], read: Read, planned: Mapping[str, Config]
) -> _Reference | None:
    """None where no arm of the setting has auxiliaries.

    An arm that was begun counts before later ones that are finished, so that what the others are measured
    against does not change with the order in which runs end.
    """
    found = None
    for other in runs:
        if (other.group, other.point, other.checkpoint) != (entry.group, entry.point, entry.checkpoint):
            continue
        if other.id not in planned or (found and other.arm != found[0]):
            continue
        if not training_lengths(planned[other.id], "auxiliary"):
            continue
        records = read[other.id][1] if other.seed == entry.seed and other.id in read else []
        reference = _reference_of(planned[other.id], records)
        if found is None or reference.curve:
            found = other.arm, reference
    return found[1] if found else None


def _reference_of(config: Config, records: Sequence[EvalRecord]) -> _Reference:
    """What a run is to be measured against; `records` are its own, none where it is not finished."""
    auxiliaries = training_lengths(config, "auxiliary")
    target, smallest = training_lengths(config, "target")[0], smallest_length(config)
    if not records:
        return _Reference(target[1], auxiliaries, smallest, {}, None)
    last = last_step(records)
    against = mean_curve([curve(last, task) for task, _ in auxiliaries])
    mean = summarize(last, target, auxiliaries, smallest=smallest).auxiliary_mean
    return _Reference(target[1], auxiliaries, smallest, against, mean)


def _result(
    entry: Entry, run_dir: Path, config: Config, records: Sequence[EvalRecord], reference: _Reference | None
) -> SeedResult:
    last = last_step(records)
    target, longest = training_lengths(config, "target")[0]
    own = training_lengths(config, "auxiliary")
    own_curve = mean_curve([curve(last, task) for task, _ in own])
    if own or reference is None:
        summary = summarize(last, (target, longest), own, own_curve, smallest_length(config))
    else:
        summary = summarize(
            last,
            (target, reference.target_length),
            reference.auxiliaries,
            reference.curve,
            reference.smallest,
        )
    auxiliary_mean = summary.auxiliary_mean if own or reference is None else reference.mean
    far = config.eval.lengths[1]
    if reference is not None:
        longest, far = (
            reference.target_length,
            max((length for _, length in reference.auxiliaries), default=longest),
        )
    steps = sorted({r.step for r in records})
    by_step = {
        step: regimes(curve([r for r in records if r.step == step], target), longest, far) for step in steps
    }
    return SeedResult(
        entry=entry,
        run_dir=run_dir,
        config=config,
        records=tuple(records),
        summary=dataclasses.replace(summary, regimes=by_step[steps[-1]]),
        auxiliary_curve=own_curve,
        auxiliary_mean=auxiliary_mean,
        by_step=by_step,
    )
