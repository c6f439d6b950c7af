"""What looking into the heads of runs leaves behind: numbers, arrays, tables and figures."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hf_lgt.analysis.maps import MEASURES, TaskMaps
from hf_lgt.analysis.report.head_figures import maps_figure, measures_figure
from hf_lgt.analysis.subjects import Correlation, HeadAnalysis, correlations
from hf_lgt.data.eval_sets import EvalCell
from hf_lgt.report.blocks import Number, Row, Table
from hf_lgt.report.canvas import AGAIN, optional
from hf_lgt.report.figures import save_figure
from hf_lgt.utils.atomic_io import atomic_directory

FILES = {"heads.json", "heads.npz", "heads.md"}
"""what is written, beside figures"""


def write_heads(found: Sequence[HeadAnalysis], folder: Path, *, replace: bool = False) -> list[Table]:
    """Write ``heads.json``, ``heads.npz``, ``heads.md`` and the figures, whole or not at all.

    Args:
        found: of every run.
        folder: where.
        replace: whether an analysis that is there is replaced.
    """
    related = correlations(found)
    tables = [_difference_table(found), _correlation_table(related)]
    tables = [table for table in tables if table.rows]
    with atomic_directory(folder, replace=replace) as draft:
        (draft / "heads.json").write_text(
            json.dumps(_data(found, related), indent=1) + "\n", encoding="utf-8"
        )
        np.savez_compressed(draft / "heads.npz", **_arrays(found))
        text = "\n\n".join(["# Heads", *(table.markdown() for table in tables)])
        (draft / "heads.md").write_text(text + "\n", encoding="utf-8")
        for own in found:
            with optional(f"the maps of {own.subject.label}", AGAIN):
                _draw_maps(own, draft)
        with optional("the figures of measures", AGAIN):
            _draw_measures(found, related, draft)
    return tables


def _arrays(found: Sequence[HeadAnalysis]) -> dict[str, Any]:
    arrays: dict[str, Any] = {}
    for own in found:
        for step, maps in own.maps.items():
            for one in maps:
                name = f"{own.subject.label}/step-{step:06d}/{one.cell.task}/{one.cell.length}"
                arrays[f"{name}/exact_lost"] = one.ablation.exact_lost
                arrays[f"{name}/tokens_lost"] = one.ablation.tokens_lost
                arrays[f"{name}/attention"] = one.attention
    return arrays


def _data(found: Sequence[HeadAnalysis], related: Sequence[Correlation]) -> dict[str, Any]:
    return {
        "runs": [
            {
                "run": own.subject.label,
                "checkpoints": [
                    {
                        "step": step,
                        "gap": own.gaps[step],
                        "differences": {str(n): dict(d) for n, d in own.differences[step].items()},
                        "maps": [_map_data(one.cell, one) for one in maps],
                    }
                    for step, maps in own.maps.items()
                ],
            }
            for own in found
        ],
        "correlations": [
            {
                "measure": c.measure,
                "length": c.length,
                "spearman": c.rho,
                "interval": c.interval,
                "checkpoints": c.points,
            }
            for c in related
        ],
    }


def _map_data(cell: EvalCell, one: TaskMaps) -> dict[str, Any]:
    return {
        "task": cell.task,
        "role": cell.role,
        "length": cell.length,
        "examples": one.examples,
        "exact_match": one.ablation.exact_match,
        "token_accuracy": one.ablation.token_accuracy,
        "exact_lost": one.ablation.exact_lost.tolist(),
        "tokens_lost": one.ablation.tokens_lost.tolist(),
    }


def _difference_table(found: Sequence[HeadAnalysis]) -> Table:
    rows = []
    for own in found:
        for step, gap in own.gaps.items():
            for length, values in own.differences[step].items():
                numbers = [
                    Number(values[measure], digits=2 if measure == "attention" else 3) for measure in MEASURES
                ]
                rows.append(
                    Row((own.subject.label, step, length, *numbers, None if gap is None else Number(gap)))
                )
    return Table(
        "differences",
        "How far the maps of target and auxiliaries differ",
        ("run", "step", "length", *MEASURES.values(), "gap"),
        tuple(rows),
        ("Means over heads and auxiliaries. Attention: sum of the absolute differences of a head's entries; "
         "ablation: absolute difference of the exact match (or token accuracy) lost without a head.",),
    )  # fmt: skip


def _correlation_table(related: Sequence[Correlation]) -> Table:
    rows = [
        Row((MEASURES[c.measure], c.length, c.points, None if c.rho is None else _rho(c))) for c in related
    ]
    return Table(
        "correlations",
        "Rank correlation of each measure with the generalization gap",
        ("measure", "length", "checkpoints", "Spearman"),
        tuple(rows),
        ("Over the checkpoints of all runs. 95 % bootstrap intervals, whole runs drawn, from three runs on. "
         "Training moves both, so that a correlation alone shows no cause.",),
    )  # fmt: skip


def _rho(c: Correlation) -> Number:
    assert c.rho is not None, "the caller looked"
    return Number(c.rho, *(c.interval or ()), digits=2) if c.interval else Number(c.rho, digits=2)


def _draw_maps(own: HeadAnalysis, folder: Path) -> None:
    for length in own.subject.lengths:
        rows: dict[str, list[Any]] = {}
        for maps in own.maps.values():
            for one in maps:
                if one.cell.length == length:
                    rows.setdefault(one.cell.task, []).append(one.ablation.exact_lost)
        figure = maps_figure(
            f"{own.subject.label}, length {length}", rows, [f"step {step}" for step in own.maps]
        )
        name = own.subject.label.replace("/", "-")
        save_figure(figure, folder / f"maps-{name}-length-{length}.png")


def _draw_measures(found: Sequence[HeadAnalysis], related: Sequence[Correlation], folder: Path) -> None:
    for length in dict.fromkeys(c.length for c in related):
        points = {
            own.subject.label: [
                (own.differences[step][length], gap)
                for step, gap in own.gaps.items()
                if gap is not None and length in own.differences[step]
            ]
            for own in found
        }
        points = {run: values for run, values in points.items() if values}
        here = [c for c in related if c.length == length]
        figure = measures_figure(
            f"Differences of maps against the gap, length {length}",
            {
                MEASURES[c.measure]: {run: [d[c.measure] for d, _ in own] for run, own in points.items()}
                for c in here
            },
            {run: [gap for _, gap in own] for run, own in points.items()},
            {MEASURES[c.measure]: "no change" if c.rho is None else f"Spearman {_rho(c)}" for c in here},
        )
        save_figure(figure, folder / f"measures-length-{length}.png")
