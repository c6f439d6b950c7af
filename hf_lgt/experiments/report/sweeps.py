"""What a sweep leaves behind: ``sweep.md``, ``sweep.json`` and its figures as PNG."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hf_lgt.experiments.manifest import Manifest
from hf_lgt.experiments.report.sweep_figures import sweep_pictures
from hf_lgt.experiments.report.sweep_tables import sweep_tables
from hf_lgt.experiments.results import Cell
from hf_lgt.report.blocks import Table
from hf_lgt.report.canvas import optional
from hf_lgt.report.figures import save_figure
from hf_lgt.utils.atomic_io import write_text


def write_sweep(manifest: Manifest, cells: Sequence[Cell], folder: Path) -> tuple[list[Table], list[Path]]:
    """Write tables, numbers and figures of a sweep into its folder; gives tables and the figures' paths."""
    tables = sweep_tables(manifest, cells)
    text = "\n\n".join([f"# {manifest.name}", *(table.markdown() for table in tables)])
    write_text(folder / "sweep.md", text + "\n")
    write_text(folder / "sweep.json", json.dumps(sweep_data(manifest, cells), indent=1) + "\n")
    figures = []
    with optional("figures", again := "the same command draws them"):
        for picture in sweep_pictures(manifest, cells):
            with optional(name := f"{picture.name}.png", again):
                figures.append(save_figure(picture.figure, folder / name))
    return tables, figures


def sweep_data(manifest: Manifest, cells: Sequence[Cell]) -> dict[str, Any]:
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
