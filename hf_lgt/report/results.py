"""What a user sees of one evaluation: tables on the terminal, figures in a folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from hf_lgt.config import Config
from hf_lgt.evaluation.records import EvalRecord
from hf_lgt.report.figures import curves_figure, mistakes_figure, save_figure
from hf_lgt.report.tables import length_table, mistake_table, summary_lines


def write_figures(config: Config, records: Sequence[EvalRecord], folder: Path) -> list[Path]:
    """Draw every figure that the records have something for."""
    figures = [save_figure(curves_figure(config, records), folder / "curves.png")]
    if any(r.mistakes for r in records):
        figures.append(save_figure(mistakes_figure(config, records), folder / "mistakes.png"))
    return figures


def results_text(config: Config, records: Sequence[EvalRecord]) -> str:
    """Exact match by length, gap, transfer and remarks, kinds of mistakes: Markdown."""
    parts = [length_table(config, records), "\n".join(summary_lines(config, records))]
    if any(r.mistakes for r in records):
        parts.append(mistake_table(config, records))
    return "\n\n".join(parts)


def show_results(
    config: Config, records: Sequence[EvalRecord], folder: Path, say: Callable[[str], None]
) -> None:
    """Write the figures and say the tables and where the figures are."""
    figures = write_figures(config, records, folder)
    say(results_text(config, records))
    say(f"figure: {', '.join(map(str, figures))}")
