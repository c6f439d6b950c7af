"""What the runs of a comparison's arms scored."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from hf_lgt.config.schema import Config
from hf_lgt.evaluation.curves import Summary, curve, mean_curve, smallest_length, summarize, training_lengths
from hf_lgt.evaluation.records import EvalRecord, RecordError, last_step, read_records
from hf_lgt.experiments.comparison import Planned
from hf_lgt.utils.errors import ConfigError


@dataclass(frozen=True)
class ArmResult:
    """One seed of one arm."""

    arm: str
    seed: int
    config: Config
    summary: Summary
    auxiliary_curve: dict[int, float]
    """mean of the arm's own auxiliaries, empty without any"""


def collect(planned: Sequence[Planned]) -> list[ArmResult]:
    """Read the last evaluation of every run.

    An arm without auxiliaries is measured against the auxiliaries of the first arm that has some,
    of the same seed: else there would be no curve that its target could follow.

    Raises:
        ConfigError: a run's records cannot be read.
    """
    every = [last_step(found) for found in read_evaluations(planned)]
    records = {(item.arm, item.seed): found for item, found in zip(planned, every, strict=True)}
    with_auxiliaries = [item for item in planned if training_lengths(item.config, "auxiliary")]
    results = []
    for item in planned:
        own = records[item.arm, item.seed]
        reference = item
        if item not in with_auxiliaries:
            reference = next((other for other in with_auxiliaries if other.seed == item.seed), item)
        auxiliaries = training_lengths(reference.config, "auxiliary")
        against = mean_curve([curve(records[reference.arm, item.seed], t) for t, _ in auxiliaries])
        target = training_lengths(item.config, "target")[0]
        summary = summarize(own, target, auxiliaries, against, smallest_length(reference.config))
        results.append(
            ArmResult(item.arm, item.seed, item.config, summary, against if reference is item else {})
        )
    return results


def read_evaluations(planned: Sequence[Planned]) -> list[list[EvalRecord]]:
    """Every evaluation of every run, the last one known to be whole.

    Raises:
        ConfigError: with every file that cannot be read or whose last evaluation lacks something.
    """
    faults, records = [], []
    for item in planned:
        file = item.config.run_dir / "eval.jsonl"
        try:
            found = read_records(file)
        except RecordError as error:
            faults.append(str(error))
            continue
        if missing := _missing(item.config, last_step(found)):
            faults.append(f"{file}: its last evaluation lacks {missing[0]} and {len(missing) - 1} more")
        records.append(found)
    if faults:
        raise ConfigError(faults)
    return records


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
