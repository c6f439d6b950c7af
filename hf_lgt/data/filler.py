"""Filler before training examples: what a model learns then stands at other places than the first.

A random number of beginning tokens comes before each example, so that its prompt and answer are read at many
positions, those of longer examples among them. Test examples have none.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data_builders.sampling import stream
from hf_lgt.data.batch_sources import Source
from hf_lgt.data.batching import Batch


@dataclass(frozen=True)
class FilledSource:
    """The batches of a source, with filler."""

    source: Source
    most: int
    """tokens of filler of an example; as many as that, or none, are as likely as any other number"""
    token: int
    """the beginning token"""
    seed: int
    """the data seed"""

    def batch(self, step: int) -> Batch:
        batch = self.source.batch(step)
        counts = stream(self.seed, "filler", step).integers(0, self.most + 1, size=len(batch.lengths))
        return filled(batch, counts, self.token)

    def describe(self, step: int) -> str:
        return self.source.describe(step)


def filled(batch: Batch, counts: NDArray[np.int64], token: int) -> Batch:
    """A batch, each row moved to the right behind so many tokens of filler.

    Args:
        batch: without position IDs of its own.
        counts: int64 [B], tokens of filler.
        token: what they are.
    """
    assert batch.positions is None, "checked with the config"
    lengths = batch.lengths + counts
    places = np.arange(int(lengths.max())) - counts[:, None]
    width = batch.ids.shape[1]
    # beyond a row's end stands whatever its last column has: padding, or a token that no length counts
    known = np.clip(places, 0, width - 1)
    ids = np.where(places < 0, token, np.take_along_axis(batch.ids, known, axis=1))
    scored = np.take_along_axis(batch.scored, known, axis=1) & (places >= 0) & (places < width)
    return dataclasses.replace(batch, ids=ids, lengths=lengths, scored=scored)
