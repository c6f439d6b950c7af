"""Types of the recipes' arguments, each refusing what is none in one line."""

from __future__ import annotations

import argparse
from pathlib import Path

from hf_lgt.utils.atomic_io import expanded
from hf_lgt.utils.errors import ConfigError

LONGEST = 18
"""digits of a number; longer ones are sizes of nothing, and may be too long to read"""


def positive(text: str) -> int:
    """Argument type: an integer from 1."""
    return _number(text, 1)


def minutes(text: str) -> float:
    """Argument type: a number above 0."""
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not 0 < found < float(10**LONGEST):
        raise argparse.ArgumentTypeError(f"{text[:LONGEST]!r} must be a number of minutes above 0")
    return found


def path(text: str) -> str:
    """Argument type: the path of a file or folder; of ``--option=~/x`` a shell leaves the ``~``."""
    try:
        return expanded(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} {error}") from None


def folder(text: str) -> Path:
    """Argument type: as `path`."""
    return Path(path(text))


def count(text: str) -> int:
    """Argument type: an integer from 0."""
    return _number(text, 0)


def _number(text: str, least: int) -> int:
    if not text.isdecimal() or len(text) > LONGEST or int(text) < least:
        shown = text if len(text) <= LONGEST else f"{text[:LONGEST]}..."
        raise argparse.ArgumentTypeError(f"{shown!r} must be an integer >= {least}, not above 10^{LONGEST}")
    return int(text)


def lengths(text: str) -> tuple[int, ...]:
    """Argument type: different integers from 1, as ``8,12,16``; gives them in ascending order."""
    found = [positive(word.strip()) for word in text.split(",")]
    if len(set(found)) < len(found):
        raise argparse.ArgumentTypeError(f"{text!r} must be different lengths")
    return tuple(sorted(found))


def seeds(text: str) -> tuple[int, ...]:
    """Seeds as ``0,1,2``.

    Raises:
        ConfigError: not such a list, or a seed twice.
    """
    from hf_lgt.experiments.spec import seed_faults

    words = [word.strip() for word in text.split(",")]
    # longer numbers are no seeds, and may be too long to read
    values = [int(word) if word.isdecimal() and len(word) < 20 else word for word in words]
    if faults := seed_faults(values):
        raise ConfigError([f"--{fault}" for fault in faults])
    return tuple(int(value) for value in values)
