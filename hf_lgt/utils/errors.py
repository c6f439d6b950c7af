"""Errors that end a program with a message rather than a traceback."""

from __future__ import annotations

from collections.abc import Sequence


class ConfigError(ValueError):
    """A user's mistake in settings; `faults` are all of them, each naming its key, none twice."""

    def __init__(self, faults: Sequence[str]) -> None:
        self.faults = list(dict.fromkeys(faults))
        super().__init__("\n".join(self.faults))


class RunError(RuntimeError):
    """A run cannot continue; the message says what happened and what may help."""


class TrainingError(RunError):
    """Training cannot continue; the message names the step."""


class CheckpointError(RunError):
    """A checkpoint cannot be used; the message names the file."""
