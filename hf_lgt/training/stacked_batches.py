"""The batches of several runs side by side, in passes for their stacked models.

Each run's examples are sorted by length; the i-th of all runs are padded to the longest of them, so that
the runs' rows have the same shapes. Where all runs draw the same batch, that pads nothing more.

Dimensions: S runs, B examples of a step of each, b of a pass, W and w tokens, K places that are scored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from hf_lgt.data.batching import IGNORE, Batch, Pass, pass_tokens, plan_passes, tensor_of
from hf_lgt.models.forward import logits_of
from hf_lgt.models.packing import MOST_TOKENS, PackedPass, packed_logits


@dataclass(frozen=True)
class Joined:
    """The batches of a step of several runs."""

    ids: NDArray[np.int64]
    """[S, B, W], each run's rows sorted by length"""
    scored: NDArray[np.bool_]
    """[S, B, W]"""
    lengths: NDArray[np.int64]
    """[B], tokens of the i-th longest example of any run"""
    positions: NDArray[np.int64] | None
    """[S, B, W], numbers of the positions; None: 0, 1, 2, ..."""
    halves: NDArray[np.int64] | None
    """[S, B], which half of each layer's heads an example may use; None: all heads"""

    @classmethod
    def of(cls, batches: Sequence[Batch]) -> Joined:
        """The batches of runs with as many examples a step, which have numbers of positions all or none."""
        width = max(batch.ids.shape[1] for batch in batches)
        orders = [np.argsort(batch.lengths, kind="stable") for batch in batches]
        every = list(zip(batches, orders, strict=True))

        def side_by_side(name: str) -> Any:
            if getattr(batches[0], name) is None:
                return None
            rows = [getattr(batch, name)[order] for batch, order in every]
            wider = [np.pad(own, ((0, 0), (0, width - own.shape[1]))) for own in rows]
            return np.stack(wider)

        halves = None
        if batches[0].halves is not None:
            halves = np.stack([batch.halves[order] for batch, order in every])  # type: ignore[index]
        return cls(
            side_by_side("ids"),
            side_by_side("scored"),
            np.max([batch.lengths[order] for batch, order in every], axis=0),
            side_by_side("positions"),
            halves,
        )


def padded_passes(joined: Joined, pieces: int, buckets: int, device: torch.device) -> list[Pass]:
    """Passes of [S * b, w] tokens, run by run.

    Args:
        joined: the batches.
        pieces: least number of passes, as far as there are examples.
        buckets: passes, unless they would have many more tokens than `pass_tokens` says.
        device: of the model.
    """
    runs = len(joined.ids)
    tokens = runs * int(joined.lengths.sum())
    pieces = max(pieces, -(-tokens // pass_tokens(MOST_TOKENS, device)))
    return [_padded(joined, rows, width) for rows, width in plan_passes(joined.lengths, pieces, buckets)]


def _padded(joined: Joined, rows: NDArray[np.int64], width: int) -> Pass:
    """The pass of some rows of every run, padded to `width`; the last token is only predicted."""
    ids = joined.ids[:, rows, :width].reshape(-1, width)
    scored = joined.scored[:, rows, :width].reshape(-1, width)
    keep = np.flatnonzero(scored[:, 1:].any(axis=0))
    labels = np.where(scored[:, keep + 1], ids[:, keep + 1], IGNORE)
    numbers = halves = None
    if joined.positions is not None:
        numbers = tensor_of(joined.positions[:, rows, : width - 1].reshape(-1, width - 1))
    if joined.halves is not None:
        halves = tensor_of(joined.halves[:, rows].ravel())
    return Pass(tensor_of(ids[:, :-1]), tensor_of(keep), tensor_of(labels), numbers, halves)


def packed_passes(joined: Joined, pieces: int, device: torch.device) -> list[PackedPass]:
    """Passes of [S, N] tokens, a row of each run; see `hf_lgt.models.packing`.

    Args:
        joined: the batches, without halves of heads.
        pieces: least number of passes, as far as there are examples.
        device: of the model.
    """
    runs, count = joined.ids.shape[:2]
    tokens = runs * int((joined.lengths - 1).sum())
    passes = min(max(pieces, -(-tokens // pass_tokens(MOST_TOKENS, device))), count)
    return [_packed(joined, np.arange(start, count, passes)) for start in range(passes)]


def _packed(joined: Joined, rows: NDArray[np.int64]) -> PackedPass:
    """The pass of some rows of every run, which are sorted by length."""
    read = joined.lengths[rows] - 1
    width = int(read.max())
    inside = np.arange(width) < read[:, None]
    ids, scored = joined.ids[:, rows, : width + 1], joined.scored[:, rows, : width + 1]
    marked = scored[:, :, 1:][:, inside]
    keep = np.flatnonzero(marked.any(axis=0))
    labels = np.where(marked, ids[:, :, 1:][:, inside], IGNORE)[:, keep]
    if joined.positions is None:
        numbers = np.broadcast_to(np.arange(width), (1, *inside.shape))
    else:
        numbers = joined.positions[:, rows, :width]
    lengths, counts = np.unique(read, return_counts=True)
    return PackedPass(
        tensor_of(ids[:, :, :-1][:, inside]),
        tensor_of(numbers[:, inside]),
        tensor_of(keep),
        tensor_of(labels),
        tuple(zip(counts.tolist(), lengths.tolist(), strict=True)),
    )


def run_losses(model: Any, work: Pass | PackedPass, runs: int) -> torch.Tensor:
    """Cross entropy summed over the scored tokens of each run, float32 [S]; see `answer_loss`."""
    logits = logits_of(model, work) if isinstance(work, Pass) else packed_logits(model, work)
    each = F.cross_entropy(
        logits.flatten(0, 1).float(), work.labels.flatten(), ignore_index=IGNORE, reduction="none"
    )
    return each.view(runs, -1).sum(dim=1)
