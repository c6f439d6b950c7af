"""The experiments and runs below a folder, as a report shows them."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from hf_lgt.checkpointing.run_folder import read_config, read_run_config
from hf_lgt.config.schema import Config
from hf_lgt.evaluation.records import EvalRecord, RecordError, last_step, read_records
from hf_lgt.experiments import manifest as manifests
from hf_lgt.experiments.manifest import Entry, Manifest, grouped, read_manifest
from hf_lgt.experiments.results import SeedGroup, SeedResult, collect
from hf_lgt.utils.errors import ConfigError

LOOSE = "single runs"
RUN_SIGNS = ("train.jsonl", "environment.json", "model")
"""what a run has beside its config, and a mere evaluation has not"""


@dataclass(frozen=True)
class Run:
    """One run, finished or not."""

    entries: tuple[Entry, ...]
    """its places in the experiment; a sweep may use a run at several"""
    run_dir: Path
    result: SeedResult | None
    """None until it is finished"""
    config: Config | None
    """None before it was begun"""
    records: tuple[EvalRecord, ...]
    """of the last evaluation"""

    @property
    def id(self) -> str:
        """Names it within its experiment."""
        return self.entries[0].id

    @property
    def step(self) -> int | None:
        """Optimizer steps before the last evaluation, None before the first."""
        return self.records[0].step if self.records else None


@dataclass(frozen=True)
class Experiment:
    """Runs that were made to be compared."""

    manifest: Manifest
    cells: tuple[SeedGroup, ...]
    """finished runs alone"""
    runs: tuple[Run, ...]

    @property
    def finished(self) -> int:
        """Runs that have come to their end."""
        return sum(run.result is not None for run in self.runs)


@dataclass(frozen=True)
class ReportedFolder:
    """All that there is to report."""

    experiments: tuple[Experiment, ...]
    left_out: tuple[Path, ...]
    """folders of another kind of training"""


def find_experiments(folder: Path) -> ReportedFolder:
    """Read every experiment (a folder with ``manifest.json``) and every other run at or below a folder.

    Runs of no manifest become an experiment of their own, `LOOSE`, in which those of one config differ in
    the seed.

    Raises:
        ConfigError: there is no such folder, no run in it, or files that cannot be read: all of them.
    """
    if not folder.is_dir():
        what = "is no folder" if os.path.lexists(folder) else "does not exist"
        raise ConfigError([f"{folder} {what}; name a folder of runs, of experiments, or one of these"])
    # so that a run is the same one however a manifest or a link names it
    folder = Path(os.path.realpath(folder))
    places, runs = _walk(folder)
    faults: list[str] = []
    read: list[tuple[Manifest, Path]] = []
    for place in places:
        try:
            read.append((read_manifest(place), place))
        except ConfigError as error:
            faults += error.faults
    taken = {_real(m.run_dir(entry, place)) for m, place in read for entry in m.runs}
    loose, left_out = _loose([run for run in runs if run not in taken], folder, faults)
    if loose.runs:
        read.append((loose, folder))
    experiments = []
    for manifest, place in read:
        try:
            experiments.append(_experiment(manifest, place))
        except ConfigError as error:
            faults += error.faults
    if faults:
        raise ConfigError(faults)
    if not any(run.config for experiment in experiments for run in experiment.runs):
        raise ConfigError([_nothing(folder, experiments, left_out)])
    return ReportedFolder(tuple(experiments), tuple(left_out))


def _nothing(folder: Path, experiments: Sequence[Experiment], left_out: Sequence[Path]) -> str:
    for experiment in experiments:
        run = experiment.runs[0] if experiment.runs else None
        if run is not None:
            return (
                f"{folder}: no run of {experiment.manifest.name} is there; its first should be {run.run_dir} "
                "(a manifest finds runs relative to its own folder: move them together)"
            )
    more = f" ({len(left_out)} of another kind of training)" if left_out else ""
    return f"{folder} holds no run{more}; name the output_dir of runs, or a folder with a {manifests.FILE}"


def _walk(folder: Path) -> tuple[list[Path], list[Path]]:
    """Folders with a manifest and folders of runs, neither looked for within a run."""
    places, runs = [], []
    for place, folders, files in os.walk(folder):
        if "config.yaml" in files and {*files, *folders} & {*RUN_SIGNS}:
            runs.append(Path(place))
            folders.clear()
            continue
        if manifests.FILE in files:
            places.append(Path(place))
        # what begins with a dot is a draft, or nothing of ours
        folders[:] = sorted(name for name in folders if not name.startswith("."))
    return places, runs


def _real(path: Path) -> Path:
    return Path(os.path.realpath(path))


def _loose(runs: Sequence[Path], folder: Path, faults: list[str]) -> tuple[Manifest, list[Path]]:
    """A manifest of runs that are in none; those of another kind of training are listed apart."""
    found: list[tuple[str, int, str, Path]] = []
    left_out = []
    for run_dir in runs:
        try:
            if "mixture" not in read_config(run_dir):
                left_out.append(run_dir)
                continue
            config = read_run_config(run_dir)
        except ConfigError as error:
            faults += _named(error, run_dir)
            continue
        where = os.path.relpath(run_dir, folder).replace(os.sep, "/")
        found.append((config.name, config.seed.init, where, run_dir))
    seen = Counter((name, seed) for name, seed, _, _ in found)
    twice = {name for (name, _), count in seen.items() if count > 1}
    entries = [
        Entry(
            id=where if where != "." else f"{name}/seed-{seed}",
            # copies of one run are no two seeds of it
            group=f"{name} in {where.rpartition('/')[0] or '.'}" if name in twice else name,
            arm="",
            seed=seed,
            folder=where,
        )
        for name, seed, where, _ in sorted(found)
    ]
    return Manifest(LOOSE, tuple(entries)), left_out


def _named(error: ConfigError, run_dir: Path) -> Iterator[str]:
    yield from (fault if str(run_dir) in fault else f"{run_dir}: {fault}" for fault in error.faults)


def _experiment(manifest: Manifest, place: Path) -> Experiment:
    cells = collect(manifest, place)
    results = {
        manifest.run_dir(result.entry, place): result for cell in reversed(cells) for result in cell.results
    }
    entries = grouped(manifest.runs, lambda entry: manifest.run_dir(entry, place))
    runs = []
    faults: list[str] = []
    for run_dir, own in entries.items():
        result = results.get(run_dir)
        if result is not None:
            records = last_step(result.records)
            runs.append(Run(tuple(own), run_dir, result, result.config, tuple(records)))
            continue
        try:
            runs.append(_unfinished(tuple(own), run_dir))
        except ConfigError as error:
            faults += error.faults
    if faults:
        raise ConfigError(faults)
    return Experiment(manifest, tuple(cells), tuple(runs))


def _unfinished(entries: tuple[Entry, ...], run_dir: Path) -> Run:
    """A run that has not come to its end, as far as it is."""
    if not (run_dir / "config.yaml").is_file():
        return Run(entries, run_dir, None, None, ())
    try:
        config = read_run_config(run_dir)
        records = read_records(run_dir / "eval.jsonl") if _has_lines(run_dir / "eval.jsonl") else []
    except ConfigError as error:
        raise ConfigError([*_named(error, run_dir)]) from None
    except RecordError as error:
        raise ConfigError([str(error)]) from None
    return Run(entries, run_dir, None, config, tuple(last_step(records)))


def _has_lines(path: Path) -> bool:
    return path.is_file() and path.stat().st_size > 0
