"""Accuracy by task and length, by one teacher-forced pass over fixed test sets.

Greedy decoding yields the reference exactly if and only if the arg max at every answer position,
given the reference before it, is the reference token; so exact match needs no generation.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence, Set
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from data_builders import Component
from data_builders.sampling import HeldOut
from hf_lgt.config.schema import Config
from hf_lgt.data.batching import IGNORE, Batch, make_pass, pass_tokens
from hf_lgt.data.codec import Codec, TextCodec
from hf_lgt.data.eval_sets import Classify, EvalCell, Examples, GeneratedTests, TestSets, classifier
from hf_lgt.data.policies import USUAL, Policies
from hf_lgt.evaluation.generation import sort_mistakes
from hf_lgt.evaluation.metrics import score_tokens, stopping_errors, wilson_interval
from hf_lgt.evaluation.records import EvalRecord
from hf_lgt.models.forward import check_positions, inference, logits_of
from hf_lgt.models.heads import find_heads
from hf_lgt.utils.distributed import gathered, rank_and_world
from hf_lgt.utils.fsdp import is_sharded
from hf_lgt.utils.progress import bar


@dataclass(frozen=True, kw_only=True)
class EvaluationOptions:
    """Options of `evaluate` besides the model and its test sets."""

    step: int = 0
    """written into the records"""
    batch_tokens: int = 65_536
    """of a forward pass, padding included"""
    held_out: HeldOut | None = None
    """what training avoided, to report the overlap"""
    policies: Policies = USUAL
    """position IDs and heads that the model was trained with"""
    progress: bool = False
    """show a bar"""


def evaluate(
    model: Any,
    codec: Codec,
    components: Sequence[Component],
    lengths: Sequence[int],
    *,
    examples: int = 1024,
    seed: int = 1234,
    mistakes: int = 0,
    options: EvaluationOptions | None = None,
) -> list[EvalRecord]:
    """Evaluate a causal language model on generated test sets.

    With several processes every one takes its share of each test set and all get the same records. All
    make the same number of forward passes, as a model whose weights are sharded among them needs.

    Args:
        model: takes `input_ids`, `use_cache` and `logits_to_keep`, as those of transformers do.
        codec: gives the token ids.
        components: tasks, with options and role; lengths that a task does not have are left out.
        lengths: lengths to evaluate.
        examples: test examples a (task, length), fewer where there are not so many prompts.
        seed: the test seed.
        mistakes: wrong answers a (task, length) to generate and sort by kind, where the task can.
        options: the rest.

    Returns:
        One record a (task, length), in the order of `components` and `lengths`.

    Raises:
        ValueError: the model does not use the position IDs of the policies, has one head a layer, or their
            halves lack a role.
        ConfigError: there are halves for a model whose heads are not known.
    """
    given = options or EvaluationOptions()
    _check_policies(model, given.policies, {c.role for c in components})
    tests = GeneratedTests(
        codec,
        components,
        lengths,
        examples=examples,
        seed=seed,
        held_out=given.held_out,
        policies=given.policies,
    )
    return evaluate_tests(
        model,
        tests,
        step=given.step,
        batch_tokens=given.batch_tokens,
        mistakes=mistakes,
        progress=given.progress,
    )


def _check_policies(model: Any, policies: Policies, roles: Set[str]) -> None:
    if policies.numbering:
        check_positions(model)
    if policies.halves is not None:
        if (count := find_heads(model).count) < 2:
            raise ValueError(f"halves: a layer of the model has {count} head, which makes no halves")
        if lacking := sorted(roles - set(policies.halves)):
            raise ValueError(f"halves: says nothing of role {lacking[0]!r}")


def evaluate_tests(
    model: Any,
    tests: TestSets,
    *,
    step: int = 0,
    batch_tokens: int = 65_536,
    mistakes: int = 0,
    progress: bool = False,
    cells: Sequence[EvalCell] | None = None,
) -> list[EvalRecord]:
    """As `evaluate`, on test sets of any origin: one record a cell.

    Args:
        model: see `evaluate`.
        tests: gives the examples.
        step: written into the records.
        batch_tokens: of a forward pass, padding included.
        mistakes: see `evaluate`.
        progress: show a bar.
        cells: those of `tests` to evaluate; None: all.
    """
    cells = tests.cells if cells is None else cells
    counts: list[tuple[int, ...]] = []
    overlaps: list[int | None] = []
    kinds: list[dict[str, int] | None] = []
    with inference(model):
        for cell in bar(iterable=cells, desc="evaluate", leave=False, visible=progress):
            examples = tests.examples(cell)
            found = score_examples(model, examples.batch, tests.codec.eos_id, batch_tokens)
            counts.append((len(found.exact), *(int(part.sum()) for part in vars(found).values())))
            overlaps.append(examples.overlap)
            kinds.append(None)
            if mistakes and (classify := classifier(cell.task)) and examples.all_scored:
                wrong = _share(len(examples.batch.lengths))[: len(found.exact)][~found.exact]
                kinds[-1] = _sorted_mistakes(model, tests.codec, examples, wrong, mistakes, classify)
    totals = _over_processes(np.array(counts, dtype=np.int64).reshape(len(counts), -1), model)
    return [
        _record(cell, row, step, overlap, kind)
        for cell, row, overlap, kind in zip(cells, totals.tolist(), overlaps, _merged(kinds), strict=True)
    ]


def trained_cells(cells: Sequence[EvalCell], config: Config) -> list[EvalCell]:
    """Those of lengths on which their task is trained."""
    lengths = {c.task: c.lengths for c in config.mixture}
    return [cell for cell in cells if lengths[cell.task][0] <= cell.length <= lengths[cell.task][1]]


def cells_on_the_way(cells: Sequence[EvalCell], config: Config) -> list[EvalCell]:
    """Those that are evaluated between the first and the last step, as ``eval.during`` says."""
    if config.eval.during == "all":
        return list(cells)
    roles = {c.task: c.role for c in config.mixture}
    both = config.eval.during == "trained"
    return [cell for cell in trained_cells(cells, config) if both or roles[cell.task] == "target"]


@dataclass(frozen=True)
class ExampleScores:
    """How some examples were answered, each field [n]."""

    exact: NDArray[np.bool_]
    """exact match"""
    scored: NDArray[np.int64]
    """scored tokens"""
    right: NDArray[np.int64]
    """right tokens among them"""
    ends: NDArray[np.bool_]
    """whether the end of the answer is scored"""
    stopped_early: NDArray[np.bool_]
    ran_on: NDArray[np.bool_]
    """see `stopping_errors`"""


def score_examples(model: Any, batch: Batch, end: int, batch_tokens: int) -> ExampleScores:
    """Score this process's share of a batch by one teacher-forced pass; its rows are in order.

    Args:
        model: a causal language model.
        batch: the examples of all processes.
        end: id of the end-of-sequence token.
        batch_tokens: of a forward pass, padding included.
    """
    n, share = len(batch.lengths), _share(len(batch.lengths))
    results: list[tuple[Any, ...]] = []
    device = next(model.parameters()).device
    pieces = -(-len(share) * batch.ids.shape[1] // pass_tokens(batch_tokens, device))
    for part in np.array_split(share, min(pieces, len(share))):
        # where the rows do not come out even, the last one is passed again and not counted
        work = make_pass(batch, np.minimum(part, n - 1))
        predicted = logits_of(model, work.to(device)).argmax(dim=-1).cpu().numpy()
        labels = work.labels.numpy()
        matches, hits, total = score_tokens(predicted, labels, labels != IGNORE)
        stops = stopping_errors(predicted, labels, labels != IGNORE, end)
        columns = (matches, total, hits, (labels == end).any(axis=1), *stops)
        results.append(tuple(column[part < n] for column in columns))
    return ExampleScores(*map(np.concatenate, zip(*results, strict=True)))


def _record(
    cell: EvalCell, counts: list[int], step: int, overlap: int | None, mistakes: dict[str, int] | None
) -> EvalRecord:
    n, exact, scored, right, ends, stopped_early, ran_on = counts
    low, high = wilson_interval(exact, n)
    return EvalRecord(
        step=step,
        task=cell.task,
        role=cell.role,
        length=cell.length,
        n=n,
        exact_match=exact / n,
        ci_low=low,
        ci_high=high,
        token_accuracy=right / scored,
        overlap=overlap,
        mistakes=mistakes,
        stopped_early=stopped_early if ends else None,
        ran_on=ran_on if ends else None,
    )


def _share(n: int) -> NDArray[np.int64]:
    """Which of `n` rows this process takes; each takes as many, those from `n` on are none."""
    rank, world = rank_and_world()
    return np.arange(rank, -(-n // world) * world, world)


def _sorted_mistakes(
    model: Any,
    codec: TextCodec,
    examples: Examples,
    wrong: NDArray[np.int64],
    most: int,
    classify: Classify,
) -> dict[str, int]:
    """Kinds of the first `most` of all processes' wrong rows, counted where this one has to."""
    every = np.sort(np.concatenate(gathered(wrong)))[:most]
    if not is_sharded(model):
        return sort_mistakes(model, codec, examples, np.intersect1d(wrong, every), classify)
    # no process can generate alone what it has only a part of the weights for
    kinds = sort_mistakes(model, codec, examples, every, classify)
    return kinds if rank_and_world()[0] == 0 else {}


def _merged(kinds: list[dict[str, int] | None]) -> list[dict[str, int] | None]:
    """Counts of mistakes summed over processes."""
    merged: list[dict[str, int] | None] = []
    for parts in zip(*gathered(kinds), strict=True):
        known = [part for part in parts if part is not None]
        total = sum((Counter(part) for part in known), Counter[str]())
        merged.append(dict(sorted(total.items())) if known else None)
    return merged


def _over_processes(counts: np.ndarray[Any, Any], model: Any) -> np.ndarray[Any, Any]:
    if rank_and_world()[1] == 1:
        return counts
    total = torch.from_numpy(counts).to(next(model.parameters()).device)
    torch.distributed.all_reduce(total)
    summed: np.ndarray[Any, Any] = total.cpu().numpy()
    return summed
