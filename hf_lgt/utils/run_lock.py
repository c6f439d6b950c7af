"""One writer for a run's folder: a lock beside it that tells who holds it and outlives nobody.

Where the filesystem has `flock` the kernel frees the lock when its process ends, however it ends. Without
it, and against holders that this machine's kernel knows nothing of, a lock counts as held while its
process runs (same machine) or while its file is still touched (any other).
"""

from __future__ import annotations

import json
import os
import secrets
import threading
import time
import weakref
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from hf_lgt.utils import lock_files
from hf_lgt.utils.atomic_io import is_full, make_folders, remove_empty
from hf_lgt.utils.errors import ConfigError, RunError
from hf_lgt.utils.lock_files import Holder, Seen, boot, look, place, process_mark

ATTEMPTS = 200
"""how often the file may vanish or change hands under one `acquire` before it gives up"""


@dataclass(frozen=True)
class Times:
    """Seconds."""

    beat: float = 10.0
    """between two touches of a held lock's file"""
    dead_after: float = 30.0
    """without a touch, while watched, until a lock of another machine counts as left behind"""
    settle: float = 2.0
    """after taking over what no kernel guards, until a look tells which of several did"""


TIMES = Times()
Say = Callable[[str], None]


class RunLock:
    """The right of this process to write a run's folder, until `release` or the end of the process.

    A child that Python forks drops the lock, so that one that outlives this process does not keep it; one
    that other code forks without exec keeps the kernel's lock as long as it runs.
    """

    def __init__(self, path: Path, mine: Holder, handle: int | None, made: list[Path]) -> None:
        self.path = path
        self.mine = mine
        self.news: list[str] = []
        """what a user should know, as whose lock was taken over"""
        self.lost = False
        """the file was removed or taken by another, as after this machine slept for long"""
        self._handle = handle
        self._made = made
        self._ended = threading.Event()
        self._thread: threading.Thread | None = None

    @classmethod
    def acquire(cls, run_dir: Path, *, times: Times = TIMES, say: Say = lambda line: None) -> RunLock:
        """Take the lock of a run's folder, which need not exist.

        Args:
            run_dir: the folder.
            times: how quickly things are noticed; the same for all that share a folder.
            say: takes a line of news when this will take a while.

        Raises:
            ConfigError: another process holds it, or no file can be made there.
            OSError: the disk is full.
        """
        path = lock_path(run_dir)
        made: list[Path] = []
        try:
            lock = _take(cls, path, run_dir, times, say, made)
        except BaseException as error:
            remove_empty(made)
            if isinstance(error, OSError) and not is_full(error):
                raise ConfigError([f"output_dir: {path.parent}: {error.strerror or error}"]) from None
            raise
        _held.add(lock)
        lock._thread = threading.Thread(target=lock._beat, args=(times.beat,), daemon=True, name="run lock")
        lock._thread.start()
        return lock

    @staticmethod
    def holder(run_dir: Path, *, times: Times = TIMES, say: Say = lambda line: None) -> Holder | None:
        """Who writes a run's folder, None if nobody does; writes nothing.

        Takes `times.dead_after` where only watching tells; an `acquire` after it does not watch again.

        Raises:
            ConfigError: the lock's file cannot be read.
        """
        path = lock_path(run_dir)
        try:
            with lock_files.opened(path, os.O_RDONLY) as handle:
                free = lock_files.flock(handle, shared=True)
                return _holder(path, free, times, say)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise ConfigError([f"output_dir: {path}: {error.strerror or error}"]) from None

    def release(self) -> None:
        """Give the lock back; never raises, and does nothing the second time or in a forked child."""
        self._ended.set()
        if self not in _held:
            return
        _held.discard(self)
        with suppress(Exception):
            if self._thread:
                self._thread.join(timeout=1)
            # removed while it is held: whoever waits for this very file then finds that it is gone
            if self._is_mine():
                self.path.unlink()
        self._drop()
        remove_empty(self._made)

    def _is_mine(self) -> bool:
        return Holder.read(look(self.path).text).token == self.mine.token

    def _drop(self) -> None:
        """Close the file; an inherited copy of its descriptor does not free the lock by that."""
        if self._handle is not None:
            with suppress(OSError):
                os.close(self._handle)
            self._handle = None

    def _beat(self, seconds: float) -> None:
        while not self._ended.wait(seconds):
            try:
                if not self._is_mine():
                    raise FileNotFoundError
                os.utime(self.path)
            except FileNotFoundError:
                self.lost = not self._ended.is_set()
                return
            except OSError:
                continue  # a server that is away for a moment

    def __enter__(self) -> RunLock:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


_held: weakref.WeakSet[RunLock] = weakref.WeakSet()
_first_seen: dict[Path, tuple[Seen, float]] = {}
"""files that are watched, how they looked and since when"""


def _forget() -> None:
    for lock in list(_held):
        lock._drop()
    _held.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def check_held(run_dir: Path) -> None:
    """Stop a writer whose lock another one has taken meanwhile, as after this machine slept for long.

    Raises:
        RunError: it has; a folder of which this process never had the lock is not looked at.
    """
    path = lock_path(run_dir)
    if any(lock.lost for lock in _held if lock.path == path):
        raise RunError(f"{run_dir}: another process has taken over its lock {path}; this one stops writing")


def clear_lock(run_dir: Path) -> None:
    """Remove the lock of a run's folder if a process of this machine had it and was killed."""
    with suppress(OSError, ConfigError):
        # one of another machine would have to be watched for long
        if Holder.read(look(lock_path(run_dir)).text).place == place():
            RunLock.acquire(run_dir).release()


def lock_path(run_dir: Path) -> Path:
    """Beside the folder, which may be removed and made again; the same by whatever links one comes."""
    real = Path(os.path.realpath(run_dir))
    return real.parent / f".{real.name}.lock"


def refusal(run_dir: Path, holder: Holder) -> str:
    """The fault of a folder that another process writes."""
    advice = "wait for it, stop it, or choose another name"
    return f"name: {run_dir} is being written by {holder}{holder.since()}; {advice}"


def _take(cls: type[RunLock], path: Path, run_dir: Path, times: Times, say: Say, made: list[Path]) -> RunLock:
    for _ in range(ATTEMPTS):
        with suppress(FileNotFoundError):  # a folder or file that another process has just removed
            make_folders(path.parent, made)
            draft, mine, handle = _draft(path)
            lock = cls(path, mine, handle, made)
            won = False
            try:
                won = lock_files.publish(draft, path) or _take_over(lock, draft, run_dir, times, say)
            finally:
                draft.unlink(missing_ok=True)
                if not won:
                    lock._drop()
            if won:
                lock_files.clear_drafts(path)
                return lock
    told = "no folder can be made there" if not path.parent.is_dir() else "other processes take and leave it"
    raise ConfigError([f"output_dir: {path.parent}: {told}"])


def _draft(path: Path) -> tuple[Path, Holder, int | None]:
    """A lock under another name, held already: it appears in its place with its text and guarded."""
    draft = path.with_name(f"{path.name}.{os.getpid()}-{secrets.token_hex(4)}")
    handle = os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
    try:
        guarded = lock_files.flock(handle) is True
        mine = Holder.this(guarded)
        lock_files.write(handle, json.dumps(asdict(mine)) + "\n", draft)
    except BaseException:
        os.close(handle)
        draft.unlink(missing_ok=True)
        raise
    if guarded:
        return draft, mine, handle
    os.close(handle)  # some systems rename no open file
    return draft, mine, None


def _take_over(lock: RunLock, draft: Path, run_dir: Path, times: Times, say: Say) -> bool:
    """Put a draft in the place of a lock that nobody holds any more; False: look again."""
    path = lock.path
    with lock_files.opened(path, os.O_RDWR) as old:
        free = lock_files.flock(old)
        if free and not lock_files.is_at(old, path):
            return False
        before = look(path)
        if holder := _holder(path, free, times, say):
            raise ConfigError([refusal(run_dir, holder)])
        if look(path) != before:
            return False
        draft.replace(path)
    left = Holder.read(before.text)
    if not _kernel_knows(left, free):
        # others may have done the same at the same moment, and the last one has it
        time.sleep(times.settle)
        if not lock._is_mine():
            return False
    lock.news.append(f"took over the lock of {left}, which has ended")
    return True


def _kernel_knows(holder: Holder, free: bool | None) -> bool:
    """Whether this kernel would still guard the lock if its holder ran, in whichever container."""
    return bool(free) and holder.flock and holder.place.split(" ")[0] == boot()


def _holder(path: Path, free: bool | None, times: Times, say: Say) -> Holder | None:
    """Who holds the lock of an open file, given what the kernel said: free, not free or nothing."""
    holder = Holder.read(look(path).text)
    if free is False:
        return holder
    if _kernel_knows(holder, free):
        return None
    if holder.place == place() and holder.mark:
        return holder if process_mark(holder.pid) == holder.mark else None
    return Holder.read(look(path).text) if _moves(path, holder, times, say) else None


def _moves(path: Path, holder: Holder, times: Times, say: Say) -> bool:
    """Whether a lock's file is still touched; the clocks of two machines are never compared."""
    seen = look(path)
    if path not in _first_seen or _first_seen[path][0] != seen:
        _first_seen[path] = seen, time.monotonic()
    first, since = _first_seen[path]
    if left := max(0.0, since + times.dead_after - time.monotonic()):
        say(f"{path} is of {holder}; looking for {left:.0f} s whether that is still there")
    while time.monotonic() < since + times.dead_after:
        time.sleep(min(times.beat / 4, 1.0))
        if look(path) != first:
            return True
    return False
