"""Where the batch of step t comes from: one contract for every source."""

from __future__ import annotations

from typing import Protocol

from data_builders import Mixture
from data_builders.sampling import HeldOut, draw_batch
from hf_lgt.batching import Batch
from hf_lgt.codec import Codec


class Source(Protocol):
    """Gives the global batch of a step, the same whenever and wherever it is asked."""

    def batch(self, step: int) -> Batch:
        """The examples of training step `step`, from 0."""
        ...


class GeneratedSource:
    """Draws each batch when it is needed (the paper's way).

    Args:
        mixture: what to draw from.
        codec: gives the token ids.
        batch_size: examples of the global batch.
        seed: the data seed.
        held_out: test prompts that no example may have.
    """

    def __init__(
        self, mixture: Mixture, codec: Codec, *, batch_size: int, seed: int, held_out: HeldOut | None = None
    ) -> None:
        self.mixture = mixture
        self.codec = codec
        self.batch_size = batch_size
        self.seed = seed
        self.held_out = held_out

    def batch(self, step: int) -> Batch:
        drawn = draw_batch(self.mixture, step, self.batch_size, self.seed, self.held_out)
        groups = [
            (rows, self.codec.encode(sample, component.task))
            for component, (rows, sample) in zip(self.mixture.components, drawn.groups, strict=True)
        ]
        return Batch.collate(self.batch_size, groups, self.codec.pad_id)
