"""The uniform average of the weights over the last steps (stochastic weight averaging, Izmailov et al. 2018,
https://arxiv.org/abs/1803.05407).

It lies in the optimizer's state beside the moments, so that checkpoints, stacked runs and sharded weights
carry it along.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

NAME = "average"


def averaged_steps(steps: int, share: float) -> range:
    """The steps whose weights are averaged, counted from 1: the last ones."""
    return range(steps - round(share * steps) + 1, steps + 1)


@torch.no_grad()
def add_to_average(optimizer: torch.optim.Optimizer, count: int) -> None:
    """Add the weights as they are to their average.

    Args:
        optimizer: over the weights; those that never had a gradient never changed.
        count: of weights in the average, these among them.
    """
    for group in optimizer.param_groups:
        for weight in group["params"]:
            if not (state := optimizer.state.get(weight)):
                continue
            if count == 1:
                state[NAME] = weight.detach().clone()
            else:
                state[NAME].lerp_(weight, 1 / count)


@torch.no_grad()
def swap_average(optimizer: torch.optim.Optimizer) -> None:
    """Exchange the weights and their average."""
    for state, weight in [(optimizer.state.get(w), w) for g in optimizer.param_groups for w in g["params"]]:
        if state and NAME in state:
            kept = weight.detach().clone()
            weight.copy_(state[NAME])
            state[NAME].copy_(kept)


@contextmanager
def average_in_place(optimizer: torch.optim.Optimizer) -> Iterator[None]:
    """Within the block the weights are their average, if there is one yet."""
    swap_average(optimizer)
    try:
        yield
    finally:
        swap_average(optimizer)
