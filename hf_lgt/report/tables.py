"""Text tables of one run and of a comparison."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from tabulate import tabulate

from data_builders.texts import plain
from hf_lgt.config.schema import Config
from hf_lgt.evaluation.criterion import Criterion
from hf_lgt.evaluation.curves import curve, smallest_length, training_lengths
from hf_lgt.evaluation.measures import Auxiliaries, Summary, summarize
from hf_lgt.evaluation.records import EvalRecord

STYLE = "github"


def number(value: float | None) -> str:
    """Three decimals, or a dash."""
    return "–" if value is None else f"{value:.3f}"


def summaries(config: Config, records: Sequence[EvalRecord]) -> list[Summary]:
    """One summary for each target of the mixture."""
    auxiliaries = Auxiliaries.of(records, training_lengths(config, "auxiliary"))
    smallest = smallest_length(config)
    return [
        summarize(records, target, auxiliaries, smallest) for target in training_lengths(config, "target")
    ]


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
    trained = {c.task: f"{plain(c.task)} ({c.role}, ≤ {c.lengths[1]})" for c in config.mixture}
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
    """What each target reaches, and what the numbers cannot say."""
    lines = []
    for s in summaries(config, records):
        means, target = s.regimes, plain(s.target)
        lines.append(
            f"{target}: exact match {number(means.within)} on trained lengths, {number(means.transfer)} in "
            f"the transfer region, {number(means.beyond)} beyond; at .9 or above up to length "
            f"{s.effective_length_90}, at .5 up to {s.effective_length_50}"
        )
        if s.errors is not None and (means.transfer or 0) < 1:
            lines.append(
                f"{target}: answers in the transfer region that stop too early "
                f"{number(s.errors.stopped_early)}, that run on {number(s.errors.ran_on)}, "
                f"with another wrong token {number(s.errors.content)}"
            )
        if s.auxiliaries:
            known = f"{number(s.gap)}, normalised {number(s.normalized_gap)}"
            told = known if s.gap_reason is None else f"– ({plain(s.gap_reason)})"
            lines.append(f"{target}: the paper's generalization gap {told}")
        if means.transfer is not None and s.auxiliaries:
            lines.append(
                f"{target}: whether its auxiliaries made it reach that far only a comparison with the target "
                "alone tells (hf-lgt compare)"
            )
    small = [f"{plain(r.task)} {r.length} (n={r.n})" for r in records if r.n < config.eval.examples]
    if small:
        what = "prompts exist" if config.data.source == "generated" else "rows are there"
        lines.append(f"fewer {what} than eval.examples={config.eval.examples}: {', '.join(small)}")
    unknown = dict.fromkeys(r.task for r in records if r.overlap is None)
    if unknown:
        lines.append(f"whether training drew test prompts is not known: {', '.join(map(plain, unknown))}")
    seen = [f"{plain(r.task)} {r.length} ({r.overlap} of {r.n})" for r in records if r.overlap]
    if seen:
        lines.append(f"test prompts that training could draw: {', '.join(seen)}")
    return lines


def criterion_lines(config: Config, by_step: Mapping[int, Sequence[EvalRecord]]) -> list[str]:
    """When ``train.until`` was met, of a run that has it."""
    criterion = Criterion.of(config)
    if criterion is None:
        return []
    tasks = ", ".join(map(plain, criterion.lengths))
    told = f"{tasks}: exact match {criterion.exact_match} on trained lengths"
    if (step := criterion.reached(by_step)) is None:
        return [f"{told} was not reached within {config.train.steps} steps"]
    return [f"{told} was reached at step {step}; the training ended at step {max(by_step)}"]


def mistake_kinds(records: Sequence[EvalRecord]) -> list[str]:
    """Every kind of mistake that occurs, the most frequent first."""
    total: Counter[str] = Counter()
    for r in records:
        total.update(r.mistakes or {})
    return sorted(total, key=lambda kind: (-total[kind], kind))


def mistake_table(config: Config, records: Sequence[EvalRecord]) -> str:
    """Of the wrong answers that were looked at, the share of each kind, by task and regime."""
    kinds = mistake_kinds(records)
    first = training_lengths(config, "target")[0]
    furthest = max([first, *training_lengths(config, "auxiliary")], key=lambda c: c[1])[1]
    groups: dict[tuple[str, str], Counter[str]] = {}
    for r in records:
        if r.mistakes:
            group = groups.setdefault((r.task, regime(r.length, first[1], furthest)), Counter())
            group.update(r.mistakes)
    rows = [
        [
            plain(task),
            where,
            str(sum(group.values())),
            *(number(group[kind] / sum(group.values())) for kind in kinds),
        ]
        for (task, where), group in groups.items()
    ]
    headers = ["wrong answers of", "regime", "looked at", *map(plain, kinds)]
    return tabulate(rows, headers, tablefmt=STYLE, disable_numparse=True)
