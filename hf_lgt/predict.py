"""Measured transfer of pairs of tasks beside what short trainings said of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hf_lgt.analysis.prediction import Pair
from hf_lgt.comparison.manifest import read_manifest
from hf_lgt.config import Config, ConfigError
from hf_lgt.report.related import read_related
from hf_lgt.sweeps.results import Cell, collect


def find_pairs(sweep: Path, rankings: Sequence[Path]) -> list[Pair]:
    """Every pair that the sweep measured and a ranking scored.

    Measured is the exact match of the target in the transfer region beside the auxiliary, minus that of an
    arm without auxiliaries of the same group and seed, where the sweep has one.

    Args:
        sweep: folder of a sweep, each of whose groups has one target and one auxiliary.
        rankings: folders that `hf_lgt.report.related.write_related` wrote.

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
        scores |= {(target, candidate): values for candidate, values in found.items()}
    try:
        cells = collect(read_manifest(sweep), sweep)
    except ConfigError as error:
        raise ConfigError([*faults, *error.faults]) from None
    measured = {pair: cell for cell in cells if (pair := _pair(cell.results[0].config)) is not None}
    both = [pair for pair in measured if pair in scores]
    if not faults and len(both) < 3:
        known = ", ".join(f"{target} beside {other}" for target, other in measured) or "none"
        faults.append(
            f"{sweep}: fewer than 3 of its pairs of one target and one auxiliary are in --related; it "
            f"measured: {known}"
        )
    if faults:
        raise ConfigError(faults)
    alone = {cell.group: cell for cell in cells if _pair(cell.results[0].config) is None}
    return [
        Pair(*pair, _gained(measured[pair], alone.get(measured[pair].group)), scores[pair]) for pair in both
    ]


def _pair(config: Config) -> tuple[str, str] | None:
    """Target and auxiliary of a run that has one of each."""
    roles = {c.role: c.task for c in config.mixture}
    return (roles["target"], roles["auxiliary"]) if len(config.mixture) == 2 and len(roles) == 2 else None


def _gained(cell: Cell, alone: Cell | None) -> tuple[float, ...]:
    """What each seed gains by the auxiliary in the transfer region."""
    before = {} if alone is None else {own.seed: own.reach for own in alone.results}
    gained = []
    for own in cell.results:
        start = before.get(own.seed) if alone is not None else 0.0
        if own.reach is not None and start is not None:
            gained.append(own.reach - start)
    if not gained:
        raise ConfigError([f"{cell.label}: no seed was evaluated in the transfer region, with and without"])
    return tuple(gained)
