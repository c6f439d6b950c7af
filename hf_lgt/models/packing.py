"""Sequence packing with block-diagonal attention: a batch's examples in a single row, without padding.

All that works on single tokens (projections, feed-forward layers, norms, output layer) then meets no
padding at all; attention is taken within the examples, those of one length together. On a CPU, where
padding costs as much as tokens do, this is faster than sorting examples into padded buckets; on a GPU
the many small kernels may not be.

Models reach it through the attention interface of transformers
(https://huggingface.co/docs/transformers/attention_interface), which most families use. Whether one
works is tried on a small example rather than looked up.

Dimensions: N tokens of all examples, K answer tokens, H heads, d the size of a head.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from transformers import AttentionInterface

from hf_lgt.config.schema import TrainConfig
from hf_lgt.data.batching import IGNORE, Batch, moved, tensor_of
from hf_lgt.models.causal_attention import attention_named, causal, kind_fault, logits_fault, require_plain
from hf_lgt.models.heads import is_looped
from hf_lgt.models.short_attention import attend, is_short
from hf_lgt.utils.errors import ConfigError

NAME = "hf_lgt_packed"
"""of the attention function, as transformers knows it"""
MOST_TOKENS = 16_384
"""of a pass, to bound its activations, and less on a CPU; more where a single example is longer"""

Groups = tuple[tuple[int, int], ...]
"""(examples, tokens of each), in the order of the row"""

_groups: ContextVar[Groups] = ContextVar("groups of the packed row")


@dataclass(frozen=True)
class PackedPass:
    """What one forward pass takes: a row, or one of each of S stacked models."""

    input_ids: torch.Tensor
    """int64 [S, N]"""
    position_ids: torch.Tensor
    """int64 [1 or S, N], the position ID of each token in its example"""
    keep: torch.Tensor
    """int64 [K], places in the rows whose logits predict a scored token of some row"""
    labels: torch.Tensor
    """int64 [S, K], the tokens to predict, `IGNORE` where one does not count"""
    groups: Groups

    def to(self, device: torch.device) -> PackedPass:
        """A copy on a device."""
        return moved(self, device)


def pack_rows(batch: Batch, rows: NDArray[np.int64]) -> PackedPass:
    """The forward pass of some rows in one row, sorted by length; of S runs, in a row of each.

    The last token of each example is only predicted, never read.

    Args:
        batch: a step's examples, without halves of heads.
        rows: which of them.
    """
    order = rows[np.argsort(batch.lengths[rows], kind="stable")]
    read = batch.lengths[order] - 1
    width = int(read.max())
    inside = np.arange(width) < read[:, None]

    def in_a_row(part: NDArray[Any], first: int = 0) -> NDArray[Any]:
        return part[..., order, first : width + first][..., inside].reshape(-1, int(read.sum()))

    scored = in_a_row(batch.scored, 1)
    keep = np.flatnonzero(scored.any(axis=0))
    if batch.positions is None:
        numbers = np.broadcast_to(np.arange(width), inside.shape)[inside][None]
    else:
        numbers = in_a_row(batch.positions)
    lengths, counts = np.unique(read, return_counts=True)
    return PackedPass(
        tensor_of(in_a_row(batch.ids)),
        tensor_of(numbers),
        tensor_of(keep),
        tensor_of(np.where(scored, in_a_row(batch.ids, 1), IGNORE)[:, keep]),
        tuple(zip(counts.tolist(), lengths.tolist(), strict=True)),
    )


def pack_split(
    batch: Batch, pieces: int, rank: int = 0, world: int = 1, most_tokens: int = MOST_TOKENS
) -> list[PackedPass]:
    """Cut a global batch into passes for one process.

    All processes make the same number of passes, of which each takes every `world`-th row. None holds more
    than 1/`pieces` of the examples, and none many more than `most_tokens` tokens.

    Args:
        batch: the step's examples; their number must be a multiple of `world`.
        pieces: least number of passes, at most one for each `world` examples.
        rank: this process.
        world: number of processes.
        most_tokens: of a pass.
    """
    assert len(batch.lengths) % world == 0, "checked at the start of training"
    order = np.argsort(batch.lengths, kind="stable").reshape(-1, world)
    most = int(batch.lengths[order].max(axis=1).sum())  # of any process
    count = min(max(pieces, -(-most // most_tokens)), len(order))
    # strided, so that every pass has short and long examples, and all about as many tokens
    return [pack_rows(batch, order[start::count, rank]) for start in range(count)]


def packed_logits(model: Any, work: PackedPass) -> torch.Tensor:
    """Logits at the kept places only, [S, K, vocabulary]."""
    with packed_attention(model, work.groups):
        logits: torch.Tensor = model(
            input_ids=work.input_ids,
            position_ids=work.position_ids,
            use_cache=False,
            logits_to_keep=work.keep,
        ).logits
    return logits


def packed_loss(model: Any, work: PackedPass) -> torch.Tensor:
    """Cross entropy summed over the scored tokens of a pass, a float32 scalar; see `answer_loss`."""
    return F.cross_entropy(packed_logits(model, work)[0].float(), work.labels[0], reduction="sum")


@contextmanager
def packed_attention(model: Any, groups: Groups) -> Iterator[None]:
    """Take attention within the groups' examples; the model is as before afterwards.

    The rows of a pass have their examples in the same places: one row, or one of each model of a stacked one.
    """
    token = _groups.set(groups)
    try:
        with attention_named(model, NAME):
            yield
    finally:
        _groups.reset(token)


def _attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **more: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention within each example: [S, heads, N, d] each, gives [S, N, H, d].

    S rows at a time have the same groups, see `packed_attention`.
    """
    require_plain(attention_mask, more)
    groups = _groups.get()
    if is_short(query, groups, dropout):
        return attend(query, key, value, scaling, groups), None
    sizes = [count * length for count, length in groups]
    # split, not sliced: its gradient is put together once and not added up group by group
    parts = [torch.split(t.transpose(1, 2), sizes, dim=1) for t in (query, key, value)]
    wrote = []
    for group, *own in zip(groups, *parts, strict=True):
        q, k, v = (t.reshape(-1, group[1], *t.shape[2:]).transpose(1, 2) for t in own)
        out = causal(q, k, v, dropout, scaling)
        wrote.append(out.transpose(1, 2).reshape(len(query), -1, *out.shape[1:2], out.shape[3]))
    return torch.cat(wrote, dim=1), None


AttentionInterface.register(NAME, _attention)


def packing_fault(model: Any) -> str | None:
    """Why a model cannot be trained in packed rows, None where it can; tried on two short examples.

    Args:
        model: a causal language model, whose mode comes back.
    """
    if fault := kind_fault(model):
        return fault
    if is_looped(model):
        return f"{type(model).__name__} works on each row as long as its prompt asks"
    device = next(model.parameters()).device
    ids = torch.tensor([[0, 1, 2, 1, 2, 0, 1], [2, 0, 1, 0, 0, 2, 1]], device=device)
    texts = [row[:n] for row, n in zip(ids, (3, 7), strict=True)]

    def single() -> torch.Tensor:
        return torch.cat([model(input_ids=text[None], use_cache=False).logits[0] for text in texts])

    def packed() -> torch.Tensor:
        numbers = torch.cat([torch.arange(len(text), device=device) for text in texts])[None]
        with packed_attention(model, tuple((1, len(text)) for text in texts)):
            row = torch.cat(texts)[None]
            logits: torch.Tensor = model(input_ids=row, position_ids=numbers, use_cache=False).logits[0]
        return logits

    return logits_fault(model, single, packed)


def require_packing(layout: str, model: Any) -> None:
    """Refuse a model that cannot be trained as ``train.layout`` says.

    Args:
        layout: as ``train.layout``.
        model: a causal language model.

    Raises:
        ConfigError: ``packed`` was asked for and the model cannot.
    """
    if layout == "packed" and (fault := packing_fault(model)) is not None:
        raise ConfigError([f"train.layout: 'packed': {fault}; take 'padded'"])


def choose_layout(config: TrainConfig, model: Any, device: torch.device) -> bool:
    """Whether batches are packed, by ``train.layout``.

    Args:
        config: ``packed``, ``padded``, or ``auto``: packed on a CPU where the model can.
        model: the bare causal language model.
        device: where it is trained.

    Raises:
        ConfigError: ``packed`` was asked for and the model cannot.
    """
    if config.layout == "padded":
        return False
    if config.layout == "packed":
        require_packing(config.layout, model)
        return True
    unfit = config.compile or config.gradient_checkpointing
    return not unfit and device.type == "cpu" and packing_fault(model) is None


def wants_packing(batch: Batch) -> bool:
    """Whether a batch would be padded, and its examples may use all heads: in one row they cannot differ."""
    return batch.halves is None and bool((batch.lengths != batch.lengths[0]).any())
