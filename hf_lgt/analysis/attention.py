"""Attention matrices, and how much those of two tasks differ (the paper's figures 18 and 19).

Dimensions: L layers, H heads a layer, W tokens.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hf_lgt.analysis.ablation import parts
from hf_lgt.data.batching import Batch, make_pass
from hf_lgt.models.forward import inference, run_pass


def attention_means(model: Any, batch: Batch, *, batch_tokens: int = 16_384) -> NDArray[np.float32]:
    """Mean attention matrix of each head.

    Args:
        model: a causal language model of transformers whose attention can be computed eagerly.
        batch: examples, of which the last token is never read.
        batch_tokens: tokens a pass; matrices of all layers are kept for as many.

    Returns:
        float32 [L, H, W, W], rows are the queries; the mean over the examples that have a token there.

    Raises:
        ValueError: the model gives no attention weights.
    """
    width = int(batch.lengths.max()) - 1
    present = np.arange(width) < batch.lengths[:, None] - 1
    device = next(model.parameters()).device
    total: torch.Tensor | None = None
    with inference(model), eager(model):
        for rows in parts(model, len(batch.lengths), width, batch_tokens):
            work = make_pass(batch, rows, width + 1).to(device)
            given = run_pass(model, work, output_attentions=True).attentions
            if not given or given[0] is None:
                raise ValueError(f"{type(model).__name__} gives no attention weights")
            here = torch.from_numpy(present[rows]).to(device)[:, None, :, None]
            found = torch.stack([torch.where(here, own, 0).sum(dim=0, dtype=torch.float64) for own in given])
            total = found if total is None else total + found
    assert total is not None, "a batch has examples"
    means: NDArray[np.float32] = (total.cpu().numpy() / present.sum(axis=0)[:, None]).astype(np.float32)
    return means


def attention_difference(first: NDArray[np.float32], second: NDArray[np.float32]) -> NDArray[np.float64]:
    """Per head, the sum of the absolute entry-wise differences of two tasks' attention matrices.

    Args:
        first: float32 [L, H, W, W] of `attention_means`.
        second: the other task's, with a W of its own: the positions that both have are compared.

    Returns:
        float64 [L, H], from 0 to twice the compared positions.
    """
    width = min(first.shape[-1], second.shape[-1])
    a, b = (own[..., :width, :width].astype(np.float64) for own in (first, second))
    difference: NDArray[np.float64] = np.abs(a - b).sum(axis=(-2, -1))
    return difference


@contextmanager
def eager(model: Any) -> Iterator[None]:
    """Let attention be computed so that its weights can be had; what was set comes back."""
    base = model.get_base_model() if hasattr(model, "get_base_model") else model
    before = base.config._attn_implementation
    base.set_attn_implementation("eager")
    try:
        yield
    finally:
        base.set_attn_implementation(before)
