"""Where the batch of step t comes from: one contract for every source."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from data_builders import Mixture
from data_builders.priming import Priming
from data_builders.sampling import Draw, HeldOut, draw_batch, stream
from hf_lgt.config.schema import ComponentConfig
from hf_lgt.data.batching import Batch
from hf_lgt.data.codec import Codec
from hf_lgt.data.hub_rows import TokenRows
from hf_lgt.data.policies import USUAL, Policies


class Source(Protocol):
    """Gives the global batch of a step, the same whenever and wherever it is asked."""

    def batch(self, step: int) -> Batch:
        """The examples of training step `step`, from 0."""
        ...

    def describe(self, step: int) -> str:
        """The tasks and lengths of a step's examples, in words."""
        ...


def describe_examples(tasks: Sequence[str], task: NDArray[np.int64], length: NDArray[np.int64]) -> str:
    """How many examples of which task and lengths there are, in words.

    Args:
        tasks: names.
        task: int64 [n], index into `tasks`.
        length: int64 [n].
    """
    parts = []
    for index, name in enumerate(tasks):
        own = length[task == index]
        if len(own):
            span = f"{own.min()}" if own.min() == own.max() else f"{own.min()} to {own.max()}"
            parts.append(f"{len(own)} of {name} (length {span})")
    return ", ".join(parts)


class GeneratedSource:
    """Draws each batch when it is needed (the paper's way).

    Args:
        mixture: what to draw from.
        codec: gives the token ids.
        batch_size: examples of the global batch.
        seed: the data seed.
        held_out: test prompts that no example may have.
        policies: position IDs and heads of the model.
        growing: first steps over which lengths grow, see `draw_batch`.
        priming: task -> its long examples.
    """

    def __init__(
        self,
        mixture: Mixture,
        codec: Codec,
        *,
        batch_size: int,
        seed: int,
        held_out: HeldOut | None = None,
        policies: Policies = USUAL,
        growing: int = 0,
        priming: Mapping[str, Priming] = MappingProxyType({}),
    ) -> None:
        self.mixture = mixture
        self.codec = codec
        self.batch_size = batch_size
        self.seed = seed
        self.held_out = held_out
        self.policies = policies
        self.growing, self.priming = growing, priming

    def batch(self, step: int) -> Batch:
        drawn = self._draw(step)
        rng, tags = stream(self.seed, "positions", step), self.codec.tags
        groups = []
        for component, (rows, sample) in zip(self.mixture.components, drawn.groups, strict=True):
            encoded = self.codec.encode(sample, component.task)
            if numbering := self.policies.numbering:
                encoded = numbering.sample(encoded, sample, component.task, rng, tags=tags)
            groups.append((rows, encoded))
        batch = Batch.collate(self.batch_size, groups, self.codec.pad_id)
        if self.policies.halves is None:
            return batch
        halves = np.array([self.policies.half(c.role) for c in self.mixture.components])
        return dataclasses.replace(batch, halves=halves[drawn.component])

    def _draw(self, step: int) -> Draw:
        drawn = draw_batch(self.mixture, step, self.batch_size, self.seed, self.held_out, self.growing)
        if not self.priming:
            return drawn
        groups, length = list(drawn.groups), drawn.length.copy()
        for i, component in enumerate(self.mixture.components):
            if own := self.priming.get(component.task):
                rows, sample = groups[i]
                rng = stream(self.seed, "priming", step, component.key)
                sample, length[rows] = own.mixed(sample, length[rows], rng)
                groups[i] = rows, sample
        return dataclasses.replace(drawn, length=length, groups=groups)

    def describe(self, step: int) -> str:
        drawn = self._draw(step)
        names = [component.task for component in self.mixture.components]
        return describe_examples(names, drawn.component, drawn.length)


class DatasetSource:
    """Takes each batch from the rows of a dataset.

    A component gives its share of the examples, by weight: which one gives the k-th example of training
    depends on k alone, not on the batch size (the method of Webster and Sainte-Laguë). It gives each of
    its rows once before it gives one again, in an order drawn anew each time. So a batch depends on the
    step and the seed alone.

    Args:
        rows: the rows of the training split.
        components: which of them, in which shares.
        batch_size: examples of the global batch.
        seed: the data seed.
        pad_id: fills up shorter rows.
        policies: position IDs and heads of the model.

    Raises:
        ValueError: a component has no rows.
    """

    def __init__(
        self,
        rows: TokenRows,
        components: Sequence[ComponentConfig],
        *,
        batch_size: int,
        seed: int,
        pad_id: int,
        policies: Policies = USUAL,
    ) -> None:
        self.rows = rows
        self.policies = policies
        halves = policies.halves
        self._halves = None if halves is None else np.array([halves[c.role] for c in components])
        self.batch_size = batch_size
        self.seed = seed
        self.pad_id = pad_id
        self.places = [rows.of(c.task, *c.lengths) for c in components]
        for component, places in zip(components, self.places, strict=True):
            if not len(places):
                raise ValueError(f"no row of task {component.task!r} has a length in {component.lengths}")
        weights = np.array([c.weight for c in components])
        self._shares = weights / weights.sum()
        # the current pass over a component's rows, and the one that a batch may begin
        self._order = lru_cache(maxsize=2 * len(components))(self._draw_order)

    def _draw_order(self, component: int, epoch: int) -> NDArray[np.int64]:
        order = stream(self.seed, "rows", component, epoch).permutation(self.places[component])
        return order.astype(np.int64)

    def drawn(self, step: int) -> NDArray[np.int64]:
        """Examples that each component has given before a step, int64 [components]."""
        # The m-th example (from 0) of a component with share w is due at (m + 1/2) / w, and the first k
        # of all are given. By then none lacks what it was due `len(shares)` examples ago.
        k, w = step * self.batch_size, self._shares
        given: NDArray[np.int64] = np.floor(w * max(k - len(w), 0)).astype(np.int64)
        for _ in range(k - int(given.sum())):
            due = (given + 0.5) / w
            given[len(w) - 1 - int(np.argmin(due[::-1]))] += 1
        return given

    def _chosen(self, step: int) -> NDArray[np.int64]:
        """The rows of a step."""
        chosen = []
        for index, (start, stop) in enumerate(zip(self.drawn(step), self.drawn(step + 1), strict=True)):
            at, size = int(start), len(self.places[index])
            while at < stop:
                epoch, place = divmod(at, size)
                part = self._order(index, epoch)[place : place + int(stop) - at]
                chosen.append(part)
                at += len(part)
        return np.concatenate(chosen)

    def batch(self, step: int) -> Batch:
        encoded = self.rows.encoded(self._chosen(step), self.pad_id)
        if self.policies.numbering:
            encoded = self.policies.numbering.rows(encoded, stream(self.seed, "positions", step))
        batch = Batch.of(encoded)
        if self._halves is None:
            return batch
        given = self.drawn(step + 1) - self.drawn(step)
        return dataclasses.replace(batch, halves=np.repeat(self._halves, given))

    def describe(self, step: int) -> str:
        rows = self._chosen(step)
        return describe_examples(self.rows.tasks, self.rows.task[rows], self.rows.length[rows])
