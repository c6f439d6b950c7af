"""The line of ``eval.jsonl``: one for each (step, task, length)."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_builders.reading import LARGEST_LOG, read_bytes
from data_builders.texts import CONTROLS
from hf_lgt.utils.errors import RunError

LARGEST = 2**53
"""no count is larger, and any number up to it can be drawn and printed"""


@dataclass(frozen=True)
class EvalRecord:
    """What one task scored at one length."""

    step: int
    """optimizer steps taken before"""
    task: str
    role: str
    length: int
    n: int
    """test examples"""
    exact_match: float
    """share of examples with every scored token right"""
    ci_low: float
    """95 % Wilson interval of `exact_match`"""
    ci_high: float
    token_accuracy: float
    """share of scored tokens that are right, given the reference before them"""
    overlap: int | None = None
    """test prompts that training was free to draw, None if unknown (see `draw_test_set`)"""
    mistakes: dict[str, int] | None = None
    """how many of some wrong answers are of which kind, None where the task has no kinds or none were
    asked for"""
    stopped_early: int | None = None
    """wrong answers that are right up to a place where they stop too early, None if not known or where the
    end of the answer is not scored"""
    ran_on: int | None = None
    """wrong answers that are right up to the place where they should stop, and do not; None as above"""

    def to_json(self) -> str:
        """One line, without its end."""
        return json.dumps(dataclasses.asdict(self))


class RecordError(RunError):
    """A file of records that cannot be read; the message names file and line."""


def read_records(path: str | Path) -> list[EvalRecord]:
    """All records of an ``eval.jsonl``.

    Raises:
        RecordError: the file is missing, it has no record, or a line is none.
    """
    path = Path(path)
    try:
        # bytes, so that only the faulty line is reported, and no sign within a name ends a line
        lines = read_bytes(path, LARGEST_LOG).splitlines()
    except OSError as error:
        raise RecordError(f"{path}: {error.strerror}") from None
    if not lines:
        raise RecordError(f"{path} is empty; evaluate the run again")
    return [_parse(line, f"{path}, line {i}") for i, line in enumerate(lines, 1)]


def _parse(line: bytes, where: str) -> EvalRecord:
    shown = ascii(line[:60].decode("utf-8", "replace"))
    try:
        data: Any = json.loads(line.decode("utf-8"))
        record = EvalRecord(**data)
    except (ValueError, TypeError, RecursionError):
        raise RecordError(f"{where} is not an evaluation record: {shown}") from None
    numbers = (record.exact_match, record.ci_low, record.ci_high, record.token_accuracy)
    counts = (record.step, record.length, record.n)
    fine = (
        all(isinstance(text, str) and not CONTROLS.search(text) for text in (record.task, record.role))
        and all(map(_is_count, counts))
        and all(type(v) in (int, float) and 0 <= v <= 1 for v in numbers)
        and all(v is None or _is_count(v) for v in (record.overlap, record.stopped_early, record.ran_on))
        and (record.mistakes is None or _are_counts(record.mistakes))
    )
    if not fine:
        raise RecordError(f"{where} has a value out of its range: {shown}")
    return record


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value <= LARGEST


def _are_counts(data: Any) -> bool:
    return isinstance(data, dict) and all(map(_is_count, data.values()))


def grouped_by_step(records: Iterable[EvalRecord]) -> dict[int, list[EvalRecord]]:
    """Step -> the records of its evaluation, in the order in which they come."""
    steps: dict[int, list[EvalRecord]] = {}
    for record in records:
        steps.setdefault(record.step, []).append(record)
    return steps


def steps_taken(run: Path, planned: int) -> int:
    """Steps of a finished run, which ``train.until`` may have ended early: those of its last evaluation.

    Args:
        run: its folder.
        planned: ``train.steps``, where it kept no evaluation.
    """
    try:
        return last_step(read_records(run / "eval.jsonl"))[0].step
    except RecordError:
        return planned


def last_step(records: Iterable[EvalRecord]) -> list[EvalRecord]:
    """The records of the latest evaluation."""
    records = list(records)
    step = max((r.step for r in records), default=0)
    return [r for r in records if r.step == step]
