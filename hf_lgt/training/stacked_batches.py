"""The batches of several runs side by side, in passes for their stacked models.

Each run's examples are sorted by length; the i-th of all runs are padded to the longest of them, so that
the runs' rows have the same shapes. Where all runs draw the same batch, that pads nothing more.

Dimensions: S runs, B examples of a step of each, b of a pass, w tokens of a pass, N of a packed one.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from hf_lgt.data.batching import IGNORE, Batch, Pass, even_split, pass_tokens
from hf_lgt.models.forward import logits_of
from hf_lgt.models.packing import MOST_TOKENS, PackedPass, pack_rows, packed_logits


def join_batches(batches: Sequence[Batch]) -> Batch:
    """The batches of S runs with as many examples a step, which have position IDs and halves all or none.

    Returns:
        Each run's rows sorted by length; `lengths` is that of the i-th longest example of any run.
    """
    width = max(batch.ids.shape[1] for batch in batches)
    orders = [np.argsort(batch.lengths, kind="stable") for batch in batches]
    every = list(zip(batches, orders, strict=True))

    def side_by_side(name: str) -> Any:
        if getattr(batches[0], name) is None:
            return None
        rows = [getattr(batch, name)[order] for batch, order in every]
        return np.stack([np.pad(own, ((0, 0), (0, width - own.shape[1]))) for own in rows])

    lengths = np.max([batch.lengths[order] for batch, order in every], axis=0)
    ids, scored, positions = (side_by_side(name) for name in ("ids", "scored", "positions"))
    halves = None
    if batches[0].halves is not None:
        halves = np.stack([batch.halves[order] for batch, order in every])  # type: ignore[index]
    return Batch(ids, lengths, scored, positions, halves)


def padded_passes(joined: Batch, pieces: int, buckets: int, device: torch.device) -> list[Pass]:
    """Passes of [S * b, w] tokens, run by run.

    Args:
        joined: the batches, from `join_batches`.
        pieces: least number of passes, as far as there are examples.
        buckets: passes, unless they would have many more tokens than `pass_tokens` says.
        device: of the model.
    """
    tokens = len(joined.ids) * int(joined.lengths.sum())
    pieces = max(pieces, -(-tokens // pass_tokens(MOST_TOKENS, device)))
    return even_split(joined, pieces, buckets)


def packed_passes(joined: Batch, pieces: int, device: torch.device) -> list[PackedPass]:
    """Passes of [S, N] tokens, a row of each run; see `hf_lgt.models.packing`.

    Args:
        joined: the batches, without halves of heads.
        pieces: least number of passes, as far as there are examples.
        device: of the model.
    """
    runs, count = joined.ids.shape[:2]
    tokens = runs * int((joined.lengths - 1).sum())
    passes = min(max(pieces, -(-tokens // pass_tokens(MOST_TOKENS, device))), count)
    return [pack_rows(joined, np.arange(start, count, passes)) for start in range(passes)]


def run_losses(model: Any, work: Pass | PackedPass, runs: int) -> torch.Tensor:
    """Cross entropy summed over the scored tokens of each run, float32 [S]; see `answer_loss`."""
    logits = logits_of(model, work) if isinstance(work, Pass) else packed_logits(model, work)
    each = F.cross_entropy(
        logits.flatten(0, 1).float(), work.labels.flatten(), ignore_index=IGNORE, reduction="none"
    )
    return each.view(runs, -1).sum(dim=1)
