"""What a comparison leaves behind: ``comparison.md``, ``comparison.json`` and ``comparison.png``."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hf_lgt.experiments.arms import ArmResult
from hf_lgt.experiments.checkpoint_curves import CheckpointResult, sweeps
from hf_lgt.experiments.report.arm_figures import comparison_figure
from hf_lgt.experiments.report.arm_tables import comparison_table, success_lines
from hf_lgt.experiments.report.checkpoint_figures import checkpoint_figure
from hf_lgt.experiments.report.checkpoint_tables import checkpoint_data, checkpoint_report
from hf_lgt.report.canvas import optional
from hf_lgt.report.figures import save_figure
from hf_lgt.utils.atomic_io import write_text

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def write_comparison(name: str, results: Sequence[ArmResult], folder: Path) -> tuple[str, list[Path]]:
    """Write the arms' tables and figure; gives the text and the paths of what could be drawn."""
    text = "\n".join([comparison_table(results), "", *success_lines(results)])
    rows = [{"arm": r.arm, "seed": r.seed, **asdict(r.summary)} for r in results]
    return text, _write(folder, text, rows, lambda: comparison_figure(name, results))


def write_checkpoint_comparison(
    name: str, results: Sequence[CheckpointResult], folder: Path
) -> tuple[str, list[Path]]:
    """As `write_comparison`, for checkpoints; the text is without single seeds."""
    made = sweeps(results)
    figures = _write(
        folder, checkpoint_report(made), checkpoint_data(made), lambda: checkpoint_figure(name, made)
    )
    return checkpoint_report(made, every_seed=False), figures


def _write(folder: Path, text: str, data: Any, draw: Callable[[], Figure]) -> list[Path]:
    write_text(folder / "comparison.md", text + "\n")
    write_text(folder / "comparison.json", json.dumps(data, indent=1) + "\n")
    figures = []
    with optional("comparison.png", "the same command draws it"):
        figures.append(save_figure(draw(), folder / "comparison.png"))
    return figures
