"""What a user sees of one evaluation: tables on the terminal, figures in a folder."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from data_builders.texts import plain
from hf_lgt.config.schema import Config
from hf_lgt.evaluation.curves import curve, regimes, training_lengths
from hf_lgt.evaluation.records import EvalRecord, grouped_by_step, last_step
from hf_lgt.report.canvas import optional
from hf_lgt.report.figures import curves_figure, mistakes_figure, save_figure
from hf_lgt.report.tables import criterion_lines, length_table, mistake_table, number, summary_lines

_log = logging.getLogger(__name__)

FIGURES = ("curves.png", "mistakes.png")


def write_figures(config: Config, records: Sequence[EvalRecord], folder: Path, again: str) -> list[Path]:
    """Draw every figure that the records have something for; gives those that could be drawn.

    Args:
        config: of the run.
        records: of one evaluation.
        folder: where.
        again: what draws a figure that could not be drawn, for the warning.
    """
    figures = []
    with optional("curves.png", again):
        figures.append(save_figure(curves_figure(config, records), folder / "curves.png"))
    if any(r.mistakes for r in records):
        with optional("mistakes.png", again):
            figures.append(save_figure(mistakes_figure(config, records), folder / "mistakes.png"))
    return figures


def complete_figures(config: Config, records: Sequence[EvalRecord], folder: Path, again: str) -> list[Path]:
    """Draw the figures of a finished run that was killed before it had them; as `write_figures`."""
    wanted = FIGURES if any(r.mistakes for r in records) else FIGURES[:1]
    if all((folder / name).is_file() for name in wanted):
        return []
    return write_figures(config, records, folder, again)


def results_text(config: Config, records: Sequence[EvalRecord]) -> str:
    """Exact match by length, what it comes to, kinds of mistakes: Markdown.

    Args:
        config: the run.
        records: of its evaluations; the last one is shown.
    """
    last, by_step = last_step(records), grouped_by_step(records)
    before = by_step.get(0, []) if len(by_step) > 1 else []
    lines = [*summary_lines(config, last), *criterion_lines(config, by_step)]
    lines += zero_shot_lines(config, before)
    parts = [length_table(config, last), "\n".join(lines)]
    if any(r.mistakes for r in last):
        parts.append(mistake_table(config, last))
    return "\n\n".join(parts)


def zero_shot_lines(config: Config, zero_shot: Sequence[EvalRecord]) -> list[str]:
    """What the checkpoint does before fine-tuning, a line a target; none without such records."""
    lines = []
    for task, longest in training_lengths(config, "target") if zero_shot else []:
        found = regimes(curve(zero_shot, task), longest, longest)
        lines.append(
            f"{plain(task)}: zero-shot, before fine-tuning, {number(found.within)} up to length {longest}, "
            f"{number(found.beyond)} beyond"
        )
    return lines


def show_results(
    config: Config,
    records: Sequence[EvalRecord],
    figures: Sequence[Path],
) -> None:
    """Log the tables and where the figures are; other arguments as in `results_text`."""
    _log.info(results_text(config, records))
    if figures:
        _log.info("figure: %s", ", ".join(map(str, figures)))
