"""Prefetching of batches, and which devices need it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

import torch

T = TypeVar("T")


class Prefetcher(Generic[T]):
    """Calls a function of the step in a thread, one step ahead.

    Args:
        make: gives the same for the same step, whenever it is called.
        steps: none from this one on is made.
    """

    def __init__(self, make: Callable[[int], T], steps: int) -> None:
        self._make = make
        self._steps = steps
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="batches")
        self._coming: tuple[int, Future[T]] | None = None

    def __call__(self, step: int) -> T:
        """What `make` gives for a step; raises what it raised."""
        coming, self._coming = self._coming, None
        made = coming[1].result() if coming and coming[0] == step else self._make(step)
        if step + 1 < self._steps:
            self._coming = step + 1, self._pool.submit(self._make, step + 1)
        return made

    def forget(self) -> None:
        """Make the coming one again when it is asked for."""
        self._coming = None

    def close(self) -> None:
        """Make no more."""
        self._pool.shutdown(wait=False, cancel_futures=True)


def asynchronous(device: torch.device) -> bool:
    """Whether a device works asynchronously, so that reading a number from it makes both wait."""
    return device.type != "cpu"
