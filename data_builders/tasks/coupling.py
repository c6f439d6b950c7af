"""Places that belong together: the blocks in which coupled positions are numbered (`register_task`)."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from data_builders.arrays import Counts, Sample, first
from data_builders.symbols import PAD, char

Places = NDArray[np.int64]


def block_places(sample: Sample, restarts: str, width: int, *, tags: bool) -> Places:
    """Place of each token of full sequences in its block, 0 where a block begins; int64 [n, width].

    Args:
        sample: n examples.
        restarts: signs of the prompt that begin a block.
        width: tokens of the longest sequence, or more.
        tags: whether a tag stands before the prompt: it begins the first block. Without one, the
            beginning of sequence stands for it.
    """
    columns = np.arange(width)
    head = 2 if tags else 1
    begins = np.zeros((len(sample), width), dtype=np.bool_)
    begins[:, head - 1] = True
    # signs of the target, as the minus of a difference, begin none
    signs = np.isin(sample.prompt, [char(sign) for sign in restarts])
    begins[:, head : head + sample.prompt.shape[1]] = signs
    places: Places = columns - np.maximum.accumulate(np.where(begins, columns, 0), axis=1)
    return places


def last_places(places: Places, lengths: Counts) -> Counts:
    """The largest place of each sequence, int64 [n].

    Args:
        places: from `block_places`.
        lengths: int64 [n], tokens of each sequence.
    """
    last: Counts = np.where(first(lengths, places.shape[1]), places, 0).max(axis=1, initial=0)
    return last


def numbers_needed(sample: Sample, restarts: str, *, tags: bool) -> int:
    """How many numbers coupled positions of these examples take, 0 for the beginning of sequence included."""
    written = (sample.prompt != PAD).sum(axis=1) + (sample.target != PAD).sum(axis=1)
    lengths = written + (3 if tags else 2)
    # room for the padding of prompts too
    width = sample.prompt.shape[1] + sample.target.shape[1] + 3
    return int(last_places(block_places(sample, restarts, width, tags=tags), lengths).max()) + 2
