"""Which heads carry what was transferred? Their outputs are moved from one model into another.

On the same prompts, what a head of the receiver writes is replaced by what the same head of the donor
writes: the target alone receives, the model that was trained with the auxiliaries gives. Both must have begun
from the same weights, so that heads of one place have anything to do with each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hf_lgt.analysis.ablation import score, score_each, score_with
from hf_lgt.data.batching import Batch, make_pass
from hf_lgt.models.forward import inference, logits_of
from hf_lgt.models.heads import changed, find_heads


@dataclass(frozen=True)
class PatchMap:
    """The receiver's score with heads of the donor; of each pair exact match and token accuracy."""

    receiver: tuple[float, float]
    """as it is"""
    donor: tuple[float, float]
    """as it is"""
    by_head: NDArray[np.float64]
    """[L, H, 2] with one head of the donor"""
    by_layer: NDArray[np.float64]
    """[L, 2] with all heads of a layer"""
    together: tuple[float, float]
    """with all heads of all layers"""

    def restored(self, found: NDArray[np.float64]) -> NDArray[np.float64]:
        """Share of the token accuracy between receiver and donor that comes back; nan where there is none."""
        between = self.donor[1] - self.receiver[1]
        return (found[..., 1] - self.receiver[1]) / (between or np.nan)


def patch_map(receiver: Any, donor: Any, batch: Batch, *, batch_tokens: int = 65_536) -> PatchMap:
    """Score a batch with the receiver's heads replaced by the donor's, one by one, by layer, and all.

    Args:
        receiver: a causal language model whose family `hf_lgt.models.heads` knows.
        donor: another of the same sizes.
        batch: test examples of one task and length.
        batch_tokens: tokens a pass.

    Raises:
        ConfigError: a model's family is not known.
        ValueError: the two have other layers or heads.
    """
    own, theirs = find_heads(receiver), find_heads(donor)
    if (own.layers, own.count) != (theirs.layers, theirs.count):
        raise ValueError(
            f"the receiver has {own.layers} layers of {own.count} heads, the donor {theirs.layers} of "
            f"{theirs.count}; heads can be moved between models of one size"
        )

    def wrote(rows: NDArray[np.int64], layer: int | None = None) -> torch.Tensor:
        """What the donor's heads write, [L, b, W, H, d], or those of one layer."""
        kept: list[torch.Tensor] = []
        work = make_pass(batch, rows).to(next(donor.parameters()).device)
        with inference(donor), changed(theirs, lambda _, written: kept.append(written)):
            logits_of(donor, work)
        return torch.stack(kept) if layer is None else kept[layer]

    by_head = np.empty((own.layers, own.count, 2))
    for layer in range(own.layers):
        here = partial(wrote, layer=layer)
        by_head[layer] = score_each(receiver, own, layer, batch, here, batch_tokens=batch_tokens)
    by_layer = [
        score_with(
            receiver, batch, [(n, head) for head in range(own.count)], wrote, batch_tokens=batch_tokens
        )
        for n in range(own.layers)
    ]
    return PatchMap(
        score(receiver, batch, batch_tokens=batch_tokens),
        score(donor, batch, batch_tokens=batch_tokens),
        by_head,
        np.array(by_layer),
        score_with(receiver, batch, own.every, wrote, batch_tokens=batch_tokens),
    )
