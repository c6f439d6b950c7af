"""What the machine can do: its matrix products at a model's own shapes, and its memory."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from typing import Any

import torch

from benchmarks.training import block_shapes
from hf_lgt.data.batching import Batch

CPU = torch.device("cpu")


def wait_for(device: torch.device) -> None:
    """Let a device end what it was given."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def matrix_products(
    sizes: Any,
    batches: Sequence[Batch],
    rounds: int,
    device: torch.device = CPU,
    dtype: torch.dtype = torch.float32,
) -> float:
    """Operations a second of the matrix products of a training step without padding, and nothing else.

    Forward and both backward products of every linear layer, one layer's worth, on the tokens of a batch: the
    median of some rounds.

    Args:
        sizes: config of a Llama.
        batches: of some steps.
        rounds: how often.
        device: that does them.
        dtype: of the matrices.
    """
    tokens = round(sum(batch.tokens - len(batch.lengths) for batch in batches) / len(batches))
    shapes = block_shapes(sizes)
    rng = torch.Generator().manual_seed(0)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=rng).to(device, dtype)

    made = [(drawn(tokens, a), drawn(b, a)) for a, b in shapes]
    written = [drawn(tokens, b) for _, b in shapes]

    def once() -> float:
        wait_for(device)
        start = time.perf_counter()
        for (x, w), y in zip(made, written, strict=True):
            x @ w.T
            y @ w
            y.T @ x
        wait_for(device)
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
