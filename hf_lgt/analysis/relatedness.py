"""How related are two tasks to a model that has seen little of both? Scores of one model.

All are made of test examples at two ranges of length: *near* ones, which both tasks are trained on, and *far*
ones, which only the auxiliary is. Each score is larger where the tasks are more alike.

Dimensions: L layers, H heads a layer, d the size of a head, B examples, K answer tokens, D hidden size.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hf_lgt.analysis.ablation import AblationMap, ablation_map, parts, score
from hf_lgt.data.batching import Batch, make_pass
from hf_lgt.models.forward import answer_loss, inference, run_pass
from hf_lgt.models.heads import Heads, find_heads
from hf_lgt.utils.errors import ConfigError

SCORES = {
    "gradient": "gradient cosine",
    "gradient_far": "gradient cosine, far",
    "gradient_heads": "gradient cosine by head",
    "ablation": "overlap of ablation maps",
    "cka": "CKA of representations",
    "early": "early accuracy, far",
}
"""name -> what a score is called"""


@dataclass(frozen=True)
class TaskGradient:
    """Gradient of a task's loss an answer token, without embeddings and output layer."""

    by_layer: tuple[torch.Tensor, ...]
    """float32 [parameters of the layer] each"""
    by_head: torch.Tensor
    """float32 [L, H, D * d], of the part of the output projection that reads the head"""


@dataclass(frozen=True)
class Relatedness:
    """What one model says of a target and an auxiliary."""

    scores: Mapping[str, float | None]
    """each of `SCORES`; None where it is not defined, as the cosine of a gradient that is 0"""
    gradient_by_layer: tuple[float | None, ...]
    """[L], near"""
    gradient_by_head: tuple[tuple[float | None, ...], ...]
    """[L][H], near"""
    cka_by_layer: tuple[float | None, ...]
    """[L]"""


def relatedness(
    model: Any,
    near: tuple[Sequence[Batch], Sequence[Batch]],
    far: tuple[Sequence[Batch], Sequence[Batch]],
    *,
    batch_tokens: int = 65_536,
) -> Relatedness:
    """Every score of a target and an auxiliary.

    Args:
        model: a causal language model whose family `hf_lgt.models.heads` knows.
        near: test examples of the target and of the auxiliary, a batch a length, the same lengths of both.
        far: the same at lengths beyond the target's training.
        batch_tokens: tokens a pass; a quarter of them where gradients are taken.

    Raises:
        ConfigError: the model's family is not known.
    """
    target, auxiliary = (task_gradient(model, own, batch_tokens=batch_tokens // 4) for own in near)
    by_layer = tuple(map(cosine, target.by_layer, auxiliary.by_layer))
    by_head = tuple(tuple(map(cosine, *pair)) for pair in zip(target.by_head, auxiliary.by_head, strict=True))
    long = [torch.cat(task_gradient(model, own, batch_tokens=batch_tokens // 4).by_layer) for own in far]
    longest = [ablation_map(model, own[-1], batch_tokens=batch_tokens) for own in near]
    means = [[answer_means(model, batch, batch_tokens=batch_tokens) for batch in own] for own in near]
    alike = tuple(cka(*rows) for rows in zip(*_same_places(*means), strict=True))
    scores = {
        "gradient": cosine(torch.cat(target.by_layer), torch.cat(auxiliary.by_layer)),
        "gradient_far": cosine(*long),
        "gradient_heads": _mean([value for row in by_head for value in row]),
        "ablation": overlap(*longest),
        "cka": _mean(alike),
        "early": fmean(score(model, batch, batch_tokens=batch_tokens)[1] for batch in far[0]),
    }
    return Relatedness(scores, by_layer, by_head, alike)


def task_gradient(model: Any, batches: Sequence[Batch], *, batch_tokens: int = 16_384) -> TaskGradient:
    """Gradient of the mean loss over the answer tokens of some examples.

    The model is left as it was: nothing is added to the gradients that it has.

    Args:
        model: a causal language model whose family `hf_lgt.models.heads` knows.
        batches: the examples.
        batch_tokens: tokens a pass; it keeps their activations, unlike one without gradients.

    Raises:
        ConfigError: the model's family is not known.
    """
    heads = find_heads(model)
    blocks = [[p for p in block.parameters() if p.requires_grad] for block in heads.blocks]
    weights: list[torch.Tensor] = [projection.weight for projection in heads.projections]  # type: ignore[misc]
    wanted = [p for block in blocks for p in block]
    index = {id(p): i for i, p in enumerate(wanted)}
    total = [torch.zeros_like(p) for p in wanted]
    answers = sum(batch.answer_tokens for batch in batches)
    was_training, device = model.training, wanted[0].device
    model.eval()
    try:
        for batch in batches:
            for rows in parts(model, len(batch.lengths), batch.ids.shape[1], batch_tokens):
                loss = answer_loss(model, make_pass(batch, rows).to(device)) / answers
                found = torch.autograd.grad(loss, wanted, allow_unused=True)
                total = [t if g is None else t + g for t, g in zip(total, found, strict=True)]
    finally:
        model.train(was_training)
    flat = tuple(torch.cat([total[index[id(p)]].flatten() for p in block]).float() for block in blocks)
    reads = [_by_head(heads, i, total[index[id(w)]].float()) for i, w in enumerate(weights)]
    return TaskGradient(flat, torch.stack(reads))


def _by_head(heads: Heads, layer: int, gradient: torch.Tensor) -> torch.Tensor:
    """The part of a projection's gradient that reads each head, [H, D * d]."""
    # GPT-2's projections keep their weights the other way round
    is_linear = isinstance(heads.projections[layer], torch.nn.Linear)
    by_input = gradient.T if is_linear else gradient
    return by_input.reshape(heads.count, -1)


def cosine(first: torch.Tensor, second: torch.Tensor) -> float | None:
    """Cosine of two vectors, None where one is 0."""
    first, second = first.double(), second.double()
    norms = float(first.norm()) * float(second.norm())
    return float(first @ second) / norms if norms else None


def overlap(first: AblationMap, second: AblationMap) -> float | None:
    """How far two tasks need the same heads, from 0 to 1: the shared part of what they need in all.

    Of the token accuracy that is lost without each head, the sum of the smaller of the two tasks' losses over
    that of the larger (weighted Jaccard similarity); what a task gains without a head counts as 0.

    Returns:
        None where neither task loses anything.
    """
    lost = np.maximum(0, np.stack([first.tokens_lost, second.tokens_lost]))
    union = float(lost.max(axis=0).sum())
    return float(lost.min(axis=0).sum()) / union if union else None


def answer_means(model: Any, batch: Batch, *, batch_tokens: int = 65_536) -> NDArray[np.float64]:
    """Mean representation from which each token of the answer is predicted.

    Args:
        model: a causal language model.
        batch: examples of one task and length.
        batch_tokens: tokens a pass.

    Returns:
        float64 [L, K, D], after each layer, and after the final norm in place of the last; the mean over the
        examples that have a k-th scored token.
    """
    places = batch.scored[:, 1:]
    ranks = np.cumsum(places, axis=1) - 1
    most = int(places.sum(axis=1).max())
    device = next(model.parameters()).device
    total: NDArray[np.float64] | None = None
    with inference(model):
        for rows in parts(model, len(batch.lengths), batch.ids.shape[1], batch_tokens):
            work = make_pass(batch, rows).to(device)
            # logits are not asked for, but models give them at one position at least
            found_here = run_pass(model, work, output_hidden_states=True, logits_to_keep=1)
            if found_here.hidden_states is None:
                told = f"model: a {type(model).__name__} gives no hidden states, which are compared"
                raise ConfigError([told])
            states = found_here.hidden_states[1:]
            here = np.nonzero(places[rows][:, : work.input_ids.shape[1]])
            found = np.stack([own.double().cpu().numpy()[here] for own in states])
            total = np.zeros((len(states), most, found.shape[-1])) if total is None else total
            for layer, own in enumerate(found):
                np.add.at(total[layer], ranks[rows][here], own)
    assert total is not None, "a batch has examples"
    counts = np.bincount(ranks[places], minlength=most)
    return total / counts[:, None]


def _same_places(
    first: Sequence[NDArray[np.float64]], second: Sequence[NDArray[np.float64]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Means of two tasks at the answer tokens that both have at each length, float64 [L, rows, D] each."""
    both = list(zip(first, second, strict=True))
    shared = [min(a.shape[1], b.shape[1]) for a, b in both]
    a, b = ([pair[i][:, :k] for pair, k in zip(both, shared, strict=True)] for i in (0, 1))
    return np.concatenate(a, axis=1), np.concatenate(b, axis=1)


def cka(first: NDArray[np.float64], second: NDArray[np.float64]) -> float | None:
    """Linear centred kernel alignment (Kornblith et al. 2019, arXiv 1905.00414), about 0 to 1.

    With the unbiased estimate of the similarity (Song et al. 2012), which few rows of many dimensions do not
    make large by themselves; so it can be a little below 0.

    Args:
        first: float64 [n, D], n at least 4.
        second: float64 [n, E], of the same n things.

    Returns:
        None with fewer rows, or where all rows of one are alike.
    """
    n = len(first)
    if n < 4:
        return None
    kernels = []
    for given in (first, second):
        rows = given - given.mean(axis=0)
        if np.abs(rows).max() <= 1e-12 * np.abs(given).max():  # equal up to floating-point error
            return None
        kernel = rows @ rows.T
        np.fill_diagonal(kernel, 0.0)
        kernels.append(kernel)

    def similarity(k: NDArray[np.float64], m: NDArray[np.float64]) -> float:
        whole = float(k.sum() * m.sum()) / ((n - 1) * (n - 2))
        crossed = 2 * float(k.sum(axis=0) @ m.sum(axis=0)) / (n - 2)
        return (float((k * m).sum()) + whole - crossed) / (n * (n - 3))

    a, b = kernels
    own = similarity(a, a) * similarity(b, b)
    return similarity(a, b) / float(np.sqrt(own)) if own > 0 else None


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return fmean(known) if known else None
