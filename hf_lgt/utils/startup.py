"""Quicker starts and ends of a program.

Importing torch and transformers makes some million objects that stay. Python looks through them for garbage
again and again while they come, and once more when the program ends: a third of the time that an import of
`hf_lgt.workflows.train` and the end of the program take (benchmarks/NOTES.md).
"""

from __future__ import annotations

import atexit
import functools
import gc
from collections.abc import Iterator
from contextlib import contextmanager

OBJECTS = 10_000
"""new objects between two garbage collections; Python's own number is some hundreds"""


@contextmanager
def rare_collections() -> Iterator[None]:
    """Look for garbage less often within the block, and not at all once the program ends."""
    before = gc.get_threshold()
    gc.set_threshold(max(before[0], OBJECTS) if before[0] else 0, *before[1:])  # 0: somebody turned it off
    _none_at_the_end()
    try:
        yield
    finally:
        gc.set_threshold(*before)


@functools.cache
def _none_at_the_end() -> None:
    atexit.register(gc.freeze)
