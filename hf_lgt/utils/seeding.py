"""What passes draw, as dropout does, depends on the run's seed, the step and the process alone."""

from __future__ import annotations

import torch

from data_builders.sampling import stream


def dropout_seed(seed: int, step: int, rank: int) -> int:
    """Seed of torch's global generators in a step of one process."""
    return int(stream(seed, "dropout", step, rank).integers(2**63))


def seed_generators(seed: int, device: torch.device) -> None:
    """Seed what a pass on a device draws from, as `torch.manual_seed` does.

    That one seeds every kind of device that torch knows of, and writes down the stack of the call for each
    that there is not: a millisecond a step.

    Args:
        seed: below 2**63.
        device: of this process, the current one of its kind.
    """
    torch.default_generator.manual_seed(seed)
    if device.type != "cpu":
        torch.get_device_module(device).manual_seed(seed)
