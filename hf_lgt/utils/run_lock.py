"""One writer for a run's folder: the kernel's lock of a file beside it, ``.NAME.lock``.

The kernel frees the lock when its process ends, however it ends. On a network's file system the server does,
for the processes of all hosts: NFS 4, or Lustre mounted with ``flock``. A second file, ``.NAME.lock.holder``,
says who holds the lock; messages need it, the lock does not.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
import time
from contextlib import suppress
from pathlib import Path

from filelock import FileLock, Timeout

from data_builders.reading import read_text
from hf_lgt.utils.atomic_io import is_full, make_folders, remove_empty
from hf_lgt.utils.errors import ConfigError, RunError

_log = logging.getLogger(__name__)

PATIENCE = 0.5
"""seconds in which those who only look, or are about to be gone, go"""
ATTEMPTS = 200
"""how often the folder may vanish under one `acquire` before it gives up"""
LONGEST = 400
"""bytes of a holder's file"""
UNNAMED = "a process that it does not name"
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP}


class RunLock:
    """The right of this process to write a run's folder, until `release` or the end of the process.

    A child that Python forks drops the lock, so that one that outlives this process does not keep it; one
    that other code forks without exec keeps the lock as long as it runs.
    """

    def __init__(self, lock: FileLock, made: list[Path]) -> None:
        self.path = Path(lock.lock_file)
        self.mine = f"process {os.getpid()} on host {socket.gethostname()}"
        self._lock = lock
        self._made = made

    @classmethod
    def acquire(cls, run_dir: Path) -> RunLock:
        """Take the lock of a run's folder, which need not exist.

        Args:
            run_dir: the folder.

        Raises:
            ConfigError: another process holds it, no file can be made there, or its file system has no locks.
            OSError: the disk is full.
        """
        path = lock_path(run_dir)
        made: list[Path] = []
        try:
            held = cls(_locked(path, made), made)
            left = _holder(path)
            held._sign()
        except BaseException as error:
            remove_empty(made)
            if isinstance(error, Timeout):
                raise ConfigError([_refusal(run_dir, path)]) from None
            if isinstance(error, OSError) and not is_full(error):
                raise ConfigError([_fault(path, error)]) from None
            raise
        _held[path] = held
        if left != UNNAMED:
            _log.info("took over the lock of %s, which has ended", left)
        return held

    @staticmethod
    def holder(run_dir: Path) -> str | None:
        """Who writes a run's folder, as ``process 1234 on host a``; None if nobody does. Makes no file.

        Raises:
            ConfigError: the lock's file cannot be opened.
        """
        path = lock_path(run_dir)
        try:
            if os.path.lexists(path):
                _file_lock(path).acquire(timeout=PATIENCE).lock.release()
        except Timeout:
            return _holder(path)
        except OSError as error:
            raise ConfigError([_fault(path, error)]) from None
        return None

    def release(self) -> None:
        """Give the lock back; never raises, and does nothing the second time or in a forked child."""
        if not self._lock.is_locked:
            return
        _held.pop(self.path, None)
        if not self.is_lost():
            # removed while they are held: who waits for this very file then finds that it is gone
            for file in (_holder_file(self.path), self.path):
                with suppress(OSError):
                    file.unlink()
        with suppress(OSError):
            self._lock.release()
        remove_empty(self._made)

    def is_lost(self) -> bool:
        """Whether another process has taken the lock, as after somebody removed its file."""
        return _holder(self.path) not in (self.mine, UNNAMED)

    def _sign(self) -> None:
        """Write who holds the lock."""
        try:
            file = _holder_file(self.path)
            file.unlink(missing_ok=True)  # not written to: it may be a link, a pipe or another user's
            with open(file, "x", encoding="utf-8") as handle:
                handle.write(self.mine)
        except BaseException:
            self.release()
            raise

    def __enter__(self) -> RunLock:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


_held: dict[Path, RunLock] = {}


def check_held(run_dir: Path) -> None:
    """Stop a writer whose lock another one has taken meanwhile, as after somebody removed its file.

    Raises:
        RunError: it has; a folder of which this process never had the lock is not looked at.
    """
    lock = _held.get(lock_path(run_dir))
    if lock and lock.is_lost():
        raise RunError(
            f"{run_dir}: another process has taken over its lock {lock.path}; this one stops writing"
        )


def clear_lock(run_dir: Path) -> None:
    """Remove the lock of a run's folder if its process was killed."""
    if os.path.lexists(lock_path(run_dir)):
        with suppress(OSError, ConfigError):
            RunLock.acquire(run_dir).release()


def lock_path(run_dir: Path) -> Path:
    """Beside the folder, which may be removed and made again; the same by whatever links one comes."""
    real = Path(os.path.realpath(run_dir))
    return real.parent / f".{real.name}.lock"


def _locked(path: Path, made: list[Path]) -> FileLock:
    """The kernel's lock; `made` gets the folders that were missing."""
    lock, is_new = _file_lock(path), not os.path.lexists(path)
    for attempt in range(1, ATTEMPTS + 1):
        try:
            make_folders(path.parent, made)
            lock.acquire(timeout=PATIENCE)
            break
        except FileNotFoundError:  # another process has just removed the folder, which was empty
            if attempt == ATTEMPTS:
                raise
        except OSError as error:
            if error.errno in _NO_LOCKS and is_new:
                path.unlink(missing_ok=True)
            raise
    return lock


def _file_lock(path: Path) -> FileLock:
    # open to all who may write the folder, one of whom may take over what another's killed process left; and
    # no fallback to files whose mere existence is the lock, which outlive their process
    return FileLock(path, mode=0o666, thread_local=False, fallback_to_soft=False)


def _holder_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.holder")


def _holder(path: Path) -> str:
    """Who holds a lock, from the file beside it, which anything may have happened to."""
    with suppress(OSError):
        return "".join(filter(str.isprintable, read_text(_holder_file(path), LONGEST))) or UNNAMED
    return UNNAMED


def _refusal(run_dir: Path, path: Path) -> str:
    """The fault of a folder that another process writes."""
    since = ""
    with suppress(OSError, OverflowError, ValueError):
        then = time.localtime(_holder_file(path).stat().st_mtime)
        is_today = then[:3] == time.localtime()[:3]
        since = time.strftime(" since %H:%M:%S" if is_today else " since %Y-%m-%d %H:%M:%S", then)
    advice = "wait for it, stop it, or choose another name"
    return f"name: {run_dir} is being written by {_holder(path)}{since}; {advice}"


def _fault(path: Path, error: OSError) -> str:
    if error.errno in _NO_LOCKS:
        told = (
            "its file system has no locks (flock), so two runs could write there at once; put output_dir on"
        )
        return f"output_dir: {path.parent}: {told} one that has, as NFS 4, Lustre with flock or a local disk"
    return f"output_dir: {error.filename or path}: {error.strerror or error}"
