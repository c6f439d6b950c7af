"""The cross-check of teacher-forced exact match: what `generate` really writes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from data_builders import Component
from data_builders.sampling import draw_test_set
from hf_lgt.batching import IGNORE, Batch, logits_of, make_pass
from hf_lgt.codec import Codec
from hf_lgt.evaluation.harness import encode_test_set, inference
from hf_lgt.evaluation.metrics import score_tokens


@dataclass(frozen=True)
class Agreement:
    """Teacher-forced exact match against greedy generation, on one test set."""

    task: str
    length: int
    n: int
    teacher_forced: float
    """exact match by one teacher-forced pass"""
    generated: float
    """exact match of what `generate` wrote"""
    disagreements: int
    """examples on which the two differ"""
    widest_margin: float | None
    """over those, the largest of the examples' smallest leads of the best logit over the next at an
    answer position: within rounding, all are ties. None without disagreement."""


def check_generation(
    model: Any, codec: Codec, component: Component, length: int, *, examples: int, seed: int
) -> Agreement:
    """Score one test set both ways.

    Only tasks whose whole target counts can be checked: with `mqar` the query characters are given.

    Raises:
        ValueError: the task scores only a part of its target.
    """
    test = draw_test_set(component, length, examples, seed)
    if not test.examples.scores_eos:
        raise ValueError(f"{component.task} gives parts of its target; greedy generation is no check")
    batch = encode_test_set(codec, component, test)
    device = next(model.parameters()).device
    with inference(model):
        work = make_pass(batch, np.arange(len(batch.lengths)))
        logits = logits_of(model, work.to(device)).float().cpu()
        best = logits.topk(2, dim=-1)
        labels = work.labels.numpy()
        forced, _, _ = score_tokens(best.indices[..., 0].numpy(), labels, labels != IGNORE)
        written = _generate(model, batch, codec, device)
    lead = (best.values[..., 0] - best.values[..., 1]).numpy()
    lead = np.where(labels != IGNORE, lead, np.inf).min(axis=1)
    differ = forced != written
    return Agreement(
        task=component.task,
        length=length,
        n=len(forced),
        teacher_forced=float(forced.mean()),
        generated=float(written.mean()),
        disagreements=int(differ.sum()),
        widest_margin=float(lead[differ].max()) if differ.any() else None,
    )


def _generate(model: Any, batch: Batch, codec: Codec, device: torch.device) -> NDArray[np.bool_]:
    """Whether greedy generation writes each target exactly, bool [n]."""
    starts = batch.scored.argmax(axis=1)
    exact = np.zeros(len(starts), dtype=np.bool_)
    # Prompts of one width go together: no padding can then have an effect.
    for start in np.unique(starts):
        rows = np.flatnonzero(starts == start)
        longest = int(batch.lengths[rows].max() - start)
        prompts = torch.from_numpy(batch.ids[rows, :start]).to(device)
        out = model.generate(
            prompts,
            attention_mask=torch.ones_like(prompts),
            max_new_tokens=longest,
            do_sample=False,
            num_beams=1,
            pad_token_id=codec.pad_id,
            eos_token_id=codec.eos_id,
        )
        answers = out[:, start:].cpu().numpy()
        width = max(answers.shape[1], longest)
        answers = np.pad(answers, ((0, 0), (0, width - answers.shape[1])), constant_values=codec.pad_id)
        wanted = batch.ids[rows, start:][:, :width]
        wanted = np.pad(wanted, ((0, 0), (0, width - wanted.shape[1])), constant_values=codec.pad_id)
        exact[rows] = (answers == wanted).all(axis=1)
    return exact
