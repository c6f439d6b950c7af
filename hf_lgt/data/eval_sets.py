"""What is evaluated: the test examples of each task and length, generated or from a dataset."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np

from data_builders import Component, get_task, list_tasks
from data_builders.sampling import HeldOut, TestSet, draw_test_set, prompt_hashes, stream
from hf_lgt.data.batching import Batch
from hf_lgt.data.codec import Codec, TextCodec
from hf_lgt.data.hub_rows import TokenRows
from hf_lgt.data.policies import USUAL, Policies


class Tested(Protocol):
    """A component of a mixture, as far as the evaluation needs it."""

    @property
    def task(self) -> str: ...
    @property
    def role(self) -> str: ...


@dataclass(frozen=True)
class EvalCell:
    """One task at one length."""

    task: str
    role: str
    length: int


@dataclass(frozen=True)
class Examples:
    """The test examples of a cell."""

    batch: Batch
    overlap: int | None
    """test prompts that training was free to draw, None if unknown"""

    @property
    def all_scored(self) -> bool:
        """Whether the whole answer and its end count, so that greedy generation can be compared."""
        starts = self.batch.scored.argmax(axis=1)
        counted = self.batch.scored.sum(axis=1)
        return bool((starts + counted == self.batch.lengths).all())


class TestSets(Protocol):
    """Gives the examples of each cell, the same whenever it is asked."""

    @property
    def codec(self) -> TextCodec: ...
    @property
    def cells(self) -> Sequence[EvalCell]: ...

    def examples(self, cell: EvalCell) -> Examples:
        """The test examples of a cell, at least one."""
        ...


class GeneratedTests:
    """Fixed test sets drawn from the tasks themselves.

    Args:
        codec: gives the token ids.
        components: tasks, with options and role.
        lengths: lengths to evaluate; those that a task does not have are left out.
        examples: test examples a cell, fewer where there are not so many prompts.
        seed: the test seed.
        held_out: what training avoided, to report the overlap.
        policies: position IDs and heads of the model.
        roles: task -> role that it was trained in, where that need not be its role here.
    """

    __test__ = False  # pytest: not a test class

    def __init__(
        self,
        codec: Codec,
        components: Sequence[Component],
        lengths: Sequence[int],
        *,
        examples: int,
        seed: int,
        held_out: HeldOut | None = None,
        policies: Policies = USUAL,
        roles: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.codec, self.policies, self.roles = codec, policies, roles
        self.wanted, self.seed, self.held_out = examples, seed, held_out
        self._components = {c.task: c for c in components}
        self.cells = [
            EvalCell(c.task, c.role, length)
            for c in components
            for length in lengths
            if c.definition.length_fault(length, c.options) is None
        ]

    def examples(self, cell: EvalCell) -> Examples:
        component = self._components[cell.task]
        test = draw_test_set(component, cell.length, self.wanted, self.seed)
        encoded = self.codec.encode(test.examples, component.task)
        if numbering := self.policies.numbering:
            rng, tags = _positions_stream(self.seed, cell), self.codec.tags
            encoded = numbering.sample(encoded, test.examples, cell.task, rng, tags=tags, test=True)
        batch = Batch.of(encoded, _half(cell, self.policies, self.roles))
        return Examples(batch, _overlap(component, cell.length, test, self.held_out))


def _half(cell: EvalCell, policies: Policies, roles: Mapping[str, str]) -> int | None:
    """Which half of the heads the examples of a cell may use: that of the role in which it was trained."""
    return policies.half(roles.get(cell.task, cell.role))


def _positions_stream(seed: int, cell: EvalCell) -> np.random.Generator:
    """What the numbers of a test set's positions are drawn from, row after row."""
    return stream(seed, "test positions", cell.task, cell.length)


def _overlap(component: Component, length: int, test: TestSet, held_out: HeldOut | None) -> int | None:
    """Test prompts that training was free to draw, or drew beyond its lengths."""
    if held_out is None:
        return None
    trained = held_out.component(component)
    if trained is None:
        # the task with other options: its prompts may be among those that training drew
        return None if held_out.trains(component.task) else 0
    if not trained.lengths[0] <= length <= trained.lengths[1]:
        seen = held_out.beyond.get(component.task, np.empty(0, dtype=np.uint64))
        return int(np.isin(prompt_hashes(test.examples.prompt), seen).sum())
    return int((~held_out.contains(trained, test.examples.prompt)).sum())


class DatasetTests:
    """Test sets from the rows of a dataset's test split.

    Args:
        codec: decodes the ids of the rows.
        rows: the rows of the test split.
        components: tasks and roles; a cell is every task and length that has rows.
        examples: rows a cell at most, chosen at random where there are more.
        seed: the test seed, which chooses.
        trained: rows of the training split that the run trains on, to report the overlap; None if
            they are not known.
        policies: position IDs and heads of the model.
        roles: task -> role that it was trained in, where that need not be its role here.
    """

    __test__ = False

    def __init__(
        self,
        codec: TextCodec,
        rows: TokenRows,
        components: Sequence[Tested],
        *,
        examples: int,
        seed: int,
        trained: TokenRows | None,
        policies: Policies = USUAL,
        roles: Mapping[str, str] = MappingProxyType({}),
    ) -> None:
        self.policies, self.roles = policies, roles
        self.codec, self.rows, self.wanted, self.seed = codec, rows, examples, seed
        self._trained = None if trained is None else np.unique(trained.prompt_hash)
        self.cells = [
            EvalCell(c.task, c.role, int(length))
            for c in components
            for length in np.unique(rows.length[rows.of(c.task, 0, 2**62)])
        ]

    def examples(self, cell: EvalCell) -> Examples:
        places = self.rows.of(cell.task, cell.length, cell.length)
        order = stream(self.seed, "test rows", cell.task, cell.length).permutation(len(places))
        # in the order of the split, so that looking an example up is easy
        chosen = places[np.sort(order[: self.wanted])]
        encoded = self.rows.encoded(chosen, self.codec.pad_id)
        if self.policies.numbering:
            encoded = self.policies.numbering.rows(encoded, _positions_stream(self.seed, cell))
        batch = Batch.of(encoded, _half(cell, self.policies, self.roles))
        if self._trained is None:
            return Examples(batch, None)
        return Examples(batch, int(np.isin(self.rows.prompt_hash[chosen], self._trained).sum()))

    def text(self, cell: EvalCell) -> tuple[str, str]:
        """Prompt and target of the first row of a cell."""
        row = int(self.rows.of(cell.task, cell.length, cell.length)[0])
        start, stop = self.rows.starts[row] + (2 if self.codec.tags else 1), self.rows.starts[row + 1] - 1
        middle = self.rows.starts[row] + self.rows.prompt_tokens[row]
        parts = [self.rows.ids[a:b].tolist() for a, b in ((start, middle), (middle, stop))]
        prompt, target = self.codec.decode(parts)
        return prompt, target


Classify = Callable[[str, str], str | None]


def classifier(task: str) -> Classify | None:
    """What sorts a task's wrong answers by kind, None for a task that has no kinds."""
    return get_task(task).classify if task in list_tasks() else None


def prompt_texts(examples: Examples, codec: TextCodec, rows: Sequence[int]) -> list[str]:
    """The prompts of some rows, without BOS and tag."""
    batch = examples.batch
    first = 2 if codec.tags else 1
    starts = answer_starts(batch)
    ids: list[Any] = [batch.ids[row, first : starts[row]].tolist() for row in rows]
    return codec.decode(ids)


def answer_starts(batch: Batch) -> Any:
    """Where each row's first scored token stands, int64 [B]."""
    return batch.scored.argmax(axis=1)
