"""Several arms over several seeds: plan, run in parallel processes, collect.

A comparison is a YAML file that names its arms, each a config file beside it::

    name: demo
    arms: [transfer.yaml, target_alone.yaml, control.yaml]
    seeds: [0, 1, 2, 3, 4]
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_builders.registry import unknown
from hf_lgt import yaml12
from hf_lgt.config import NAME, Config, ConfigError, load_config
from hf_lgt.data import open_data
from hf_lgt.evaluation.curves import Summary, curve, mean_curve, smallest_length, summarize, training_lengths
from hf_lgt.evaluation.records import EvalRecord, RecordError, last_step, read_records
from hf_lgt.folders import is_finished, refusals


@dataclass(frozen=True)
class Comparison:
    """What is compared."""

    name: str
    arms: tuple[tuple[str, Path], ...]
    """name and config file of each arm"""
    seeds: tuple[int, ...]
    """initialisation seeds"""


@dataclass(frozen=True)
class Planned:
    """One run of a comparison."""

    arm: str
    seed: int
    config: Config
    arguments: tuple[str, ...]
    """what `recipes/finetune.py` is called with"""


@dataclass(frozen=True)
class ArmResult:
    """One seed of one arm."""

    arm: str
    seed: int
    config: Config
    summary: Summary
    auxiliary_curve: dict[int, float]
    """mean of the arm's own auxiliaries, empty without any"""


def load_comparison(path: str | Path) -> Comparison:
    """Read a comparison's file, or ``compare.yaml`` of a folder.

    Raises:
        ConfigError: with every fault.
    """
    path = Path(path)
    file = path / "compare.yaml" if path.is_dir() else path
    try:
        data: Any = yaml12.load(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml12.YAMLError) as error:
        reason = getattr(error, "strerror", None) or " ".join(str(error).split())
        raise ConfigError([f"comparison {file}: {reason}"]) from None
    if not isinstance(data, dict):
        raise ConfigError([f"comparison {file}: must hold the keys name, arms and seeds"])
    keys = ("name", "arms", "seeds")
    faults = [f"comparison {file}: {unknown('key', key, keys)}" for key in data if key not in keys]
    name: Any = data.get("name")
    arms: Any = data.get("arms")
    seeds: Any = data.get("seeds")
    if not isinstance(name, str) or not NAME.fullmatch(name):
        faults.append(f"name: {name!r} must be letters, digits, '.', '_', '-'")
    if not isinstance(arms, list) or not arms or not all(isinstance(a, str) for a in arms):
        faults.append(f"arms: {arms!r} must be a list of config files beside {file}")
    faults += seed_faults(seeds)
    if faults:
        raise ConfigError(faults)
    return Comparison(name, tuple((Path(a).stem, file.parent / a) for a in arms), tuple(seeds))


def seed_faults(seeds: Any) -> list[str]:
    """What is wrong with a list of seeds."""
    fine = (
        isinstance(seeds, (list, tuple))
        and seeds
        and all(type(s) is int and s >= 0 for s in seeds)
        and len(set(seeds)) == len(seeds)
    )
    return [] if fine else [f"seeds: {seeds!r} must be a list of different whole numbers >= 0"]


def plan(comparison: Comparison, overrides: Sequence[str] = ()) -> list[Planned]:
    """Every run, checked; the seeds of one arm follow each other.

    Raises:
        ConfigError: with the faults of all arms.
    """
    planned: list[Planned] = []
    faults: list[str] = []
    folders: dict[Path, str] = {}
    names = [arm for arm, _ in comparison.arms]
    for arm in dict.fromkeys(arm for arm in names if names.count(arm) > 1):
        faults.append(f"arms: {names.count(arm)} files are named {arm}; an arm is told by its file's name")
    for override in overrides:
        if override.removeprefix("--").split("=")[0] in ("seed", "seed.init"):
            faults.append("seed.init: is set by the comparison; --seeds 0,1,2 chooses the seeds")
    for arm, path in comparison.arms:
        for seed in comparison.seeds:
            every = [*overrides, f"seed.init={seed}"]
            try:
                config = load_config(path, every)
                if config.run_dir.is_dir() and any(config.run_dir.iterdir()):
                    faults += [f"{arm}: {fault}" for fault in refusals(config, finished_is_fine=True)]
            except ConfigError as error:
                faults += [f"{arm}: {fault}" for fault in error.faults]
                break
            if config.run_dir in folders:
                if folders[config.run_dir] != arm:  # else it stands there twice, which is told already
                    faults.append(f"{arm}: name: its runs would be those of {folders[config.run_dir]}")
                break
            folders[config.run_dir] = arm
            arguments = ("--config", str(path), *(f"--{override}" for override in every))
            planned.append(Planned(arm, seed, config, arguments))
    if faults:
        raise ConfigError(faults)
    return planned


def run_all(
    planned: Sequence[Planned],
    recipe: Path,
    logs: Path,
    jobs: int,
    tell: Callable[[Planned, bool], None],
) -> list[tuple[Planned, Path]]:
    """Run what is not finished, `jobs` at a time, each in its own process.

    Args:
        planned: from `plan`.
        recipe: path of ``recipes/finetune.py``.
        logs: folder for what the runs print.
        jobs: processes at a time; the cores are shared out among them.
        tell: called after each run with whether it went well.

    Returns:
        The runs that failed, with their logs.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    threads = {"OMP_NUM_THREADS": str(max(1, cores // jobs))}
    logs.mkdir(parents=True, exist_ok=True)

    def run(item: Planned) -> tuple[Planned, Path, bool]:
        log = logs / f"{item.arm}-seed-{item.seed}.log"
        with open(log, "ab") as file:
            code = subprocess.run(
                [sys.executable, str(recipe), *item.arguments],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                env={**os.environ, **threads},
                check=False,
            ).returncode
        return item, log, code == 0

    failed = []
    with ThreadPoolExecutor(jobs) as pool:
        waiting = [pool.submit(run, item) for item in planned if not is_finished(item.config.run_dir)]
        try:
            for done in as_completed(waiting):
                item, log, well = done.result()
                tell(item, well)
                if not well:
                    failed.append((item, log))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return failed


def check_data(planned: Sequence[Planned]) -> None:
    """Open the dataset of each arm, before any run is started.

    Raises:
        ConfigError: one cannot be opened, or lacks a column.
    """
    for item in {item.arm: item for item in planned}.values():
        if not is_finished(item.config.run_dir):
            try:
                open_data(item.config)
            except ConfigError as error:
                raise ConfigError([f"{item.arm}: {fault}" for fault in error.faults]) from None


def last_error(log: Path) -> str:
    """What a run said last of why it failed."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    starts = [i for i, line in enumerate(lines) if line.startswith(("error:", "Traceback"))]
    return "\n".join(f"  {line}" for line in (lines[starts[-1] :] if starts else lines[-3:])[:12])


def collect(planned: Sequence[Planned]) -> list[ArmResult]:
    """Read the last evaluation of every run.

    An arm without auxiliaries is measured against the auxiliaries of the first arm that has some,
    of the same seed: else there would be no curve that its target could follow.

    Raises:
        ConfigError: a run's records cannot be read.
    """
    faults, records = [], {}
    for item in planned:
        try:
            found = last_step(read_records(item.config.run_dir / "eval.jsonl"))
            if missing := _missing(item.config, found):
                file = item.config.run_dir / "eval.jsonl"
                faults.append(f"{file}: its last evaluation lacks {missing[0]} and {len(missing) - 1} more")
            records[item.arm, item.seed] = found
        except RecordError as error:
            faults.append(str(error))
    if faults:
        raise ConfigError(faults)
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
