"""What the machine can do: its matrix products at a model's own shapes, and its memory."""

from __future__ import annotations

import statistics
import time

import torch

from benchmarks.training import Setting


def matrix_products(setting: Setting, rounds: int) -> float:
    """Operations a second of the matrix products of a training step without padding, and nothing else.

    Forward and both backward products of every linear layer, one layer's worth, on the tokens of a batch: the
    median of some rounds.
    """
    m = setting.config.model
    tokens = round(sum(batch.tokens - len(batch.lengths) for batch in setting.batches) / len(setting.batches))
    shapes = [(m.hidden_size, m.hidden_size)] * 4 + [(m.hidden_size, m.intermediate_size)] * 3
    rng = torch.Generator().manual_seed(0)
    made = [(torch.randn(tokens, a, generator=rng), torch.randn(b, a, generator=rng)) for a, b in shapes]
    written = [torch.randn(tokens, b, generator=rng) for _, b in shapes]

    def once() -> float:
        start = time.perf_counter()
        for (x, w), y in zip(made, written, strict=True):
            x @ w.T
            y @ w
            y.T @ x
        return time.perf_counter() - start

    once()
    each = max(1, round(0.3 / once()))  # long enough to be timed
    seconds = [sum(once() for _ in range(each)) / each for _ in range(rounds)]
    return sum(6 * tokens * a * b for a, b in shapes) / statistics.median(seconds)


def memory(rounds: int, size: int = 2**28) -> float:
    """Bytes a second that a copy reads and writes together, beyond the caches."""
    source, copy = torch.ones(size // 4), torch.empty(size // 4)
    copy.copy_(source)
    seconds = []
    for _ in range(rounds):
        start = time.perf_counter()
        copy.copy_(source)
        seconds.append(time.perf_counter() - start)
    return 2 * size / statistics.median(seconds)
