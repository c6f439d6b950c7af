"""Ragged rows in rectangular arrays: the one helper that all tasks and the codec lay text out with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from data_builders.symbols import PAD, Codes, render

Mask = NDArray[np.bool_]
Counts = NDArray[np.int64]


def first(counts: Counts, width: int) -> Mask:
    """Mask of the first ``counts[i]`` of ``width`` columns of row i, bool [n, width]."""
    return np.arange(width) < counts[:, None]


def pack(values: NDArray[Any], keep: Mask) -> NDArray[Any]:
    """Move the kept entries of each row to its left, in order, and fill up with zeros (`PAD`).

    Args:
        values: [n, width], any dtype.
        keep: bool [n, width].

    Returns:
        [n, width], same dtype.
    """
    if keep.all():
        return values
    out = np.zeros_like(values)
    out[first(keep.sum(axis=1), values.shape[1])] = values[keep]
    return out


def join(n: int, parts: Sequence[int | NDArray[Any] | tuple[NDArray[Any], Mask]]) -> Codes:
    """Write parts of text side by side, row by row, without gaps.

    Args:
        n: number of rows.
        parts: each a single code for all rows, an array [n, k] that is used whole, or an array with
            a mask [n, k] of the entries that are text.

    Returns:
        int16 [n, sum of the k], right-padded with `PAD`.
    """
    widths = [1 if isinstance(p, int) else (p[0] if isinstance(p, tuple) else p).shape[1] for p in parts]
    values = np.empty((n, sum(widths)), dtype=np.int16)
    keep = np.ones(values.shape, dtype=np.bool_)
    at = 0
    for part, width in zip(parts, widths, strict=True):
        columns = slice(at, at + width)
        if isinstance(part, tuple):
            values[:, columns], keep[:, columns] = part
        else:
            values[:, columns] = part
        at += width
    packed: Codes = pack(values, keep)
    return packed


@dataclass(frozen=True)
class Sample:
    """n examples of one task.

    The arrays are as wide as the longest example that the requested length and options allow, not
    as wide as the longest one drawn: the width is a bound that needs no sampling luck.
    """

    prompt: Codes
    """int16 [n, P], right-padded with `PAD`"""
    target: Codes
    """int16 [n, T], right-padded with `PAD`"""
    loss_mask: Mask = field(default=cast("Mask", None))
    """bool [n, T], the target symbols that count in loss and exact match; all of them by default"""
    scores_eos: bool = True
    """whether the end-of-sequence symbol counts too"""

    def __post_init__(self) -> None:
        if self.loss_mask is None:
            object.__setattr__(self, "loss_mask", self.target != PAD)

    def __len__(self) -> int:
        return len(self.prompt)

    def take(self, rows: NDArray[Any]) -> Sample:
        """The examples at `rows` (indices or a mask)."""
        return Sample(self.prompt[rows], self.target[rows], self.loss_mask[rows], self.scores_eos)

    def replace(self, rows: NDArray[Any], new: Sample) -> Sample:
        """A copy in which the examples at `rows` are those of `new`, which may be narrower."""

        def merged(old: NDArray[Any], new: NDArray[Any]) -> NDArray[Any]:
            out = old.copy()
            out[rows] = 0
            out[rows, : new.shape[1]] = new
            return out

        return Sample(
            merged(self.prompt, new.prompt),
            merged(self.target, new.target),
            merged(self.loss_mask, new.loss_mask),
            self.scores_eos,
        )

    def text(self) -> list[tuple[str, str]]:
        """(prompt, target) of each example."""
        return list(zip(render(self.prompt), render(self.target), strict=True))
