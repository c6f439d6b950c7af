"""What a sweep over tasks, each trained alone, measured of every task that theory may speak of."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from hf_lgt.analysis.theory import TheoryResult, theory_result
from hf_lgt.evaluation.records import last_step
from hf_lgt.experiments.manifest import read_manifest
from hf_lgt.experiments.results import collect
from hf_lgt.utils.errors import ConfigError


def find_tasks(sweep: Path) -> tuple[list[TheoryResult], list[str]]:
    """Every task with a finished run, and the groups without any.

    Raises:
        ConfigError: a run is not of one task alone, or a task has several settings, or none is finished.
    """
    manifest = read_manifest(sweep)
    groups = collect(manifest, sweep)
    try:
        results = [theory_result([(own.config, last_step(own.records)) for own in g.results]) for g in groups]
    except ValueError as error:
        raise ConfigError([f"{sweep}: {error}"]) from None
    if twice := [name for name, count in Counter(own.task for own in results).items() if count > 1]:
        raise ConfigError([f"{sweep}: has several settings of {', '.join(twice)}; a task counts once"])
    if not results:
        raise ConfigError([f"{sweep}: no run of it is finished"])
    return results, sorted({entry.group for entry in manifest.runs} - {group.group for group in groups})
