"""Rows of a Hugging Face dataset as token ids, every one checked before any work starts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_builders.sampling import prompt_hashes
from hf_lgt.codec import Encoded, TextCodec
from hf_lgt.config_checks import LONGEST_PROMPT
from hf_lgt.errors import ConfigError
from hf_lgt.progress import bar
from hf_lgt.schema import DataConfig, short

CHUNK = 4096
MOST_FAULTS = 5
"""faulty rows that are told one by one"""

Wanted = Callable[[str, int], bool]
"""whether rows of a task and length are used"""


@dataclass(frozen=True)
class TokenRows:
    """The rows of a split that a run uses, in the split's order. n rows, N tokens in all."""

    ids: NDArray[np.int32]
    """int32 [N], the sequences one after another: BOS, tag, prompt, target, EOS"""
    starts: NDArray[np.int64]
    """int64 [n + 1], where each sequence begins"""
    scored: NDArray[np.bool_]
    """bool [N], the tokens that count in loss and exact match"""
    prompt_tokens: NDArray[np.int64]
    """int64 [n], tokens before the target"""
    task: NDArray[np.int64]
    """int64 [n], index into `tasks`"""
    length: NDArray[np.int64]
    """int64 [n]"""
    prompt_hash: NDArray[np.uint64]
    """uint64 [n], of the tokens before the target"""
    tasks: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.length)

    def of(self, task: str, low: int, high: int) -> NDArray[np.int64]:
        """Rows of a task with a length from `low` to `high`."""
        index = self.tasks.index(task) if task in self.tasks else -1
        return np.flatnonzero((self.task == index) & (low <= self.length) & (self.length <= high))

    def encoded(self, rows: NDArray[np.int64], pad_id: int) -> Encoded:
        """These rows as padded arrays."""
        starts, lengths = self.starts[rows], self.starts[rows + 1] - self.starts[rows]
        places = np.arange(int(lengths.max(initial=1)))
        inside = places < lengths[:, None]
        flat = np.where(inside, starts[:, None] + places, 0)
        ids = np.where(inside, self.ids[flat], pad_id).astype(np.int64)
        return Encoded(ids, lengths, self.scored[flat] & inside)


def read_rows(
    dataset: Any,
    split: str,
    data: DataConfig,
    codec: TextCodec,
    *,
    wanted: Wanted,
    only_task: str | None,
    max_positions: int,
    progress: bool = False,
) -> TokenRows:
    """Turn the wanted rows of a split into tokens.

    Args:
        dataset: a `datasets.Dataset` whose columns `check_columns` has seen.
        split: its name, for messages.
        data: names of the columns, and how lengths are counted.
        codec: gives the ids.
        wanted: says which tasks and lengths are used; other rows are neither kept nor checked.
        only_task: the task of all rows, where there is no task column.
        max_positions: the longest sequence that the model takes.
        progress: show a bar.

    Raises:
        ConfigError: rows are faulty; names the first ones, each with its column.
    """
    reader = _Reader(split, data, codec, wanted, only_task, max_positions)
    with bar(total=len(dataset), desc=f"read {split}", unit="row", leave=False, visible=progress) as shown:
        for start in range(0, len(dataset), CHUNK):
            rows = dataset[start : start + CHUNK]
            reader.take(start, rows)
            shown.update(len(rows[data.columns.get("prompt", "prompt")]))
    if reader.faults:
        more = reader.faulty - len(reader.faults)
        raise ConfigError(
            [*reader.faults, *([f"data.path: and {more} more such rows of {split}"] if more else [])]
        )
    return reader.result()


class _Reader:
    """Collects rows chunk by chunk, and their faults."""

    def __init__(
        self,
        split: str,
        data: DataConfig,
        codec: TextCodec,
        wanted: Wanted,
        only_task: str | None,
        max_positions: int,
    ) -> None:
        self.split, self.data, self.codec, self.wanted = split, data, codec, wanted
        self.only_task, self.max_positions = only_task, max_positions
        self.faults: list[str] = []
        self.faulty = 0
        self._tasks: dict[str, int] = {}
        self._parts: list[tuple[NDArray[Any], ...]] = []

    def name(self, column: str) -> str:
        """The user's name of a column."""
        return self.data.columns.get(column, column)

    def fault(self, row: int, column: str, words: str) -> None:
        self.faulty += 1
        if len(self.faults) < MOST_FAULTS:
            self.faults.append(f"data.path: row {row} of {self.split}, column {self.name(column)!r}: {words}")

    def take(self, start: int, rows: dict[str, list[Any]]) -> None:
        """Read one chunk, whose first row has the number `start`."""
        n = len(rows[self.name("prompt")])
        tasks = [self.only_task] * n if self.only_task is not None else rows[self.name("task")]
        lengths = self._lengths(start, rows)
        use = [i for i in range(n) if lengths[i] is not None and self.wanted(tasks[i], lengths[i])]
        if not use:
            return
        prompts, targets = ([rows[self.name(c)][i] for i in use] for c in ("prompt", "target"))
        for column, texts in (("prompt", prompts), ("target", targets)):
            for i, text in zip(use, texts, strict=True):
                if not text or not text.strip():
                    self.fault(start + i, column, "is null" if text is None else "is empty")
        masks = [rows[self.name("loss_mask")][i] for i in use] if self.name("loss_mask") in rows else None
        self._encode(
            [start + i for i in use],
            [tasks[i] for i in use],
            [lengths[i] for i in use],
            [text or "" for text in prompts],
            [text or "" for text in targets],
            masks,
        )

    def _lengths(self, start: int, rows: dict[str, list[Any]]) -> list[Any]:
        """The length of each row, None where it has none that can be used."""
        prompts = [text or "" for text in rows[self.name("prompt")]]
        if self.data.length == "characters":
            return [len(text) for text in prompts]
        if self.data.length == "words":
            return [len(text.split()) for text in prompts]
        if self.data.length == "tokens":
            return [len(ids) for ids in self.codec.tokenize(prompts)]
        lengths: list[Any] = list(rows[self.name("length")])
        for i, length in enumerate(lengths):
            if length is None or length < 0:
                self.fault(start + i, "length", "is null" if length is None else f"is {length}, below 0")
                lengths[i] = None
        return lengths

    def _encode(
        self,
        numbers: list[int],
        tasks: list[str],
        lengths: list[int],
        prompts: list[str],
        targets: list[str],
        masks: list[Any] | None,
    ) -> None:
        heads = {task: self.codec.head(task) for task in dict.fromkeys(tasks)}
        asked, answers = self.codec.tokenize(prompts), self.codec.tokenize(targets)
        forbidden = self.codec.forbidden
        end = [self.codec.eos_id]
        sequences, scored, before = [], [], []
        for i, number in enumerate(numbers):
            for column, text, ids in (("prompt", prompts[i], asked[i]), ("target", targets[i], answers[i])):
                if not forbidden.isdisjoint(ids):
                    missing = ", ".join(map(repr, self.codec.missing(text)[:5]))
                    self.fault(number, column, f"the tokenizer cannot represent {missing}, in {short(text)}")
            mask = None if masks is None else masks[i]
            if mask is None:
                counts = [True] * (len(answers[i]) + 1)
            else:
                counts = [*mask, False]
                if len(mask) != len(answers[i]) or not any(mask):
                    words = f"has {len(mask)} entries, {sum(map(bool, mask))} of them true, for a target of "
                    self.fault(number, "loss_mask", f"{words}{len(answers[i])} tokens")
                    counts = [True] * (len(answers[i]) + 1)
            head = [*heads[tasks[i]], *asked[i]]
            sequence = [*head, *answers[i], *end]
            if len(sequence) > self.max_positions:
                words = f"takes {len(sequence)} tokens with its target"
                self.fault(number, "prompt", f"{words}; model.max_positions is {self.max_positions}")
            sequences.append(sequence)
            scored.append([*(False for _ in head), *counts])
            before.append(len(head))
        self._keep(tasks, lengths, sequences, scored, before)

    def _keep(
        self,
        tasks: Sequence[str],
        lengths: Sequence[int],
        sequences: list[list[int]],
        scored: list[list[bool]],
        before: list[int],
    ) -> None:
        index = [self._tasks.setdefault(task, len(self._tasks)) for task in tasks]
        # a longer row is a fault that is told, and need not be hashed whole
        heads = np.zeros((len(sequences), min(max(before), LONGEST_PROMPT)), dtype=np.int64)
        for row, sequence, count in zip(heads, sequences, before, strict=True):
            row[:count] = sequence[: min(count, LONGEST_PROMPT)]
        sizes = [len(sequence) for sequence in sequences]
        self._parts.append(
            (
                np.fromiter(chain.from_iterable(sequences), np.int32, sum(sizes)),
                np.array(sizes, dtype=np.int64),
                np.fromiter(chain.from_iterable(scored), np.bool_, sum(sizes)),
                np.array(before, dtype=np.int64),
                np.array(index, dtype=np.int64),
                np.array(lengths, dtype=np.int64),
                prompt_hashes(heads),
            )
        )

    def result(self) -> TokenRows:
        if not self._parts:
            none = np.zeros(0, dtype=np.int64)
            nothing = none.astype(np.bool_), none, none, none, none.astype(np.uint64)
            return TokenRows(none.astype(np.int32), np.zeros(1, dtype=np.int64), *nothing, tasks=())
        ids, sizes, scored, before, task, length, hashes = map(np.concatenate, zip(*self._parts, strict=True))
        starts = np.concatenate([[0], np.cumsum(sizes)])
        return TokenRows(ids, starts, scored, before, task, length, hashes, tuple(self._tasks))
