"""Values of a file of numbers, each of its type and range: what is none is a ValueError that says so."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hf_lgt.config.schema import short
from hf_lgt.evaluation.records import LARGEST


def curve_value(data: Mapping[str, Any]) -> dict[int, float]:
    """A curve, by ascending length."""
    return {length: share_value(value) for length, value in by_number(data).items()}


def by_number(data: Mapping[str, Any]) -> dict[int, Any]:
    """A mapping of numbers, whose keys are text in JSON, in ascending order."""
    return dict(
        sorted(((count_value(int(key)), value) for key, value in data.items()), key=lambda item: item[0])
    )


def text_value(value: Any) -> str:
    """A text."""
    if not isinstance(value, str):
        raise ValueError(f"{short(value)} is no string")
    return value


def count_value(value: Any) -> int:
    """An integer from 0."""
    if type(value) is not int or not 0 <= value <= LARGEST:
        raise ValueError(f"{short(value)} is no integer from 0 to {LARGEST}")
    return value


def share_value(value: Any) -> float:
    """A number from 0 to 1."""
    if type(value) not in (int, float) or not 0 <= value <= 1:
        raise ValueError(f"{short(value)} is not between 0 and 1")
    return float(value)


def share_or_none(value: Any) -> float | None:
    """The same, or nothing."""
    return None if value is None else share_value(value)
