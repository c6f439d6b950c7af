"""Configs with some of their values exchanged, for what tries arbitrary ones."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any


def merged(base: dict[str, Any], changes: Iterable[tuple[tuple[Any, ...], Any]]) -> dict[str, Any]:
    """A config with some of its places taken by other values."""
    data = copy.deepcopy(base)
    for path, value in changes:
        at: Any = data
        try:
            for part in path[:-1]:
                at = at[part]
            at[path[-1]] = copy.deepcopy(value)
        except (TypeError, IndexError, KeyError):
            pass  # an earlier change took the place away
    return data
