"""Sharded weights (FSDP2): gathered for files, sharded again when they are read.

A checkpoint has one form, that of a single process, so that a run resumes under any layout. Every
process must call the functions that gather: each one holds a part.
"""

from __future__ import annotations

from typing import Any

import torch


def is_sharded(model: Any) -> bool:
    """Whether this process holds only a part of a model's weights."""
    return any(_is_part(p) for p in model.parameters())


def _is_part(value: Any) -> bool:
    # torch's DTensor, whose import takes a second that a run in one process need not wait for
    return hasattr(value, "full_tensor")


def whole(value: Any) -> Any:
    """A gathered tensor; other values as they are."""
    return value.full_tensor() if _is_part(value) else value


def _kept(value: Any, keep: bool) -> Any:
    """A gathered tensor, on the CPU; None where it is not to be kept. Other values as they are."""
    if not _is_part(value):
        return value
    gathered = whole(value)
    return gathered.cpu() if keep else None


def full_weights(model: Any, keep: bool) -> dict[str, Any] | None:
    """The gathered state of a model whose weights are sharded; None of any other.

    Args:
        model: the bare model.
        keep: whether this process wants it; the others help to gather it and get an empty one.
    """
    if not is_sharded(model):
        return None
    state = {name: _kept(value, keep) for name, value in model.state_dict().items()}
    return state if keep else {}


def full_optimizer(optimizer: torch.optim.Optimizer, keep: bool) -> dict[str, Any]:
    """The state of an optimizer as a single process has it: parameters numbered in their groups' order.

    Args:
        optimizer: bare or prepared by Accelerate.
        keep: see `full_weights`.
    """
    state = optimizer.state_dict()
    moments = {
        number: {name: _kept(value, keep) for name, value in of_one.items()}
        for number, of_one in state["state"].items()
    }
    return {**state, "state": moments} if keep else {}


def load_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    """Set an optimizer to a state from `full_optimizer`, sharded as its parameters are.

    Args:
        optimizer: over the parameters that are trained, so after Accelerate has prepared it.
        state: on the CPU.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    moments = {
        number: {name: _share(value, parameters[number]) for name, value in of_one.items()}
        for number, of_one in state["state"].items()
    }
    optimizer.load_state_dict({**state, "state": moments})


def _share(value: Any, parameter: torch.Tensor) -> Any:
    """This process's part of a tensor that is as large as a parameter; other values as they are."""
    if not _is_part(parameter) or getattr(value, "shape", None) != parameter.shape:
        return value
    from torch.distributed.tensor import distribute_tensor

    place: Any = parameter
    # every process has read the whole; a copy, so that the whole is not kept for the part's sake
    part = distribute_tensor(value, place.device_mesh, place.placements, src_data_rank=None)
    return part.clone()
