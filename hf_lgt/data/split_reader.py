"""The rows of a dataset's splits that a config uses, and a hash of them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from data_builders.registry import unknown
from hf_lgt.config.schema import LARGEST, Config, short
from hf_lgt.data.codec import TextCodec
from hf_lgt.data.hub_open import Opened
from hf_lgt.data.hub_rows import TokenRows, read_rows
from hf_lgt.utils.errors import ConfigError


@dataclass(frozen=True)
class SplitReader:
    """Reads the rows of a dataset's splits that a config uses."""

    config: Config
    opened: Opened
    task: str | None
    """of all rows, where there is no column for it"""
    codec: TextCodec
    limit: int | None
    """longest sequence that the model takes, in tokens"""
    progress: bool

    def both(self) -> tuple[TokenRows, TokenRows]:
        """Rows of the training and the test split; the faults of both are reported together."""
        faults: list[str] = []
        found = []
        for train in (True, False):
            try:
                found.append(self.rows(train=train))
            except ConfigError as error:
                faults += error.faults
        if faults:
            raise ConfigError(faults)
        return found[0], found[1]

    def rows(self, *, train: bool) -> TokenRows:
        """The rows of one split that the mixture, or the evaluation, uses.

        Raises:
            ConfigError: rows are faulty, or a component has none.
        """
        config, data, grid = self.config, self.config.data, self.config.eval.grid_range
        split, dataset = (
            (data.train_split, self.opened.train) if train else (data.test_split, self.opened.test)
        )
        most, filler = LARGEST if self.limit is None else self.limit, data.filler if train else 0
        limits = {"model.max_positions less data.filler" if filler else "model.max_positions": most - filler}
        if config.model.position_range is not None:
            limits["model.position_range"] = config.model.position_range
        rows = read_rows(
            dataset,
            split,
            data,
            self.codec,
            lengths={
                c.task: range(c.lengths[0], c.lengths[1] + 1) if train else grid for c in config.mixture
            },
            only_task=self.task,
            limits=limits,
            progress=self.progress,
        )
        faults = []
        for i, c in enumerate(config.mixture):
            low, high = c.lengths if train else config.eval.lengths
            if len(rows.of(c.task, low, high)):
                continue
            if fault := _unknown_task(dataset, config, split, c.task):
                faults.append(f"mixture.{i}.task: {fault}")
                continue
            key = f"mixture.{i}.lengths" if train else "eval.lengths"
            faults.append(f"{key}: {split} has no row of task {c.task!r} with a length in {[low, high]}")
        if faults:
            raise ConfigError(faults)
        return rows


def _unknown_task(dataset: Any, config: Config, split: str, task: str) -> str | None:
    """Why a split has no row of a task at all, if it has none."""
    column = config.data.columns.get("task", "task")
    names = dataset.unique(column) if column in dataset.column_names else [task]
    if task in names:
        return None
    shown = [n if n.isprintable() else short(n) for n in sorted(map(str, names))[:20]]
    return f"{split} has no row of it: {unknown('task', task, shown)}"


def fingerprint_of(codec: TextCodec, *tables: TokenRows) -> str:
    """A hash of all that training and evaluation read, and of the vocabulary that rows not in use add to."""
    digest = hashlib.blake2b(digest_size=16)
    digest.update(repr(sorted(codec.tokenizer.get_vocab().items())).encode())
    for table in tables:
        for part in (table.ids, table.starts, table.scored, table.task, table.length):
            digest.update(np.ascontiguousarray(part).tobytes())
        digest.update(repr(table.tasks).encode())
    return digest.hexdigest()
