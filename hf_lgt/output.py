"""What a recipe prints, made inert: no name, path or library moves a terminal's cursor or hides text."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from data_builders.texts import printable

BAR_MOVES = re.compile("(\r|\x1b\\[A)")
"""what progress bars on standard error need: to the start of the line, and a line up"""


class _Inert:
    """A stream that gets text with its control characters as escapes."""

    def __init__(self, stream: Any, bars: bool) -> None:
        self._stream, self._bars = stream, bars

    def write(self, text: str) -> int:
        parts = BAR_MOVES.split(text) if self._bars else [text]
        # every second part is a move itself
        self._stream.write("".join(part if i % 2 else printable(part) for i, part in enumerate(parts)))
        return len(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


@contextmanager
def inert_output() -> Iterator[None]:
    """Escape control characters in what is written to `sys.stdout` and `sys.stderr` within the block."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = _Inert(sys.stdout, bars=False), _Inert(sys.stderr, bars=True)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
