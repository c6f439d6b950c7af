"""From token ids to forward passes: length buckets, right padding, answer positions.

Right padding needs no attention mask under causal attention, so attention keeps its fast path; the
price, padding, is kept small by sorting a step's examples by length and cutting them into buckets.

Dimensions: B examples, W tokens, K positions whose logits are needed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from hf_lgt.data.codec import Encoded

IGNORE = -100  # what torch's cross entropy skips by default
CPU_TOKENS = 3072
"""of a pass on a CPU: of more, the activations do not stay in the caches, see benchmarks/NOTES.md"""


@dataclass(frozen=True)
class Batch(Encoded):
    """The examples of a step, of all processes together; of S runs, all but `lengths` is [S, B, ...]."""

    halves: NDArray[np.int64] | None = None
    """int64 [B], which half of each layer's heads an example may use (`hf_lgt.models.heads`); None: all"""

    @property
    def tokens(self) -> int:
        """Tokens without padding."""
        return int(self.lengths.sum())

    @property
    def answer_tokens(self) -> int:
        """Tokens that the loss is taken on."""
        return int(self.scored.sum())

    @classmethod
    def of(cls, encoded: Encoded, half: int | None = None) -> Batch:
        """A batch of these sequences, all of which may use one half of the heads, or None: all heads."""
        halves = None if half is None else np.full(len(encoded.lengths), half, dtype=np.int64)
        return cls(**vars(encoded), halves=halves)

    def take(self, rows: NDArray[np.int64]) -> Batch:
        """Some of its rows."""
        positions = None if self.positions is None else self.positions[rows]
        halves = None if self.halves is None else self.halves[rows]
        return Batch(self.ids[rows], self.lengths[rows], self.scored[rows], positions, halves)

    @classmethod
    def collate(cls, rows: int, groups: Sequence[tuple[NDArray[np.int64], Encoded]], pad_id: int) -> Batch:
        """One batch from encoded groups and the rows they take; all have position IDs, or none."""
        groups = [(at, group) for at, group in groups if len(group.ids)]  # none may be drawn of a task
        width = max((group.ids.shape[1] for _, group in groups), default=1)
        ids = np.full((rows, width), pad_id, dtype=np.int64)
        lengths = np.zeros(rows, dtype=np.int64)
        scored = np.zeros((rows, width), dtype=np.bool_)
        numbered = any(group.positions is not None for _, group in groups)
        positions = np.zeros((rows, width), dtype=np.int64) if numbered else None
        for at, group in groups:
            ids[at, : group.ids.shape[1]] = group.ids
            scored[at, : group.ids.shape[1]] = group.scored
            lengths[at] = group.lengths
            if positions is not None:
                assert group.positions is not None, "one policy numbers all groups"
                positions[at, : group.ids.shape[1]] = group.positions
        return cls(ids, lengths, scored, positions)


@dataclass(frozen=True)
class Pass:
    """What one forward pass takes."""

    input_ids: torch.Tensor
    """int64 [b, w]"""
    keep: torch.Tensor
    """int64 [K], positions whose logits predict a scored token of some example"""
    labels: torch.Tensor
    """int64 [b, K], the token to predict, `IGNORE` where it does not count"""
    position_ids: torch.Tensor | None = None
    """int64 [b, w], the position ID of each token; None: 0, 1, 2, ..."""
    halves: torch.Tensor | None = None
    """int64 [b], which half of each layer's heads an example may use; None: all heads"""
    prompt_tokens: torch.Tensor | None = None
    """int64 [b], tokens before an example's first scored one, for models that read it; None: not known"""

    def to(self, device: torch.device) -> Pass:
        """A copy on a device."""
        return moved(self, device)


P = TypeVar("P")


def moved(work: P, device: torch.device) -> P:
    """A pass of any kind with its tensors on a device."""
    made: P = _with_tensors(work, lambda tensor: tensor.to(device, non_blocking=True))
    return made


def pinned(work: P, device: torch.device) -> P:
    """A pass of any kind with its tensors in pinned memory, for a GPU to fetch meanwhile."""
    return _with_tensors(work, torch.Tensor.pin_memory) if device.type == "cuda" else work


def _with_tensors(work: Any, change: Callable[[torch.Tensor], torch.Tensor]) -> Any:
    parts = {field.name: getattr(work, field.name) for field in dataclasses.fields(work)}
    tensors = {name: change(part) for name, part in parts.items() if isinstance(part, torch.Tensor)}
    return dataclasses.replace(work, **tensors)


def pass_tokens(most: int, device: torch.device) -> int:
    """Tokens that a pass should have: `most`, or on a CPU what its caches hold if that is less."""
    return min(most, CPU_TOKENS) if device.type == "cpu" else most


def make_pass(batch: Batch, rows: NDArray[np.int64], width: int | None = None) -> Pass:
    """The forward pass of some rows, padded to `width` or to the longest of them; of S runs, run by run.

    The last token of the longest sequence is only predicted, never read.
    """
    width = int(batch.lengths[rows].max()) if width is None else width
    ids = batch.ids[..., rows, :width].reshape(-1, width)
    scored = batch.scored[..., rows, :width].reshape(-1, width)
    keep = np.flatnonzero(scored[:, 1:].any(axis=0))
    labels = np.where(scored[:, keep + 1], ids[:, keep + 1], IGNORE)
    numbers = halves = None
    if batch.positions is not None:
        numbers = tensor_of(batch.positions[..., rows, : width - 1].reshape(-1, width - 1))
    if batch.halves is not None:
        halves = tensor_of(batch.halves[..., rows].ravel())
    starts = tensor_of(scored.argmax(axis=1))
    return Pass(tensor_of(ids[:, :-1]), tensor_of(keep), tensor_of(labels), numbers, halves, starts)


def tensor_of(array: NDArray[np.int64]) -> torch.Tensor:
    """A tensor that is contiguous, which pinned memory needs."""
    return torch.from_numpy(np.ascontiguousarray(array))


def even_split(batch: Batch, pieces: int, buckets: int, rank: int = 0, world: int = 1) -> list[Pass]:
    """Cut a global batch into passes for one process.

    All processes make the same number of passes with the same widths, of which each takes every
    `world`-th row.

    Args:
        batch: the step's examples; their number must be a multiple of `world`.
        pieces: no pass has more than 1/`pieces` of the examples, which bounds memory.
        buckets: passes, at most one for each `world` examples.
        rank: this process.
        world: number of processes.
    """
    planned = plan_passes(batch.lengths, pieces, buckets, world)
    return [make_pass(batch, rows[rank::world], width) for rows, width in planned]


def plan_passes(
    lengths: NDArray[np.int64], pieces: int, buckets: int, world: int = 1
) -> list[tuple[NDArray[np.int64], int]]:
    """Which rows go together, of all processes, and the width of each pass.

    Args:
        lengths: int64 [B], tokens of each example; B must be a multiple of `world`.
        pieces: least number of passes, at most one for each `world` examples.
        buckets: passes, divided among the pieces.
        world: number of processes.
    """
    assert len(lengths) % world == 0, "checked at the start of training"
    order = np.argsort(lengths, kind="stable")
    groups = np.array_split(order.reshape(-1, world), min(pieces, len(order) // world))
    each = max(1, round(buckets / len(groups)))
    planned = []
    for rows in (group.ravel() for group in groups):
        own = lengths[rows]
        planned += [(rows[start:stop], int(own[stop - 1])) for start, stop in _cut(own, each, world)]
    return planned


def _cut(lengths: NDArray[np.int64], buckets: int, multiple: int) -> list[tuple[int, int]]:
    """Cut sorted lengths into `buckets` runs with the least padding, by dynamic programming.

    Args:
        lengths: int64 [B], ascending.
        buckets: number of runs, less where there are fewer places to cut.
        multiple: cuts are made at multiples of this.

    Returns:
        (start, stop) of each run.
    """
    widest = lengths[multiple - 1 :: multiple]
    # a cut between equal widths saves nothing: candidates are the places where the width changes
    ends = np.append(np.flatnonzero(np.diff(widest)), len(widest) - 1)
    edges = np.concatenate([[0], ends + 1])
    widths = widest[ends]
    n, runs = len(ends), min(buckets, len(ends))
    cost = np.full((runs + 1, n + 1), np.inf)
    cost[0, 0] = 0
    back = np.zeros((runs + 1, n + 1), dtype=np.int64)
    for run in range(1, runs + 1):
        for end in range(run, n + 1):
            total = cost[run - 1, :end] + (edges[end] - edges[:end]) * widths[end - 1]
            back[run, end] = np.argmin(total)
            cost[run, end] = total[back[run, end]]
    cuts, end = [], n
    for run in range(runs, 0, -1):
        start = int(back[run, end])
        cuts.append((int(edges[start]) * multiple, int(edges[end]) * multiple))
        end = start
    return cuts[::-1]
