"""What an experiment leaves behind: its tables as ``.md``, its numbers as ``.json``, its figures as PNG."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from hf_lgt.experiments.checkpoint_series import CheckpointResult, checkpoint_series
from hf_lgt.experiments.report.checkpoint_figures import checkpoint_figure
from hf_lgt.experiments.report.checkpoint_tables import checkpoint_data, checkpoint_report
from hf_lgt.experiments.report.comparison_figures import comparison_pictures
from hf_lgt.experiments.report.stored import Results, results_data
from hf_lgt.experiments.report.sweep_figures import sweep_pictures
from hf_lgt.experiments.report.verdict_tables import result_tables
from hf_lgt.report.blocks import Picture, Table
from hf_lgt.report.canvas import optional
from hf_lgt.report.figures import save_figure
from hf_lgt.utils.atomic_io import write_text

AGAIN = "the same command draws it"


def write_results(kind: str, results: Results, folder: Path) -> tuple[list[Table], list[Path]]:
    """Write tables, numbers and figures of a sweep or comparison into its folder.

    Args:
        kind: ``sweep`` or ``comparison``, as its files are called.
        results: its numbers, of at least one run.
        folder: where its manifest lies.

    Returns:
        The tables, and the paths of the figures that could be drawn.
    """
    name, tables = results.manifest.name, result_tables(results)
    text = "\n\n".join([f"# {name}", *(table.markdown() for table in tables)])
    _write(folder / kind, text, results_data(results, folder))
    draw = sweep_pictures if kind == "sweep" else comparison_pictures
    return tables, _draw(folder, lambda: draw(results.manifest, results.cells))


def write_checkpoint_comparison(
    name: str, results: Sequence[CheckpointResult], folder: Path
) -> tuple[str, list[Path]]:
    """As `write_results`, for checkpoints; gives the text without single seeds."""
    series = checkpoint_series(results)
    _write(folder / "comparison", checkpoint_report(series), checkpoint_data(series))

    def pictures() -> list[Picture]:
        return [Picture("comparison", "", "", checkpoint_figure(name, series))]

    return checkpoint_report(series, every_seed=False), _draw(folder, pictures)


def _draw(folder: Path, pictures: Callable[[], Iterable[Picture]]) -> list[Path]:
    figures = []
    with optional("figures", AGAIN):
        for picture in pictures():
            with optional(name := f"{picture.name}.png", AGAIN):
                figures.append(save_figure(picture.figure, folder / name))
    return figures


def _write(path: Path, text: str, data: Any) -> None:
    write_text(path.with_name(f"{path.name}.md"), text + "\n")
    write_text(path.with_name(f"{path.name}.json"), json.dumps(data, indent=1) + "\n")
