"""The numbers of an experiment as a JSON file, from which tables, figures and pages can be made again."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_builders.reading import UnreadableFileError, read_json
from data_builders.texts import line
from hf_lgt.checkpointing.run_folder import recorded, recorded_checkpoint, recorded_data
from hf_lgt.config.load import config_from_dict
from hf_lgt.config.schema import short
from hf_lgt.evaluation.curves import Regimes, mean_curve, training_lengths
from hf_lgt.evaluation.measures import Errors, Summary
from hf_lgt.evaluation.records import LARGEST
from hf_lgt.experiments.claims import Claim, read_claims
from hf_lgt.experiments.manifest import Entry, Manifest
from hf_lgt.experiments.report.stored_values import (
    by_number,
    count_value,
    curve_value,
    share_or_none,
    share_value,
    text_value,
)
from hf_lgt.experiments.results import SeedGroup, SeedResult, seed_groups
from hf_lgt.report.model_card import public_config
from hf_lgt.utils.errors import ConfigError

FORMAT = 2


@dataclass(frozen=True)
class Results:
    """An experiment's numbers."""

    manifest: Manifest
    cells: Sequence[SeedGroup]
    """its finished runs"""
    claims: Sequence[Claim] = ()
    kept: str = ""
    """what sets the runs apart from those that its file would make today, empty for nothing"""


def results_data(results: Results, folder: Path) -> dict[str, Any]:
    """Every setting's config, and every seed's last evaluation, as plain data.

    Args:
        results: of the experiment.
        folder: where the manifest lies.
    """
    manifest = results.manifest
    return {
        "format": FORMAT,
        "name": manifest.name,
        **({"kept": results.kept} if results.kept else {}),
        "axes": {axis: list(values) for axis, values in manifest.axes.items()},
        "claims": [dataclasses.asdict(claim) for claim in results.claims],
        "cells": [
            {
                "group": cell.group,
                "arm": cell.arm,
                "point": dict(cell.point),
                "checkpoint": cell.checkpoint,
                "config": _config(cell.results[0], manifest.run_dir(cell.results[0].entry, folder)),
                "made_with": _made_with(manifest.run_dir(cell.results[0].entry, folder)),
                "runs": [_run(r) for r in cell.results],
            }
            for cell in results.cells
        ],
    }


def _config(result: SeedResult, run_dir: Path) -> dict[str, Any]:
    """What all seeds of a setting were trained with."""
    found = public_config(result.config, recorded_data(run_dir), recorded_checkpoint(run_dir))
    del found["seed"]
    return found


def _made_with(run_dir: Path) -> dict[str, Any]:
    found = recorded(run_dir, "environment.json")
    return {key: found[key] for key in ("python", "packages", "git_commit") if key in found}


def _run(r: SeedResult) -> dict[str, Any]:
    return {
        "id": r.entry.id,
        "seed": r.seed,
        **dataclasses.asdict(r.summary),
        "gain": r.gain,
        "recovered": r.recovered,
        "reached": r.reached,
        "tokens": r.tokens,
        "auxiliary_curve": dict(r.auxiliary_curve),
        "regimes_by_step": {step: dataclasses.asdict(found) for step, found in r.by_step.items()},
    }


def read_results(path: Path) -> Results:
    """What `results_data` gave, from its file.

    Raises:
        ConfigError: the file cannot be read, or is not of this format.
    """
    try:
        data = read_json(path)
    except UnreadableFileError as error:
        raise ConfigError([f"{path} {error.strerror}"]) from None
    except OSError as error:
        raise ConfigError([f"{path}: {error.strerror}"]) from None
    if data.get("format") != FORMAT:
        raise ConfigError(
            [f"{path} is no file of results of format {FORMAT}; run the recipe that made it again"]
        )
    try:
        return _results(data)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        told = line(str(error)) if not isinstance(error, KeyError) else f"it lacks {error}"
        raise ConfigError([f"{path} is damaged ({told}); run the recipe that made it again"]) from None


def _results(data: Mapping[str, Any]) -> Results:
    """What a file says, each value of its type and range, so that tables and figures can be made of it."""
    results = [_result(cell, run) for cell in data["cells"] for run in cell["runs"]]
    axes = {text_value(key): tuple(map(text_value, values)) for key, values in data["axes"].items()}
    entries = tuple(r.entry for r in results)
    if not all(axes.values()) or any(entry.point.keys() != axes.keys() for entry in entries):
        raise ValueError("the runs do not lie on its axes")
    if len({(entry.cell, entry.seed) for entry in entries}) < len(entries):
        raise ValueError("a run is there twice")
    faults: list[str] = []
    claims = [*read_claims(data["claims"], list(axes), faults)]
    if faults:
        raise ValueError("; ".join(faults))
    cells = seed_groups(results)
    for cell in cells:
        own = [r.auxiliary_curve for r in cell.results if r.auxiliary_curve]
        if not mean_curve([r.summary.curve for r in cell.results]) or (own and not mean_curve(own)):
            raise ValueError(f"{cell.label}: the seeds share no length")
    return Results(
        Manifest(text_value(data["name"]), entries, axes), cells, claims, text_value(data.get("kept", ""))
    )


def _result(cell: Mapping[str, Any], run: Mapping[str, Any]) -> SeedResult:
    texts = {key: text_value(cell[key]) for key in ("group", "arm", "checkpoint")}
    point = {text_value(axis): text_value(value) for axis, value in cell["point"].items()}
    seed = count_value(run["seed"])
    by_step = {step: _regimes(found) for step, found in by_number(run["regimes_by_step"]).items()}
    config = config_from_dict({**cell["config"], "seed": {"init": seed, "data": seed}})
    if not by_step or not training_lengths(config, "target"):
        raise ValueError("a run without an evaluation, or without a target")
    return SeedResult(
        entry=Entry(id=text_value(run["id"]), seed=seed, folder="", point=point, **texts),
        config=config,
        records=(),
        summary=_summary(run),
        auxiliary_curve=curve_value(run["auxiliary_curve"]),
        by_step=by_step,
        **{key: None if run.get(key) is None else count_value(run[key]) for key in ("reached", "tokens")},
    )


def _summary(run: Mapping[str, Any]) -> Summary:
    normalized, reason = run["normalized_gap"], run["gap_reason"]
    if normalized is not None and (type(normalized) not in (int, float) or not 0 <= normalized <= LARGEST):
        raise ValueError(f"{short(normalized)} is no normalised gap")
    errors = run["errors"]
    lengths = ("target_length", "auxiliary_length", "effective_length_90", "effective_length_50")
    return Summary(
        target=text_value(run["target"]),
        curve=curve_value(run["curve"]),
        regimes=_regimes(run["regimes"]),
        errors=None
        if errors is None
        else Errors(**{key: share_value(value) for key, value in errors.items()}),
        auxiliaries={text_value(task): share_value(mean) for task, mean in run["auxiliaries"].items()},
        gap=share_or_none(run["gap"]),
        normalized_gap=normalized,
        gap_reason=None if reason is None else text_value(reason),
        **{key: count_value(run[key]) for key in lengths},
    )


def _regimes(data: Mapping[str, Any]) -> Regimes:
    return Regimes(**{key: share_or_none(value) for key, value in data.items()})
