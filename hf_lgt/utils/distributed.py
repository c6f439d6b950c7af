"""The processes of a launch: who this one is, what all of them have, whether they live."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch

T = TypeVar("T")

LOST = (
    "another process of this launch ended; the same command, on as many processes or on others, resumes "
    "from the newest checkpoint"
)


def rank_and_world() -> tuple[int, int]:
    """(this process, number of processes); (0, 1) where nothing is distributed."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1


def gathered(value: Any) -> list[Any]:
    """A picklable value of each process, in their order; every one must call it."""
    world = rank_and_world()[1]
    if world == 1:
        return [value]
    every: list[Any] = [None] * world
    torch.distributed.all_gather_object(every, value)
    return every


def opened_alike(open_at: Callable[[Any], T], version_of: Callable[[T], Any], version: Any) -> T:
    """What `open_at` gives, on every process at the version that the first one found; all must call it.

    The others wait for the first, so that they find in the cache what it fetched.

    Args:
        open_at: opens something at a version, None: the newest.
        version_of: the version of what was opened.
        version: that the first process asks for.
    """
    if rank_and_world()[0] == 0:
        opened = open_at(version)
        gathered(version_of(opened))
        return opened
    return open_at(gathered(None)[0])


_GONE = ("closed by peer", "reset by peer", "connection closed", "connection reset")
_GONE_NCCL = (*_GONE, "remote process exited", "ncclremoteerror", "aborted")


def lost_process(error: BaseException) -> bool:
    """Whether an error says that another process of the launch is gone."""
    if not torch.distributed.is_available():
        return False
    if isinstance(error, torch.distributed.DistNetworkError):
        # of the store; until it has been reached, it is an address that is wrong or taken
        return torch.distributed.is_initialized()
    told = str(error).lower()
    # no type says which: NCCL raises one for all its errors, and gloo a plain RuntimeError
    if isinstance(error, torch.distributed.DistBackendError):
        return any(sign in told for sign in _GONE_NCCL)
    return type(error) is RuntimeError and "gloo" in told and any(sign in told for sign in _GONE)


def told_of_others(error: BaseException) -> str | None:
    """The message of an error in how processes work together; None: it is another error."""
    if lost_process(error):
        return LOST
    if torch.distributed.is_available() and isinstance(error, torch.distributed.DistError):
        return f"the processes of this launch cannot work together: {' '.join(str(error).split())[:400]}"
    return None
