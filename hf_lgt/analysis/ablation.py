"""Mean ablation: how much a task needs each head.

What a head writes is replaced by its mean over the batch, position by position, and the task is scored
again. All heads of a layer are done in one pass over copies of the batch, each copy with another head
replaced.

Dimensions: L layers, H heads a layer, d the size of a head, B examples, W tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hf_lgt.data.batching import IGNORE, Batch, Pass, make_pass, pass_tokens
from hf_lgt.evaluation.metrics import score_tokens
from hf_lgt.models.forward import inference, logits_of
from hf_lgt.models.heads import Heads, changed, find_heads


@dataclass(frozen=True)
class AblationMap:
    """What a task's score is without each head."""

    exact_match: float
    """of the model as it is"""
    token_accuracy: float
    exact_without: NDArray[np.float64]
    """[L, H] exact match without the head"""
    tokens_without: NDArray[np.float64]
    """[L, H] token accuracy without the head"""

    @property
    def exact_lost(self) -> NDArray[np.float64]:
        """[L, H] exact match lost without the head; below 0 where it gets better."""
        return self.exact_match - self.exact_without

    @property
    def tokens_lost(self) -> NDArray[np.float64]:
        """[L, H] token accuracy lost without the head."""
        return self.token_accuracy - self.tokens_without


def head_means(model: Any, batch: Batch, *, batch_tokens: int = 65_536) -> torch.Tensor:
    """What each head writes at each position, the mean over the examples that have a token there.

    Args:
        model: a causal language model whose family `hf_lgt.models.heads` knows.
        batch: the examples, B of at most W + 1 tokens, the last of which is never read.
        batch_tokens: tokens a pass.

    Returns:
        float32 [L, W, H, d], on the model's device.
    """
    heads = find_heads(model)
    sums: dict[int, torch.Tensor] = {}
    width = int(batch.lengths.max()) - 1
    device = _device(model)
    present = torch.from_numpy(np.arange(width) < batch.lengths[:, None] - 1).to(device)
    for rows in parts(model, len(batch.lengths), width, batch_tokens):
        here = present[torch.from_numpy(rows).to(device)][:, :, None, None]

        def add(layer: int, wrote: torch.Tensor, here: torch.Tensor = here) -> None:
            total = torch.where(here, wrote, 0).sum(dim=0, dtype=torch.float64)
            sums[layer] = sums[layer] + total if layer in sums else total

        with inference(model), changed(heads, add):
            logits_of(model, make_pass(batch, rows, width + 1).to(device))
    counts = present.sum(dim=0)[:, None, None]
    return torch.stack([sums[layer] / counts for layer in range(heads.layers)]).float()


def ablation_map(
    model: Any, batch: Batch, *, means: torch.Tensor | None = None, batch_tokens: int = 65_536
) -> AblationMap:
    """Score a batch without each of the heads in turn.

    Args:
        model: a causal language model whose family `hf_lgt.models.heads` knows.
        batch: test examples of one task and length, B of them.
        means: what replaces the heads' outputs, [L, W, H, d]; None: see `head_means`.
        batch_tokens: tokens a pass, of all copies of the examples.

    Raises:
        ConfigError: the model's family is not known.
    """
    heads = find_heads(model)
    if means is None:
        means = head_means(model, batch, batch_tokens=batch_tokens)
    whole = score(model, batch, batch_tokens=batch_tokens)
    without = np.empty((heads.layers, heads.count, 2))
    for layer in range(heads.layers):
        mean = partial(_same, means[layer][None])
        without[layer] = score_each(model, heads, layer, batch, mean, batch_tokens=batch_tokens)
    return AblationMap(*whole, without[..., 0], without[..., 1])


def score_without(
    model: Any,
    batch: Batch,
    ablated: Sequence[tuple[int, int]],
    *,
    means: torch.Tensor | None = None,
    batch_tokens: int = 65_536,
) -> tuple[float, float]:
    """(exact match, token accuracy) without several heads at once.

    Args:
        model: as for `ablation_map`.
        batch: the test examples.
        ablated: (layer, head) of each.
        means: what replaces their outputs, [L, W, H, d]; None: see `head_means`.
        batch_tokens: tokens a pass.
    """
    if means is None:
        means = head_means(model, batch, batch_tokens=batch_tokens)
    return score_with(model, batch, ablated, partial(_same, means[:, None]), batch_tokens=batch_tokens)


def score_with(
    model: Any,
    batch: Batch,
    replaced: Sequence[tuple[int, int]],
    written: Callable[[NDArray[np.int64]], torch.Tensor],
    *,
    batch_tokens: int = 65_536,
) -> tuple[float, float]:
    """(exact match, token accuracy) with several heads at once writing something else.

    Args:
        model: as for `ablation_map`.
        batch: the test examples.
        replaced: (layer, head) of each.
        written: gives what all heads write instead, for some rows of the batch: [L, b, W, H, d], or
            [L, 1, W, H, d] where it is the same for all.
        batch_tokens: tokens a pass.
    """
    heads = find_heads(model)
    chosen: dict[int, list[int]] = {}
    for layer, head in replaced:
        chosen.setdefault(layer, []).append(head)
    exact = hits = total = 0
    for rows in parts(model, len(batch.lengths), batch.ids.shape[1], batch_tokens):
        instead, work = written(rows), make_pass(batch, rows)

        def replace(layer: int, wrote: torch.Tensor, instead: torch.Tensor = instead) -> torch.Tensor:
            wrote, own = wrote.clone(), chosen[layer]
            wrote[:, :, own] = instead[layer, :, : wrote.shape[1]][:, :, own].to(wrote.dtype)
            return wrote

        with inference(model), changed(heads, replace, sorted(chosen)):
            matches, right, scored = _scored(logits_of(model, work.to(_device(model))), work)
        exact, hits, total = exact + matches.sum(), hits + right.sum(), total + scored.sum()
    return exact / len(batch.lengths), hits / total


def score(model: Any, batch: Batch, *, batch_tokens: int = 65_536) -> tuple[float, float]:
    """(exact match, token accuracy) of a batch by one teacher-forced pass."""
    return score_with(model, batch, [], lambda _: torch.empty(0), batch_tokens=batch_tokens)


def score_each(
    model: Any,
    heads: Heads,
    layer: int,
    batch: Batch,
    written: Callable[[NDArray[np.int64]], torch.Tensor],
    *,
    batch_tokens: int = 65_536,
) -> NDArray[np.float64]:
    """Score a batch with one head of a layer after the other writing something else.

    All are done over copies of the examples, each copy with another head.

    Args:
        model: a causal language model.
        heads: its heads.
        layer: which.
        batch: the test examples.
        written: gives what the heads of the layer write instead, for some rows of the batch: [b, W, H, d],
            or [1, W, H, d] where it is the same for all.
        batch_tokens: tokens a pass, of all copies.

    Returns:
        float64 [H, 2], exact match and token accuracy.
    """
    n, width = batch.lengths.size, batch.ids.shape[1]
    counts = np.zeros((heads.count, 3))
    together = max(1, min(heads.count, batch_tokens // width))
    for first in range(0, heads.count, together):
        own = torch.arange(first, min(first + together, heads.count))
        copies = len(own)
        for rows in parts(model, n, width * copies, batch_tokens):
            instead = written(rows)

            def replace(
                _: int, wrote: torch.Tensor, own: torch.Tensor = own, instead: torch.Tensor = instead
            ) -> torch.Tensor:
                wrote = wrote.clone().view(len(own), -1, *wrote.shape[1:])
                for copy, head in enumerate(own.tolist()):
                    wrote[copy, :, :, head] = instead[:, : wrote.shape[2], head].to(wrote.dtype)
                return wrote.flatten(0, 1)

            several = _repeated(make_pass(batch, rows), copies)
            with inference(model), changed(heads, replace, [layer]):
                found = _scored(logits_of(model, several.to(_device(model))), several)
            for i, part in enumerate(found):
                counts[first : first + copies, i] += part.reshape(copies, -1).sum(axis=1)
    return np.stack([counts[:, 0] / n, counts[:, 1] / counts[:, 2]], axis=1)


def _same(values: torch.Tensor, _: NDArray[np.int64]) -> torch.Tensor:
    """What is written in the place of heads, whatever the rows."""
    return values


def _scored(logits: torch.Tensor, work: Pass) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Of each row: whether all is right, tokens right, tokens scored."""
    labels = work.labels.numpy()
    return score_tokens(logits.argmax(dim=-1).cpu().numpy(), labels, labels != IGNORE)


def _repeated(work: Pass, copies: int) -> Pass:
    numbers = None if work.position_ids is None else work.position_ids.repeat(copies, 1)
    halves = None if work.halves is None else work.halves.repeat(copies)
    ids, labels = work.input_ids.repeat(copies, 1), work.labels.repeat(copies, 1)
    starts = None if work.prompt_tokens is None else work.prompt_tokens.repeat(copies)
    return Pass(ids, work.keep, labels, numbers, halves, starts)


def parts(model: Any, n: int, width: int, batch_tokens: int) -> list[NDArray[np.int64]]:
    """The rows of each pass of a model over `n` examples of `width` tokens."""
    pieces = -(-n * width // pass_tokens(batch_tokens, _device(model)))
    return [*np.array_split(np.arange(n), min(n, pieces))]


def _device(model: Any) -> torch.device:
    device: torch.device = next(model.parameters()).device
    return device
