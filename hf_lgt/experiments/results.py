"""What the runs of an experiment scored, read from the runs' folders.

What "the transfer region" is must mean the same in every arm of a setting, or their numbers could not be
compared. So the first arm that has auxiliaries says it for all arms with its target task: also for one
without auxiliaries, and for one that trains its target longer.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from hf_lgt.checkpointing.run_folder import is_finished, read_run_config, trained_tokens
from hf_lgt.config.schema import Config
from hf_lgt.evaluation.criterion import Criterion
from hf_lgt.evaluation.curves import (
    Regimes,
    curve,
    regimes,
    smallest_length,
    training_lengths,
)
from hf_lgt.evaluation.measures import Auxiliaries, Summary, gain, recovered_fraction, summarize
from hf_lgt.evaluation.records import EvalRecord, RecordError, grouped_by_step, last_step, read_records
from hf_lgt.experiments.manifest import Entry, Manifest, grouped
from hf_lgt.experiments.plan import PlannedRun
from hf_lgt.utils.errors import ConfigError

FEWEST_EVALUATIONS = 3
"""in the second half of training, whose changes are reported"""


@dataclass(frozen=True)
class SeedResult:
    """One finished run."""

    entry: Entry
    config: Config
    records: tuple[EvalRecord, ...]
    """of all evaluations; none where the result was read from a file of numbers"""
    summary: Summary
    """of the last one, for the first target"""
    auxiliary_curve: Mapping[int, float]
    """mean of the run's own auxiliaries, empty without any"""
    by_step: Mapping[int, Regimes]
    """step -> the target's mean exact match within its lengths, in the transfer region and beyond"""
    alone: float | None = None
    """reach of the target alone with this seed; None for that itself, and where it was not run"""
    recovered: float | None = None
    """recovered fraction, None also where no arm trains the target on the long lengths"""
    reached: int | None = None
    """step at which ``train.until`` was met; None where it was not, or asks for nothing"""
    tokens: int | None = None
    """that it was trained on, without padding; None where not known"""

    @property
    def arm(self) -> str:
        """The arm's name."""
        return self.entry.arm

    @property
    def seed(self) -> int:
        """Of initialisation and data."""
        return self.entry.seed

    @property
    def gain(self) -> float | None:
        """See `hf_lgt.evaluation.measures`."""
        return gain(self.reach, self.alone)

    @property
    def reach(self) -> float | None:
        """Mean exact match of the target in the transfer region; without any auxiliaries in its setting, at
        all lengths beyond those that it was trained on.
        """
        return self.summary.reach

    def changes(self, regime: str) -> list[float]:
        """Changes of exact match from one evaluation to the next, in the second half of training.

        Args:
            regime: a field of `Regimes`.

        Returns:
            None at all where the regime is missing or there are fewer than `FEWEST_EVALUATIONS` such
            evaluations.
        """
        last = max(self.by_step)
        values = [getattr(found, regime) for step, found in self.by_step.items() if step >= last / 2]
        if len(values) < FEWEST_EVALUATIONS or None in values:
            return []
        return [after - before for before, after in pairwise(values)]


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


def collect(manifest: Manifest, folder: Path) -> list[SeedGroup]:
    """Read the finished runs of an experiment; those that are not are left out.

    Args:
        manifest: the experiment's.
        folder: where the manifest lies.

    Raises:
        ConfigError: with every file that cannot be read.
    """
    read = _read(manifest, folder)
    planned = _planned(manifest, folder, read)
    results = []
    for entry in manifest.runs:
        if entry.id in read:
            config, records = read[entry.id]
            reference = _reference(entry, config, manifest.runs, read, planned)
            result = _result(entry, config, records, reference)
            results.append(
                dataclasses.replace(result, tokens=trained_tokens(manifest.run_dir(entry, folder)))
            )
    return seed_groups(results)


def seed_groups(results: Sequence[SeedResult]) -> list[SeedGroup]:
    """Results by setting, each with what it gains over the target alone with the same seed."""
    settings = grouped(results, lambda r: (r.entry.group, tuple(r.entry.point.items()), r.entry.checkpoint))
    with_gains = {id(r): _with_gains(r, own) for own in settings.values() for r in own}
    cells = grouped([with_gains[id(r)] for r in results], lambda r: r.entry.cell)
    return [
        SeedGroup(own[0].entry.group, own[0].arm, own[0].entry.point, own[0].entry.checkpoint, tuple(own))
        for own in cells.values()
    ]


def _with_gains(result: SeedResult, setting: Sequence[SeedResult]) -> SeedResult:
    """The result with gain and recovered fraction, from the other arms of its setting."""
    alone = _trained_alone(result, setting, result.summary.target_length)
    long = _trained_alone(result, setting, result.summary.auxiliary_length)
    if alone is None or alone.arm == result.arm:
        return result
    return dataclasses.replace(
        result,
        alone=alone.reach,
        recovered=None
        if long is None or long.arm == result.arm
        else recovered_fraction(result.reach, alone.reach, long.reach),
    )


def _trained_alone(result: SeedResult, setting: Sequence[SeedResult], longest: int) -> SeedResult | None:
    """The run, of the same seed, of the first arm that trains the target alone up to a length.

    An arm that starts elsewhere, as a random twin does, is none: the difference to it is not the tasks'.
    """
    arm, start = None, _start(result.config)
    for other in setting:
        targets = training_lengths(other.config, "target")
        if _start(other.config) != start:
            continue
        if targets[0] != (result.summary.target, longest) or training_lengths(other.config, "auxiliary"):
            continue
        arm = arm or other.arm
        if other.arm == arm and other.seed == result.seed:
            return other
    return None


def _start(config: Config) -> tuple[object, ...]:
    """The weights that a run starts from, and which of them it trains."""
    model = config.model
    return model.init, model.name_or_path, model.revision, model.gguf_file, config.peft


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
    auxiliaries: Auxiliaries
    smallest: int


def _reference(
    entry: Entry, config: Config, runs: Sequence[Entry], read: Read, planned: Mapping[str, Config]
) -> _Reference | None:
    """None where no arm of the setting that has this target has auxiliaries.

    An arm that was begun counts before later ones that are finished, so that what the others are measured
    against does not change with the order in which runs end.
    """
    task, found = training_lengths(config, "target")[0][0], None
    for other in runs:
        if (other.group, other.point, other.checkpoint) != (entry.group, entry.point, entry.checkpoint):
            continue
        if other.id not in planned or (found and other.arm != found[0]):
            continue
        own = planned[other.id]
        if not training_lengths(own, "auxiliary") or training_lengths(own, "target")[0][0] != task:
            continue
        records = read[other.id][1] if other.seed == entry.seed and other.id in read else []
        reference = _reference_of(own, records)
        if found is None or reference.auxiliaries.curve:
            found = other.arm, reference
    return found[1] if found else None


def _reference_of(config: Config, records: Sequence[EvalRecord]) -> _Reference:
    """What a run is to be measured against; `records` are its own, none where it is not finished."""
    auxiliaries = Auxiliaries.of(last_step(records), training_lengths(config, "auxiliary"))
    return _Reference(training_lengths(config, "target")[0][1], auxiliaries, smallest_length(config))


def _result(
    entry: Entry, config: Config, records: Sequence[EvalRecord], reference: _Reference | None
) -> SeedResult:
    own = _reference_of(config, records)
    task = training_lengths(config, "target")[0][0]
    given = reference or own
    # an arm's own auxiliaries, where it has some, are those that its target could follow
    auxiliaries = own.auxiliaries if own.auxiliaries.lengths else given.auxiliaries
    summary = summarize(last_step(records), (task, given.target_length), auxiliaries, given.smallest)
    far = given.auxiliaries.longest or config.eval.lengths[1]
    evaluations, criterion = grouped_by_step(records), Criterion.of(config)
    by_step = {
        step: regimes(curve(found, task), given.target_length, far)
        for step, found in sorted(evaluations.items())
    }
    return SeedResult(
        entry=entry,
        config=config,
        records=tuple(records),
        summary=dataclasses.replace(summary, regimes=list(by_step.values())[-1]),
        auxiliary_curve=own.auxiliaries.curve,
        by_step=by_step,
        reached=criterion.reached(evaluations) if criterion else None,
    )
