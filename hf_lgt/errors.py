"""Errors that end a run with a message rather than a traceback; `config.ConfigError` is the user's."""

from __future__ import annotations


class RunError(RuntimeError):
    """A run cannot go on; the message says what happened and what may help."""


class TrainingError(RunError):
    """Training cannot go on; the message names the step."""


class CheckpointError(RunError):
    """A checkpoint cannot be used; the message names the file."""
