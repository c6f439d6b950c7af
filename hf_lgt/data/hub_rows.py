"""Rows of a Hugging Face dataset as token ids, every one checked before any work starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_builders.sampling import LONGEST_PROMPT, prompt_hashes
from hf_lgt.config.schema import DataConfig, short
from hf_lgt.config.validate_data import COLUMNS
from hf_lgt.data.codec import Codec, Encoded, TextCodec
from hf_lgt.utils.errors import ConfigError
from hf_lgt.utils.progress import bar

CHUNK = 4096
MOST_FAULTS = 5
"""faulty rows that are reported one by one"""
_HASHED = 64
"""rows that are hashed at a time, as wide as the longest of them"""


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
    """uint64 [n], of the first `LONGEST_PROMPT` tokens before the target"""
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
    lengths: Mapping[str, range],
    only_task: str | None,
    limits: Mapping[str, int],
    progress: bool = False,
) -> TokenRows:
    """Turn the rows of a split that are used into tokens.

    Args:
        dataset: a `datasets.Dataset` whose columns `open_dataset` has seen.
        split: its name, for messages.
        data: names of the columns, and how lengths are counted.
        codec: gives the ids.
        lengths: the tasks that are used, with the lengths; other rows are neither kept nor checked.
        only_task: the task of all rows, where there is no task column.
        limits: key of the config -> the longest sequence that it allows, in tokens; the least one counts.
        progress: show a bar.

    Raises:
        ConfigError: rows are faulty; names the first ones, each with its column.
    """
    reader = _Reader(split, data, codec, lengths, only_task, limits)
    # other columns may hold anything: pictures that take long to decode
    read = dataset.select_columns(sorted({reader.name(c) for c in COLUMNS} & {*dataset.column_names}))
    with bar(total=len(dataset), desc=f"read {split}", unit="row", leave=False, visible=progress) as shown:
        for start in range(0, len(dataset), CHUNK):
            reader.take(start, rows := read[start : start + CHUNK])
            shown.update(len(rows[reader.name("prompt")]))
    if reader.faults:
        more = reader.faulty - len(reader.faults)
        raise ConfigError(
            [*reader.faults, *([f"data.path: and {more} more such faults of {split}"] if more else [])]
        )
    return reader.result()


class _Reader:
    """Collects rows chunk by chunk, and their faults."""

    def __init__(
        self,
        split: str,
        data: DataConfig,
        codec: TextCodec,
        lengths: Mapping[str, range],
        only_task: str | None,
        limits: Mapping[str, int],
    ) -> None:
        self.split, self.data, self.codec, self.lengths = split, data, codec, lengths
        self.only_task = only_task
        self.key, self.most = min(limits.items(), key=lambda limit: limit[1])
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
        prompts, targets = ([*rows[self.name(column)]] for column in ("prompt", "target"))
        tasks = [self.only_task] * len(prompts) if self.only_task is not None else rows[self.name("task")]
        lengths, use = self._lengths(rows, prompts), []
        for i, (task, length) in enumerate(zip(tasks, lengths, strict=True)):
            if task is None:
                self.fault(start + i, "task", "is null")
            if task not in self.lengths:
                continue
            if length is None or length < 0:
                self.fault(start + i, "length", "is null" if length is None else f"is {length}, below 0")
                continue
            # one without a prompt has no length that could be counted
            counted = self.data.length != "column" and not (prompts[i] and prompts[i].strip())
            if counted or length in self.lengths[task]:
                use.append(i)
        for column, texts in (("prompt", prompts), ("target", targets)):
            for i in use:
                if not (texts[i] and texts[i].strip()):
                    self.fault(
                        start + i, column, "is null" if texts[i] is None else f"is empty: {short(texts[i])}"
                    )
                    texts[i] = ""
        masks = rows.get(self.name("loss_mask"), [None] * len(prompts))
        self._encode(start, use, tasks, lengths, prompts, targets, masks)

    def _lengths(self, rows: dict[str, list[Any]], prompts: list[Any]) -> list[int | None]:
        """The length of each row, null where its column says so."""
        if self.data.length == "column":
            return rows[self.name("length")]
        texts = [text or "" for text in prompts]
        if self.data.length == "characters":
            return [len(text) for text in texts]
        if self.data.length == "words":
            return [len(text.split()) for text in texts]
        return [len(ids) for ids in self.codec.tokenize(texts)]

    def _encode(
        self,
        start: int,
        use: list[int],
        tasks: list[str],
        lengths: list[int | None],
        prompts: list[str],
        targets: list[str],
        masks: list[Any],
    ) -> None:
        """Rows at the places `use` of a chunk as tokens, kept while no row is faulty."""
        heads = {tasks[i]: self._head(tasks[i]) for i in use}
        used = [[texts[i] for i in use] for texts in (prompts, targets)]
        asked, answers = map(self.codec.tokenize, used)
        lost = [self.codec.dropped(texts) for texts in used]
        changed = [self.codec.altered(*both) for both in zip(used, (asked, answers), strict=True)]
        forbidden = self.codec.forbidden
        sequences, scored, before = [], [], []
        for place, (i, question, answer) in enumerate(zip(use, asked, answers, strict=True)):
            both = ("prompt", prompts[i], question), ("target", targets[i], answer)
            for (column, text, ids), drops, back in zip(both, lost, changed, strict=True):
                if drops[place] or not forbidden.isdisjoint(ids):
                    self.fault(start + i, column, self._unreadable(text))
                elif (given := back[place]) is not None:
                    words = f"the tokenizer turns {short(text)} into {short(given)}"
                    advice = "take a checkpoint whose tokenizer keeps text as it is, or change the rows"
                    self.fault(start + i, column, f"{words}; {advice}")
            head = [*heads[tasks[i]], *question]
            sequence = [*head, *answer, self.codec.eos_id]
            if len(sequence) > self.most:
                words = f"takes {len(sequence)} tokens with its target; {self.key} is {self.most}"
                where = " where the model allows it" if self.key == "model.max_positions" else ""
                self.fault(start + i, "prompt", f"{words}. Raise it{where}, or leave the row out")
            counts = self._counts(start + i, masks[i], len(answer))
            if not self.faulty:  # else there will be no result
                sequences.append(sequence)
                scored.append([*(False for _ in head), *counts])
                before.append(len(head))
        if use and not self.faulty:
            self._keep([tasks[i] for i in use], [lengths[i] for i in use], sequences, scored, before)

    def _head(self, task: str) -> list[int]:
        try:
            return self.codec.head(task)
        except ValueError as error:
            raise ConfigError([f"mixture: {error}; the model was not trained on this task"]) from None

    def _unreadable(self, text: str) -> str:
        """Why a text cannot be trained on."""
        missing = self.codec.missing(text)
        pieces = ", ".join(map(short, missing[:5]))
        words = f"the tokenizer cannot represent {pieces}, in {short(text)}"
        if any(piece in self.codec.tokenizer.all_special_tokens for piece in missing):
            return f"{words}: control tokens are no text"
        if self.codec.inherited:  # a checkpoint's
            return words
        if isinstance(self.codec, Codec):
            return f"{words}; with model.tokenizer 'words' it has the words of the training split"
        return f"{words}; it has the words of the training split"

    def _counts(self, row: int, mask: list[bool] | None, tokens: int) -> list[bool]:
        """Which tokens of a target, and of its end, are scored."""
        if mask is None:
            return [True] * (tokens + 1)
        if None in mask:
            self.fault(row, "loss_mask", f"holds null: {short(mask)}")
        elif len(mask) != tokens or not any(mask):
            words = f"has {len(mask)} entries, {sum(mask)} of them true, for a target of {tokens} tokens"
            self.fault(row, "loss_mask", f"{words}; it needs one for each, and one that is true")
        return [*mask, False]

    def _keep(
        self,
        tasks: Sequence[str],
        lengths: Sequence[int | None],
        sequences: list[list[int]],
        scored: list[list[bool]],
        before: list[int],
    ) -> None:
        index = [self._tasks.setdefault(task, len(self._tasks)) for task in tasks]
        hashes = []
        for i in range(0, len(sequences), _HASHED):
            some = [
                sequence[: min(n, LONGEST_PROMPT)]
                for sequence, n in zip(sequences[i : i + _HASHED], before[i : i + _HASHED], strict=True)
            ]
            heads = np.zeros((len(some), max(map(len, some))), dtype=np.int64)
            for row, head in zip(heads, some, strict=True):
                row[: len(head)] = head
            hashes.append(prompt_hashes(heads))
        sizes = [len(sequence) for sequence in sequences]
        self._parts.append(
            (
                np.fromiter(chain.from_iterable(sequences), np.int32, sum(sizes)),
                np.array(sizes, dtype=np.int64),
                np.fromiter(chain.from_iterable(scored), np.bool_, sum(sizes)),
                np.array(before, dtype=np.int64),
                np.array(index, dtype=np.int64),
                np.array(lengths, dtype=np.int64),
                np.concatenate(hashes),
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
