"""What an experiment leaves behind: its tables as ``.md``, its numbers as ``.json``, its figures as PNG."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_lgt.experiments.checkpoint_series import CheckpointResult, checkpoint_series
from hf_lgt.experiments.manifest import Manifest
from hf_lgt.experiments.report.checkpoint_figures import checkpoint_figure
from hf_lgt.experiments.report.checkpoint_tables import checkpoint_data, checkpoint_report
from hf_lgt.experiments.report.comparison_figures import comparison_figure
from hf_lgt.experiments.report.comparison_tables import comparison_table, success_lines
from hf_lgt.experiments.report.sweep_figures import sweep_pictures
from hf_lgt.experiments.report.sweep_tables import sweep_tables
from hf_lgt.experiments.results import SeedGroup, SeedResult
from hf_lgt.report.blocks import Table
from hf_lgt.report.canvas import optional
from hf_lgt.report.figures import save_figure
from hf_lgt.utils.atomic_io import write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def write_comparison(name: str, results: Sequence[SeedResult], folder: Path) -> tuple[str, list[Path]]:
    """Write the arms' tables and figure; gives the text and the paths of what could be drawn."""
    text = "\n".join([comparison_table(results), "", *success_lines(results)])
    rows = [{"arm": r.arm, "seed": r.seed, **asdict(r.summary)} for r in results]
    _write(folder / "comparison", text, rows)
    return text, _draw(folder, lambda: comparison_figure(name, results))


def write_checkpoint_comparison(
    name: str, results: Sequence[CheckpointResult], folder: Path
) -> tuple[str, list[Path]]:
    """As `write_comparison`, for checkpoints; the text is without single seeds."""
    series = checkpoint_series(results)
    _write(folder / "comparison", checkpoint_report(series), checkpoint_data(series))
    return checkpoint_report(series, every_seed=False), _draw(folder, lambda: checkpoint_figure(name, series))


def _draw(folder: Path, figure: Callable[[], Figure]) -> list[Path]:
    with optional("comparison.png", "the same command draws it"):
        return [save_figure(figure(), folder / "comparison.png")]
    return []


def write_sweep(
    manifest: Manifest, cells: Sequence[SeedGroup], folder: Path
) -> tuple[list[Table], list[Path]]:
    """Write tables, numbers and figures of a sweep into its folder; gives tables and the figures' paths."""
    tables = sweep_tables(manifest, cells)
    text = "\n\n".join([f"# {manifest.name}", *(table.markdown() for table in tables)])
    _write(folder / "sweep", text, sweep_data(manifest, cells))
    figures = []
    with optional("figures", again := "the same command draws them"):
        for picture in sweep_pictures(manifest, cells):
            with optional(name := f"{picture.name}.png", again):
                figures.append(save_figure(picture.figure, folder / name))
    return tables, figures


def _write(path: Path, text: str, data: Any) -> None:
    write_text(path.with_name(f"{path.name}.md"), text + "\n")
    write_text(path.with_name(f"{path.name}.json"), json.dumps(data, indent=1) + "\n")


def sweep_data(manifest: Manifest, cells: Sequence[SeedGroup]) -> dict[str, Any]:
    """Every seed's last evaluation and the curves' intervals, as plain data."""
    return {
        "name": manifest.name,
        "axes": {axis: list(values) for axis, values in manifest.axes.items()},
        "cells": [
            {
                "group": cell.group,
                "arm": cell.arm,
                "point": dict(cell.point),
                "checkpoint": cell.checkpoint,
                "curve": cell.curve,
                "runs": [
                    {
                        "id": r.entry.id,
                        "seed": r.seed,
                        **asdict(r.summary),
                        "comparable": r.comparable,
                        "auxiliary_curve": dict(r.auxiliary_curve),
                        "regimes_by_step": {step: asdict(found) for step, found in r.by_step.items()},
                    }
                    for r in cell.results
                ],
            }
            for cell in cells
        ],
    }
