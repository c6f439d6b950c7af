"""The line of ``eval.jsonl``: one for each (step, task, length)."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hf_lgt.errors import RunError


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

    def to_json(self) -> str:
        """One line, without its end."""
        return json.dumps(dataclasses.asdict(self))


class RecordError(RunError):
    """A file of records that cannot be read; the message names file and line."""


def read_records(path: str | Path) -> list[EvalRecord]:
    """All records of an ``eval.jsonl``.

    Raises:
        RecordError: the file is missing, or a line is not a record.
    """
    path = Path(path)
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise RecordError(f"{path}: {getattr(error, 'strerror', 'not UTF-8 text')}") from None
    return [_parse(line, f"{path}, line {i}") for i, line in enumerate(lines, 1)]


def _parse(line: str, where: str) -> EvalRecord:
    try:
        data: Any = json.loads(line)
        record = EvalRecord(**data)
    except (ValueError, TypeError, RecursionError):
        raise RecordError(f"{where} is not an evaluation record: {line[:60]!r}") from None
    numbers = (record.exact_match, record.ci_low, record.ci_high, record.token_accuracy)
    counts = (record.step, record.length, record.n)
    fine = (
        isinstance(record.task, str)
        and isinstance(record.role, str)
        and all(type(v) is int and v >= 0 for v in counts)
        and all(type(v) in (int, float) and 0 <= v <= 1 for v in numbers)
        and (record.overlap is None or (type(record.overlap) is int and record.overlap >= 0))
        and (record.mistakes is None or _are_counts(record.mistakes))
    )
    if not fine:
        raise RecordError(f"{where} has a value out of its range: {line[:60]!r}")
    return record


def _are_counts(data: Any) -> bool:
    return isinstance(data, dict) and all(type(v) is int and v >= 0 for v in data.values())


def last_step(records: Iterable[EvalRecord]) -> list[EvalRecord]:
    """The records of the latest evaluation."""
    records = list(records)
    step = max((r.step for r in records), default=0)
    return [r for r in records if r.step == step]
