"""Standard output and error that end no program, and in which no name or path moves a terminal's cursor.

They may have any encoding, be closed, be full or be read no more.
"""

from __future__ import annotations

import io
import os
import re
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from data_builders.texts import printable


class _Tolerant(io.FileIO):
    """A descriptor to write to that keeps its first failure instead of raising it."""

    failure: OSError | None = None

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, "w", closefd=False)

    def write(self, data: Any) -> int:
        try:
            while (count := super().write(data)) is None:
                select.select([], [self], [])  # made non-blocking by whoever shares it
        except OSError as error:
            self.failure = self.failure or error
            return memoryview(data).nbytes
        return count


def make_tolerant() -> None:
    """Let nothing that is written to `sys.stdout` or `sys.stderr` raise; what cannot be encoded is escaped.

    Streams that a notebook or a test put in their place are kept.
    """
    _open_closed()
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115
        elif stream is getattr(sys, f"__{name}__") and isinstance(stream, io.TextIOWrapper):
            setattr(sys, name, _tolerant(stream))
        elif hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def failure() -> OSError | None:
    """Why standard output could not be written, None where all of it was."""
    raw = _raw(sys.stdout)
    if not isinstance(raw, _Tolerant):
        return None
    sys.stdout.flush()
    return raw.failure


def _open_closed() -> None:
    """Let no file get the descriptor of a standard stream that is closed: C libraries would write to it."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)


def _raw(stream: Any) -> Any:
    buffer = getattr(stream, "buffer", None)
    return getattr(buffer, "raw", buffer)


def _tolerant(stream: io.TextIOWrapper) -> io.TextIOWrapper:
    """A stream on the same descriptor."""
    if not isinstance(_raw(stream), io.FileIO):
        return stream
    with suppress(OSError):
        stream.flush()
    return io.TextIOWrapper(
        io.BufferedWriter(_Tolerant(stream.fileno())),
        encoding=stream.encoding,
        errors="backslashreplace",
        line_buffering=stream.line_buffering,
        write_through=stream.write_through,
    )


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
