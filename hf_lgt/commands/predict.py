"""Measured gains of pairs of tasks beside what short trainings said of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hf_lgt.analysis.prediction import Pair
from hf_lgt.analysis.report.related import read_related
from hf_lgt.config.schema import Config
from hf_lgt.experiments.controls import TRANSFER
from hf_lgt.experiments.manifest import read_manifest
from hf_lgt.experiments.report.cells import GAIN, REACH, Measure, values_of
from hf_lgt.experiments.results import SeedGroup, collect
from hf_lgt.utils.errors import ConfigError

ALONE = "target_alone"
"""the ready arm that others are measured against"""


def find_pairs(sweep: Path, rankings: Sequence[Path]) -> list[Pair]:
    """Every pair that the sweep measured and a ranking scored.

    Measured is the gain of the target, or its exact match in the transfer region where the sweep has no arm
    `ALONE`.

    Args:
        sweep: folder of a sweep, each of whose groups has one target and one auxiliary.
        rankings: folders that `hf_lgt.analysis.report.related.write_related` wrote.

    Raises:
        ConfigError: with every fault of either.
    """
    scores: dict[tuple[str, str], dict[str, float | None]] = {}
    faults: list[str] = []
    for folder in rankings:
        try:
            target, found = read_related(folder)
        except ConfigError as error:
            faults += error.faults
            continue
        for candidate, values in found.items():
            if (target, candidate) in scores:
                faults.append(f"--related: {folder}: another of them ranks {candidate} for {target} too")
            scores[target, candidate] = values
    try:
        manifest = read_manifest(sweep)
        cells = collect(manifest, sweep)
    except ConfigError as error:
        raise ConfigError([*faults, *error.faults]) from None
    if manifest.axes:
        faults.append(f"{sweep}: has a grid ({', '.join(manifest.axes)}); a pair is measured in one setting")
    measured: dict[tuple[str, str], SeedGroup] = {}
    for cell in sorted(
        cells, key=lambda cell: cell.arm != TRANSFER
    ):  # else the first arm that has auxiliaries
        if (pair := _pair(cell.results[0].config)) is not None:
            measured.setdefault(pair, cell)
    both = [pair for pair in measured if pair in scores]
    if not faults and len(both) < 3:
        known = ", ".join(f"{target} beside {other}" for target, other in measured) or "none"
        faults.append(
            f"{sweep}: fewer than 3 of its pairs of one target and one auxiliary are in --related; it "
            f"measured: {known}"
        )
    if faults:
        raise ConfigError(faults)
    measure = GAIN if any(entry.arm == ALONE for entry in manifest.runs) else REACH
    return [Pair(*pair, _gained(measured[pair], measure), scores[pair]) for pair in both]


def _pair(config: Config) -> tuple[str, str] | None:
    """Target and auxiliary of a run that has one of each."""
    roles = {c.role: c.task for c in config.mixture}
    return (roles["target"], roles["auxiliary"]) if len(config.mixture) == 2 and len(roles) == 2 else None


def _gained(cell: SeedGroup, measure: Measure) -> tuple[float, ...]:
    """What is measured of each seed."""
    gained = values_of(cell, measure)
    if not gained:
        raise ConfigError([f"{cell.label}: no seed was evaluated in the transfer region, with and without"])
    return tuple(gained)
