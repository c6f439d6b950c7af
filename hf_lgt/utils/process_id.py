"""Telling processes apart: two may have the same pid, one after the other or on two machines."""

from __future__ import annotations

import socket
from pathlib import Path

_PROC = Path("/proc")


def boot() -> str:
    """Differs after each start of a machine and between machines, even two of one name."""
    try:
        return (_PROC / "sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    except OSError:
        return socket.gethostname()


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
