"""Sequences of a fixed length from one long stream of tokens; the batch of a step by the step alone."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from data_builders.sampling import stream
from hf_lgt.data.batching import Batch


class BlockSource:
    """Cuts a stream into blocks and gives each once an epoch, in an order drawn anew for each epoch.

    An epoch also begins to cut at a place of its own, so that in time every token is predicted from
    contexts of every size. A batch depends on the step and the seed alone.

    Args:
        tokens: unsigned ids, at least 2 x `length` - 1 of them.
        length: tokens of a block.
        batch_size: blocks of the global batch.
        seed: the data seed.

    Raises:
        ValueError: the stream is too short for one block wherever the cutting begins.
    """

    def __init__(self, tokens: NDArray[np.uint16], *, length: int, batch_size: int, seed: int) -> None:
        self.tokens = tokens
        self.length = length
        self.batch_size = batch_size
        self.seed = seed
        # as many wherever the cutting begins, so that the k-th block of all is in epoch k // blocks
        self.blocks = (len(tokens) - length + 1) // length
        if self.blocks < 1:
            raise ValueError(f"{len(tokens)} tokens are too few for blocks of {length}")
        # the current epoch, and the one that a batch may begin
        self._starts = lru_cache(maxsize=2)(self._draw_starts)

    def _draw_starts(self, epoch: int) -> NDArray[np.int64]:
        """Where the blocks of an epoch begin, in their order; int64 [blocks]."""
        drawn = stream(self.seed, "blocks", epoch)
        offset = int(drawn.integers(self.length))
        return drawn.permutation(self.blocks) * self.length + offset

    def starts(self, step: int) -> NDArray[np.int64]:
        """Where the blocks of a step begin in the stream, int64 [batch]."""
        at, stop, parts = step * self.batch_size, (step + 1) * self.batch_size, []
        while at < stop:
            epoch, place = divmod(at, self.blocks)
            parts.append(self._starts(epoch)[place : place + stop - at])
            at += len(parts[-1])
        return np.concatenate(parts)

    def batch(self, step: int) -> Batch:
        return block_batch(self.tokens, self.starts(step), self.length)

    def describe(self, step: int) -> str:
        return f"{self.batch_size} sequences of {self.length} tokens"


def block_batch(tokens: NDArray[np.uint16], starts: NDArray[np.int64], length: int) -> Batch:
    """The blocks that begin at these places; all tokens but the first of each are predicted."""
    ids = tokens[starts[:, None] + np.arange(length)].astype(np.int64)
    scored = np.ones(ids.shape, dtype=np.bool_)
    scored[:, 0] = False
    return Batch(ids, np.full(len(starts), length, dtype=np.int64), scored)


def spread_starts(tokens: int, length: int, most: int) -> NDArray[np.int64]:
    """Where at most so many blocks begin that are spread evenly over a stream, ascending; int64 [n]."""
    blocks = tokens // length
    chosen = np.unique(np.linspace(0, blocks - 1, min(most, blocks)).round().astype(np.int64))
    return chosen * length
