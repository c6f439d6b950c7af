"""Accuracy by task and length, by one teacher-forced pass over fixed test sets.

Greedy decoding yields the reference exactly if and only if the arg max at every answer position,
given the reference before it, is the reference token; so exact match needs no generation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

from data_builders import Component
from data_builders.sampling import HeldOut, TestSet, draw_test_set
from hf_lgt.batching import IGNORE, Batch, logits_of, make_pass
from hf_lgt.codec import Codec
from hf_lgt.evaluation.metrics import score_tokens, wilson_interval
from hf_lgt.evaluation.records import EvalRecord
from hf_lgt.progress import bar


@contextmanager
def inference(model: torch.nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; the model's own mode is restored."""
    was_training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(was_training)


def evaluate(
    model: Any,
    codec: Codec,
    components: Sequence[Component],
    lengths: Sequence[int],
    *,
    examples: int = 1024,
    seed: int = 1234,
    step: int = 0,
    batch_tokens: int = 65_536,
    held_out: HeldOut | None = None,
    progress: bool = False,
) -> list[EvalRecord]:
    """Evaluate a causal language model.

    With several processes every one takes its share of each test set and all get the same records.

    Args:
        model: takes `input_ids`, `use_cache` and `logits_to_keep`, as those of transformers do.
        codec: gives the token ids.
        components: tasks, with options and role; lengths below a task's smallest are left out.
        lengths: lengths to evaluate.
        examples: test examples a (task, length), fewer where there are not so many prompts.
        seed: the test seed.
        step: written into the records.
        batch_tokens: tokens a forward pass, padding included.
        held_out: what training avoided, to report the overlap.
        progress: show a bar.

    Returns:
        One record a (task, length), in the order of `components` and `lengths`.
    """
    cells = [
        (component, length)
        for component in components
        for length in lengths
        if length >= component.definition.smallest_length(component.options)
    ]
    counts: list[tuple[int, int, int, int]] = []
    overlaps: list[int | None] = []
    with inference(model):
        for component, length in bar(iterable=cells, desc="evaluate", leave=False, visible=progress):
            test = draw_test_set(component, length, examples, seed)
            counts.append(_count(model, codec, component, test, batch_tokens))
            overlaps.append(_overlap(component, length, test, held_out))
    totals = _over_processes(np.array(counts, dtype=np.int64).reshape(-1, 4), model)
    return [
        _record(component, length, row, step, overlap)
        for (component, length), row, overlap in zip(cells, totals.tolist(), overlaps, strict=True)
    ]


def encode_test_set(codec: Codec, component: Component, test: TestSet) -> Batch:
    """A whole test set as one batch."""
    encoded = codec.encode(test.examples, component.task)
    return Batch(encoded.ids, encoded.lengths, encoded.scored)


def _count(
    model: Any, codec: Codec, component: Component, test: TestSet, batch_tokens: int
) -> tuple[int, int, int, int]:
    """Examples, exact matches, scored tokens and right tokens of this process's share."""
    rank, world = _process()
    batch = encode_test_set(codec, component, test)
    rows = np.arange(len(batch.lengths))[rank::world]
    if not len(rows):
        return 0, 0, 0, 0
    device = next(model.parameters()).device
    pieces = -(-len(rows) * batch.ids.shape[1] // batch_tokens)
    exact = scored = right = 0
    for part in np.array_split(rows, min(pieces, len(rows))):
        work = make_pass(batch, part)
        predicted = logits_of(model, work.to(device)).argmax(dim=-1).cpu().numpy()
        labels = work.labels.numpy()
        matches, hits, total = score_tokens(predicted, labels, labels != IGNORE)
        exact, right, scored = exact + int(matches.sum()), right + int(hits.sum()), scored + int(total.sum())
    return len(rows), exact, scored, right


def _record(
    component: Component, length: int, counts: list[int], step: int, overlap: int | None
) -> EvalRecord:
    n, exact, scored, right = counts
    low, high = wilson_interval(exact, n)
    return EvalRecord(
        step=step,
        task=component.task,
        role=component.role,
        length=length,
        n=n,
        exact_match=exact / n,
        ci_low=low,
        ci_high=high,
        token_accuracy=right / scored,
        overlap=overlap,
    )


def _overlap(component: Component, length: int, test: TestSet, held_out: HeldOut | None) -> int | None:
    """Test prompts that training was free to draw."""
    if held_out is None:
        return None
    trained = held_out.component(component)
    if trained is None:
        # the task with other options: its prompts may be among those that training drew
        return None if held_out.trains(component.task) else 0
    if not trained.lengths[0] <= length <= trained.lengths[1]:
        return 0
    return int((~held_out.contains(trained, test.examples.prompt)).sum())


def _process() -> tuple[int, int]:
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1


def _over_processes(counts: np.ndarray[Any, Any], model: Any) -> np.ndarray[Any, Any]:
    if _process()[1] == 1:
        return counts
    total = torch.from_numpy(counts).to(next(model.parameters()).device)
    torch.distributed.all_reduce(total)
    summed: np.ndarray[Any, Any] = total.cpu().numpy()
    return summed
