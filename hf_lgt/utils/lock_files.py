"""What a lock's file holds, and what it needs of the system: `flock`, names taken at once, processes."""

from __future__ import annotations

import errno
import json
import os
import re
import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import NamedTuple

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

LONGEST = 4096
"""bytes of a lock's text; ours take some 300"""
_UNSUPPORTED = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP, errno.EINVAL}
_NO_LINKS = _UNSUPPORTED | {errno.EPERM, errno.EMLINK, errno.EXDEV, errno.EACCES}
_PROC = Path("/proc")


@dataclass(frozen=True)
class Holder:
    """The process that holds a lock; what its file does not tell is empty."""

    host: str = ""
    pid: int = 0
    mark: str = ""
    """differs for another process that got the same pid"""
    place: str = ""
    """machine, boot and pid namespace: where `pid` means something"""
    started: str = ""
    """when it took the lock, ISO, UTC"""
    flock: bool = False
    """whether the kernel frees it"""
    token: str = ""
    """of this one lock"""

    @classmethod
    def read(cls, text: bytes) -> Holder:
        """From a lock's text, which anything may have happened to."""
        try:
            data = json.loads(text)
            known = {name: data[name] for name in cls.__dataclass_fields__}
            # what is of another type could not be compared or shown
            fits = all(type(known[name]) is type(getattr(cls, name)) for name in known)
        except (ValueError, KeyError, TypeError, RecursionError):
            return cls()
        return cls(**known) if fits else cls()

    @classmethod
    def this(cls, flock: bool) -> Holder:
        """This process."""
        now = datetime.now(timezone.utc).isoformat(timespec="seconds")
        mark = process_mark(os.getpid()) or ""
        return cls(host(), os.getpid(), mark, place(), now, flock, secrets.token_hex(8))

    def __str__(self) -> str:
        """``process 1234 on host abc``."""
        who = f"process {self.pid} on host {self.host}" if self.pid else "a process that it does not name"
        return "".join(letter for letter in who if letter.isprintable())

    def since(self) -> str:
        """`` since 12:03:04``, with the date if it was not today; local time."""
        try:
            moment = datetime.fromisoformat(self.started).astimezone()
        except (ValueError, OverflowError, OSError):
            return ""
        today = moment.date() == datetime.now().astimezone().date()
        return f" since {moment.strftime('%H:%M:%S' if today else '%Y-%m-%d %H:%M:%S')}"


class Seen(NamedTuple):
    """How a file looked."""

    text: bytes
    """its first bytes, one more than `LONGEST` at most"""
    modified: int
    """by the clock of whoever keeps the file, to be compared with itself only"""
    inode: int


def look(path: Path) -> Seen:
    """Read a lock's file anew; a network's client asks its server again when a file is opened."""
    with opened(path, os.O_RDONLY) as handle:
        text = os.read(handle, LONGEST + 1)
        status = os.fstat(handle)
    return Seen(text, status.st_mtime_ns, status.st_ino)


@contextmanager
def opened(path: Path, flags: int) -> Iterator[int]:
    """The descriptor of a file, closed at the end and on exec; for reading alone where that is allowed."""
    at_once = getattr(os, "O_NONBLOCK", 0)  # not waiting for somebody at the other end of a pipe of this name
    try:
        handle = os.open(path, flags | at_once)
    except PermissionError:
        handle = os.open(path, os.O_RDONLY | at_once)  # of another user; enough to see who holds it
    try:
        yield handle
    finally:
        os.close(handle)


def flock(handle: int, *, shared: bool = False, patience: float = 0.5) -> bool | None:
    """Take the kernel's lock of an open file: whether it was free, or None where there is no such lock.

    Args:
        handle: the open file, which holds the lock until it is closed.
        shared: only to see whether somebody holds it.
        patience: seconds in which those who only look, or are about to be gone, go.
    """
    if fcntl is None:
        return None
    end = time.monotonic() + patience
    while True:
        try:
            fcntl.flock(handle, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                return False
            time.sleep(0.02)
        except OSError as error:
            if error.errno in _UNSUPPORTED:
                return None
            raise
        else:
            return True


def is_at(handle: int, path: Path) -> bool:
    """Whether an open file is the one that has this name now."""
    try:
        return os.path.samestat(os.fstat(handle), path.stat())
    except FileNotFoundError:
        return False


def write(handle: int, text: str, path: Path) -> None:
    """Write a text to an open file; an error names its path."""
    try:
        left = text.encode()
        while left:
            left = left[os.write(handle, left) :]
        os.fsync(handle)
    except OSError as error:
        error.filename = str(path)
        raise


def publish(draft: Path, path: Path) -> bool:
    """Give a draft a name that nothing has; False if something has it."""
    try:
        os.link(draft, path)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
    else:
        return True
    # a filesystem without hard links: take the name first, then put the draft there
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o644))
    except FileExistsError:
        return False
    draft.replace(path)
    return True


def clear_drafts(path: Path) -> None:
    """Remove drafts of a lock that killed processes left; one that is in use is made again."""
    for found in path.parent.iterdir():
        if re.fullmatch(re.escape(path.name) + r"\.\d+-[0-9a-f]{8}", found.name):
            with suppress(OSError):
                found.unlink()


def host() -> str:
    """This machine's name."""
    return socket.gethostname()


def boot() -> str:
    """Differs after each start of a machine and between machines, even two of one name."""
    try:
        return (_PROC / "sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    except OSError:
        return host()


def place() -> str:
    """Where a pid means something: this boot of this machine, and within it the pid namespace."""
    try:
        return f"{boot()} {(_PROC / 'self/ns/pid').readlink()}"
    except OSError:
        return boot()


def process_mark(pid: int) -> str | None:
    """When a process began, on a clock that nobody sets; None if none with this pid runs."""
    try:
        # the command's name, in brackets, may hold spaces and brackets
        fields = (
            (_PROC / str(pid) / "stat")
            .read_text(errors="replace", encoding="utf-8")
            .rpartition(")")[2]
            .split()
        )
        return None if fields[0] in "ZX" else fields[19]
    except (OSError, IndexError, ValueError):
        if (_PROC / "self/stat").exists():
            return None
    import psutil  # type: ignore[import-untyped,unused-ignore]

    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else str(process.create_time())
    except (psutil.Error, ValueError, OverflowError):
        return None
