"""What greedy `generate` really writes: the cross-check of exact match, and the kinds of mistakes."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hf_lgt.data.batching import IGNORE, Batch, Pass, make_pass
from hf_lgt.data.codec import TextCodec
from hf_lgt.data.eval_sets import Classify, EvalCell, Examples, TestSets, answer_starts, prompt_texts
from hf_lgt.evaluation.metrics import score_tokens
from hf_lgt.models.forward import inference, logits_of
from hf_lgt.models.heads import within_halves
from hf_lgt.utils.distributed import rank_and_world
from hf_lgt.utils.fsdp import is_sharded


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


def check_generation(model: Any, tests: TestSets, cell: EvalCell) -> Agreement:
    """Score one test set both ways.

    Only tasks whose whole target counts can be checked: with `mqar` the query characters are given.

    Raises:
        ValueError: the task scores only a part of its target.
    """
    examples = tests.examples(cell)
    if not examples.all_scored:
        raise ValueError(f"{cell.task} gives parts of its target; greedy generation is no check")
    batch, device = examples.batch, next(model.parameters()).device
    with inference(model):
        work = make_pass(batch, np.arange(len(batch.lengths)))
        logits = logits_of(model, work.to(device)).float().cpu()
        best = logits.topk(2, dim=-1)
        labels = work.labels.numpy()
        forced, _, _ = score_tokens(best.indices[..., 0].numpy(), labels, labels != IGNORE)
        answers = generate_answers(model, batch, np.arange(len(batch.lengths)), tests.codec)
    written = np.array([row == _reference(batch, i) for i, row in enumerate(answers)])
    lead = (best.values[..., 0] - best.values[..., 1]).numpy()
    lead = np.where(labels != IGNORE, lead, np.inf).min(axis=1)
    differ = forced != written
    return Agreement(
        task=cell.task,
        length=cell.length,
        n=len(forced),
        teacher_forced=float(forced.mean()),
        generated=float(written.mean()),
        disagreements=int(differ.sum()),
        widest_margin=float(lead[differ].max()) if differ.any() else None,
    )


def _reference(batch: Batch, row: int) -> list[int]:
    """The right answer with its EOS."""
    ids: list[int] = batch.ids[row, answer_starts(batch)[row] : batch.lengths[row]].tolist()
    return ids


def generate_answers(
    model: Any, batch: Batch, rows: NDArray[np.int64], codec: TextCodec, slack: int = 0
) -> list[list[int]]:
    """What greedy generation writes after each prompt, up to EOS, which is kept where it came.

    Where the batch has position IDs of its own, each token gets the one that it has there; those
    of an answer longer than the right one follow on, see `_next_numbers`.

    Args:
        model: has `generate`.
        batch: prompts with their right answers, all of whose tokens count.
        rows: which of them.
        codec: names the end and padding tokens.
        slack: tokens that an answer may be longer than the longest right one of the batch.
    """
    starts = answer_starts(batch)
    longest = int((batch.lengths - starts).max()) + slack
    limit = getattr(getattr(model, "config", None), "max_position_embeddings", None)
    device = next(model.parameters()).device
    answers: dict[int, list[int]] = {}
    # Prompts of one width go together: no padding can then have an effect.
    for start in np.unique(starts[rows]):
        some = rows[starts[rows] == start]
        prompts = torch.from_numpy(batch.ids[some, :start]).to(device)
        most = longest if limit is None else max(1, min(longest, limit - int(start)))
        halves = None if batch.halves is None else torch.from_numpy(batch.halves[some]).to(device)
        with within_halves(model, halves):
            if batch.positions is None:
                out = model.generate(
                    prompts,
                    attention_mask=torch.ones_like(prompts),
                    max_new_tokens=most,
                    do_sample=False,
                    num_beams=1,
                    # processes with sharded weights must continue together until the last has its end
                    synced_gpus=is_sharded(model) and rank_and_world()[1] > 1,
                    pad_token_id=codec.pad_id,
                    eos_token_id=codec.eos_id,
                )
            else:
                numbers = _next_numbers(batch.take(some), int(start) + most, limit)
                out = _greedy(model, prompts, torch.from_numpy(numbers).to(device), codec.eos_id)
        for row, ids in zip(some.tolist(), out[:, start:].tolist(), strict=True):
            answers[row] = ids[: ids.index(codec.eos_id) + 1] if codec.eos_id in ids else ids
    return [answers[row] for row in rows.tolist()]


def _next_numbers(batch: Batch, width: int, limit: int | None) -> NDArray[np.int64]:
    """The numbers of a batch's positions with those that follow on one by one, int64 [b, width].

    Args:
        batch: has position IDs.
        width: tokens of the longest sequence that is generated.
        limit: positions of the model; from the last one on the number stays the same, which only an answer
            can come to that is wrong already.
    """
    assert batch.positions is not None
    columns, last = np.arange(width), batch.lengths[:, None] - 1
    own = np.take_along_axis(batch.positions, np.minimum(columns, last), axis=1)
    numbers: NDArray[np.int64] = own + np.maximum(columns - last, 0)
    return numbers if limit is None else np.minimum(numbers, max(limit - 1, int(batch.positions.max())))


def _greedy(model: Any, prompts: torch.Tensor, numbers: torch.Tensor, eos: int) -> torch.Tensor:
    """The best token after the other, until each row has its end; the whole sequence is read each time.

    `generate` numbers the tokens that it writes itself, one after the other, which is not what a policy of
    positions does.

    Args:
        model: a causal language model.
        prompts: int64 [b, p], without padding.
        numbers: int64 [b, w], the position IDs of what is read and written, w > p.
        eos: the id of the end of a sequence.

    Returns:
        int64 [b, at most w]; what stands after a row's end means nothing.
    """
    ids = prompts
    # processes with sharded weights must take as many steps as each other
    together = is_sharded(model) and rank_and_world()[1] > 1
    ended = torch.zeros(len(ids), dtype=torch.bool, device=ids.device)
    given = torch.full((len(ids),), prompts.shape[1], device=ids.device)
    for width in range(prompts.shape[1], numbers.shape[1]):
        keep = torch.tensor([width - 1], device=ids.device)
        logits = logits_of(model, Pass(ids, keep, ids, numbers[:, :width], prompt_tokens=given))
        best = logits[:, 0].argmax(dim=-1)
        ids = torch.cat([ids, best[:, None]], dim=1)
        ended |= best == eos
        if bool(ended.all()) and not together:
            break
    return ids


ENDLESS = "no end"
"""the kind of an answer without EOS"""
UNSORTED = "not sorted"
"""the kind of an answer to a prompt that is not as the task writes it"""


def sort_mistakes(
    model: Any,
    codec: TextCodec,
    examples: Examples,
    rows: NDArray[np.int64],
    classify: Classify,
) -> dict[str, int]:
    """How many of the wrong answers are of which kind, as greedy generation writes them.

    Args:
        model: has `generate`.
        codec: decodes the answers.
        examples: the test examples.
        rows: rows that are wrong by the teacher-forced pass.
        classify: names an answer's kind of mistake, None if it is right (as a tie can make it).
    """
    if not len(rows):
        return {}
    batch, kinds = examples.batch, Counter[str]()
    # a wrong path may be longer than the right one, by much
    slack = int((batch.lengths - answer_starts(batch)).max())
    with inference(model):
        answers = generate_answers(model, batch, rows, codec, slack)
    texts = codec.decode(answers)
    rights = codec.decode([_reference(batch, row) for row in rows.tolist()])
    prompts = prompt_texts(examples, codec, rows.tolist())
    for prompt, right, answer, ids in zip(prompts, rights, texts, answers, strict=True):
        if ids[-1:] != [codec.eos_id]:
            kinds[ENDLESS] += 1
            continue
        try:
            # a user's own rows under the name of a task of ours may have other rules
            known = classify(prompt, right) is None
            kind = classify(prompt, answer) if known else UNSORTED
        except Exception:  # whatever is wrong with sorting, the run's numbers must not be lost
            kind = UNSORTED
        if kind is not None:
            kinds[kind] += 1
    return dict(sorted(kinds.items()))
