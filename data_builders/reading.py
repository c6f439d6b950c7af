"""Reading files that somebody else may have written, changed or damaged.

Only regular files are read, as a pipe would be waited for and a device has no end, and never more bytes than
a limit. Every fault is an `OSError` with `filename` and `strerror`, the reason in a few words.
"""

from __future__ import annotations

import errno
import io
import json
import os
import stat
from pathlib import Path
from typing import Any, BinaryIO

LARGEST = 64 << 20
"""bytes of a file that is read whole, unless told"""
LARGEST_LOG = 1 << 30
"""bytes of a log of lines"""


class UnreadableFileError(OSError):
    """The contents of a file are not what they should be."""

    def __init__(self, path: str | Path, reason: str) -> None:
        super().__init__(errno.EINVAL, reason, str(path))


def open_regular(path: str | Path) -> BinaryIO:
    """Open a regular file for reading bytes.

    Raises:
        OSError: it is missing, or no regular file.
    """
    # without waiting, as opening a pipe waits for somebody who writes to it
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    try:
        handle = os.open(path, flags)
    except ValueError:  # NUL, or letters that this locale's file names cannot have
        raise UnreadableFileError(path, "is no path of a file") from None
    try:
        mode = os.fstat(handle).st_mode
        if not stat.S_ISREG(mode):
            what = "a folder" if stat.S_ISDIR(mode) else "a pipe or a device"
            raise UnreadableFileError(path, f"is {what}, not a file")
        return os.fdopen(handle, "rb")
    except BaseException:
        os.close(handle)
        raise


def read_bytes(path: str | Path, limit: int = LARGEST) -> bytes:
    """All bytes of a regular file.

    Raises:
        OSError: it is missing, no regular file, or larger than `limit`.
    """
    with open_regular(path) as file:
        # the size first: a file with holes takes no room on disk, but in memory
        data = file.read(limit + 1) if os.fstat(file.fileno()).st_size <= limit else None
    if data is None or len(data) > limit:
        raise UnreadableFileError(path, f"is larger than {limit >> 20} MB")
    return data


def beginning(path: str | Path, count: int) -> bytes:
    """The first bytes of a regular file.

    Raises:
        OSError: it is missing, or no regular file.
    """
    with open_regular(path) as file:
        return file.read(count)


def end(path: str | Path, count: int) -> bytes:
    """The last bytes of a regular file.

    Raises:
        OSError: it is missing, or no regular file.
    """
    with open_regular(path) as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - count))
        return file.read(count)


def read_text(path: str | Path, limit: int = LARGEST) -> str:
    """The text of a regular file.

    Raises:
        OSError: as `read_bytes`, or it is not UTF-8.
    """
    data = read_bytes(path, limit)
    try:
        return io.TextIOWrapper(io.BytesIO(data), encoding="utf-8").read()
    except UnicodeDecodeError:
        raise UnreadableFileError(path, "is not UTF-8 text") from None


def read_json(path: str | Path, limit: int = LARGEST) -> dict[str, Any]:
    """The JSON object that a regular file holds.

    Raises:
        OSError: as `read_text`, or it is no JSON object, or holds half a character (a lone surrogate), which
            no file could be written with.
    """
    text = read_text(path, limit)
    try:
        data = json.loads(text)
        if "\\ud" in text.lower():  # only an escape can stand for one
            json.dumps(data, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        raise UnreadableFileError(path, "holds text that is no valid Unicode") from None
    except RecursionError:
        raise UnreadableFileError(path, "is nested too deeply") from None
    except ValueError:
        raise UnreadableFileError(path, "is not JSON") from None
    if not isinstance(data, dict):
        raise UnreadableFileError(path, "holds no JSON object")
    return data


def holds_text(path: str | Path, text: str) -> bool:
    """Whether a regular file holds exactly this text; False where it cannot be read."""
    try:
        return read_text(path) == text
    except OSError:
        return False
