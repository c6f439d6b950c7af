"""Text tables of one run and of a comparison."""

from __future__ import annotations

from collections.abc import Sequence

from tabulate import tabulate

from hf_lgt.config import Config
from hf_lgt.evaluation.curves import Summary, curve, summarize
from hf_lgt.evaluation.records import EvalRecord

STYLE = "github"


def number(value: float | None) -> str:
    """Three decimals, or a dash."""
    return "–" if value is None else f"{value:.3f}"


def training_lengths(config: Config, role: str) -> list[tuple[str, int]]:
    """(task, longest training length) of each component of a role."""
    return [(c.task, c.lengths[1]) for c in config.mixture if c.role == role]


def summaries(config: Config, records: Sequence[EvalRecord]) -> list[Summary]:
    """One summary for each target of the mixture."""
    auxiliaries = training_lengths(config, "auxiliary")
    return [summarize(records, target, auxiliaries) for target in training_lengths(config, "target")]


def regime(length: int, target_length: int, auxiliary_length: int) -> str:
    """Name of the range that a length falls in."""
    if length <= target_length:
        return "within"
    return "transfer" if length <= auxiliary_length else "beyond"


def length_table(config: Config, records: Sequence[EvalRecord]) -> str:
    """Exact match by length, a column a task; the first target's also with its interval."""
    curves = {c.task: curve(records, c.task) for c in config.mixture}
    first = training_lengths(config, "target")[0]
    furthest = max([first, *training_lengths(config, "auxiliary")], key=lambda c: c[1])[1]
    intervals = {r.length: f"{r.ci_low:.3f}–{r.ci_high:.3f}" for r in records if r.task == first[0]}
    trained = {c.task: f"{c.task} ({c.role}, ≤ {c.lengths[1]})" for c in config.mixture}
    rows = []
    for length in sorted({length for c in curves.values() for length in c}):
        row = [length, regime(length, first[1], furthest)]
        for task, values in curves.items():
            row.append(number(values.get(length)))
            if task == first[0]:
                row.append(intervals.get(length, "–"))
        rows.append(row)
    headers = ["length", "regime"]
    for task in curves:
        headers += [trained[task], "95 % interval"] if task == first[0] else [trained[task]]
    return tabulate(rows, headers, tablefmt=STYLE, disable_numparse=True)


def summary_lines(config: Config, records: Sequence[EvalRecord]) -> list[str]:
    """Gap, transfer and regimes of each target, and what the numbers cannot say."""
    lines = []
    for s in summaries(config, records):
        means = s.regimes
        lines.append(
            f"{s.target}: exact match within {number(means.within)}, transfer region "
            f"{number(means.transfer)}, beyond {number(means.beyond)}; generalization gap "
            f"{number(s.gap)}, normalised {number(s.normalized_gap)}, transfer {number(s.transfer)}"
        )
    small = [f"{r.task} {r.length} (n={r.n})" for r in records if r.n < config.eval.examples]
    if small:
        lines.append(f"fewer prompts exist than eval.examples={config.eval.examples}: {', '.join(small)}")
    seen = [f"{r.task} {r.length} ({r.overlap} of {r.n})" for r in records if r.overlap]
    if seen:
        lines.append(f"test prompts that training could draw: {', '.join(seen)}")
    return lines
