"""Files that are there whole or not at all, whatever happens while they are written.

What is being written stands beside its place as a draft, ``.NAME.PID-HEX``, which says who writes it: that a
process was killed is seen by its draft, which the next writer of the same name removes.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from data_builders.reading import open_regular
from hf_lgt.utils import process_id

_DRAFT = re.compile(
    r"\.(?P<name>.+)\.(?P<pid>\d{1,10})-(?P<place>[0-9a-f]{8})((?P<mark>[0-9a-f]{8})[0-9a-f]{8})?"
    r"(?P<old>\.old)?(?P<suffix>\.[A-Za-z0-9]+)?",
    re.DOTALL,
)
ABANDONED_SECONDS = 86_400.0
"""without a change, until a draft of another machine counts as left behind; clocks differ by less"""


def expanded(path: str) -> str:
    """A user's path with the home folder in the place of a ``~`` at its beginning.

    Raises:
        ValueError: nobody has such a home, or file names cannot have these letters here.
    """
    found = os.path.expanduser(path)  # noqa: PTH111  # unlike Path's, it changes nothing else
    if found == path and path.startswith("~"):
        raise ValueError(f"names no home folder; for a folder of that name write './{path}'")
    try:
        os.fsencode(found)
    except UnicodeEncodeError:
        told = "has letters that file names cannot have in this locale; PYTHONUTF8=1 allows them"
        raise ValueError(told) from None
    return found


@contextmanager
def atomic_directory(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """A folder that appears at `path` whole or not at all.

    Yields a folder beside `path`; when the block ends well, its files are flushed to disk and it is
    renamed, else it is removed, and so are the folders above it that were missing. What a writer of `path`
    that was killed left is removed first.

    Args:
        path: where the folder will be.
        replace: put it in the place of one that is there.

    Raises:
        FileExistsError: `path` exists and `replace` is not set, or something took or changed its place
            meanwhile; then that stays, and the message says where the new folder was left.
        OSError: it cannot be written; of a full disk it names `path`, whatever was raised in the block.
    """
    clear_drafts(path.parent, path.name)
    before = _identity(path)
    if before and not replace:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
    draft = _beside(path.name, path)
    old = draft.with_name(f"{draft.name}.old")
    with _naming(path), parents_of(path):
        draft.mkdir()
        overtaken = False
        try:
            yield draft
            for file in draft.rglob("*"):
                sync(file)
            sync(draft)
            overtaken = not _swap(draft, path, old, before)
            if overtaken:
                # no draft any more, which would be removed
                kept = draft.rename(path.with_name(f".{path.name}.kept-{secrets.token_hex(4)}"))
                told = f"something else was put or changed there meanwhile; the new folder was left at {kept}"
                raise FileExistsError(errno.EEXIST, told, str(path))
            sync(path.parent)
        finally:
            if not overtaken:
                shutil.rmtree(draft, ignore_errors=True)


@contextmanager
def parents_of(path: Path) -> Iterator[None]:
    """The folders above a path: those that are missing are made, and removed again if they stay empty.

    Raises:
        OSError: one cannot be made.
    """
    made: list[Path] = []
    try:
        make_folders(path.parent, made)
        yield
    finally:
        remove_empty(made)


def try_place(path: Path) -> None:
    """Make a folder beside a path, where its draft will be, and remove it again.

    Raises:
        OSError: it cannot be made, so the path cannot be written either.
    """
    draft = _beside(path.name, path)
    with parents_of(path):
        draft.mkdir()
        draft.rmdir()


def make_folders(folder: Path, made: list[Path]) -> None:
    """Make a folder and those above it; `made` gets each that was missing, the outermost first.

    Raises:
        OSError: one cannot be made.
    """
    missing = [p for p in (folder, *folder.parents) if not p.is_dir()]
    for each in reversed(missing):
        with suppress(FileExistsError):
            each.mkdir()
            made.append(each)
    if not folder.is_dir():
        folder.mkdir()  # a file has its name: let the system say so


def remove_empty(made: list[Path]) -> None:
    """Remove those of the folders that `make_folders` made that are empty."""
    for folder in reversed(made):
        with suppress(OSError):
            folder.rmdir()
    made.clear()


def _swap(draft: Path, path: Path, old: Path, before: tuple[int, ...] | None) -> bool:
    """Put a folder in the place of what was there before; False if something else is there by now."""
    if _identity(path) != before:
        return False
    if before:
        path.rename(old)
    done = False
    try:
        # looked at again where nobody looks for it; and a folder takes the place of no other with files
        done = _identity(old) == before and _renamed(draft, path)
    finally:
        if before and done:
            _remove(old)
        elif before and not os.path.lexists(path):
            old.rename(path)  # the new one could not take its place
    return done


def _renamed(draft: Path, path: Path) -> bool:
    try:
        draft.rename(path)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
            return False
        raise
    return True


def _beside(name: str, path: Path, suffix: str = "") -> Path:
    """A hidden name beside a path, one of its own for every writer: threads and machines share folders."""
    pid = os.getpid()
    return path.parent / f".{name}.{pid}-{_here()}{_mark(pid)}{secrets.token_hex(4)}{suffix}"


def _here() -> str:
    """Where a pid means something, see `process_id.place`, in 8 hexadecimal digits."""
    return hashlib.sha256(process_id.place().encode()).hexdigest()[:8]


def _mark(pid: int) -> str:
    """The same for another process that gets this pid, or gets none."""
    return hashlib.sha256(str(process_id.process_mark(pid)).encode()).hexdigest()[:8]


def _identity(path: Path) -> tuple[int, ...] | None:
    """Differs for another file or folder, and for a folder in which a name came or went."""
    try:
        found = path.lstat()
    except OSError:
        return None
    return found.st_dev, found.st_ino, found.st_mtime_ns


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


@contextmanager
def scratch_folder(parent: Path) -> Iterator[Path]:
    """A folder in another one that is removed when the block ends, unless it was renamed."""
    folder = _beside("scratch", parent / "scratch")
    try:
        with _naming(parent):
            folder.mkdir()
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """The path of a file beside `path` that replaces it when the block ends well."""
    # the suffix stays last, for writers that go by it
    draft = _beside(path.stem, path, path.suffix)
    with _naming(path), parents_of(path):
        try:
            yield draft
            sync(draft)
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with atomic_file(path) as draft:
        draft.write_text(text, encoding="utf-8")


def append_text(path: Path, text: str) -> None:
    """Add whole lines to the end of a file; where they cannot be written, it stays as it was.

    Raises:
        OSError: as when the disk is full.
    """
    data = text.encode("utf-8")
    # without waiting for whoever should read a pipe of this name
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NONBLOCK", 0)
    handle = os.open(path, flags, 0o666)
    try:
        before = os.fstat(handle).st_size
        try:
            while data:
                data = data[os.write(handle, data) :]
        except OSError as error:
            os.ftruncate(handle, before)
            error.filename = str(path)
            raise
    finally:
        os.close(handle)


def remove(path: Path) -> None:
    """Remove a folder so that no part of it is ever found under its name."""
    gone = path.rename(_beside(path.name, path))
    shutil.rmtree(gone)


def is_draft(path: Path) -> bool:
    """Whether a name is that of something unfinished."""
    return _DRAFT.fullmatch(path.name) is not None


def clear_drafts(folder: Path, of: str | None = None, *, alone: bool = False) -> None:
    """Remove what writers that were killed left unfinished in a folder.

    A folder that was moved aside for one that never took its place is moved back. A writer that still runs
    keeps its draft.

    Args:
        folder: where to look.
        of: only what would have had this name.
        alone: this process holds the lock: what another machine left is removed at once, else after a day.
    """
    found: list[re.Match[str]] = []
    with suppress(OSError):  # not there, or not to be read
        found = [match for path in sorted(folder.iterdir()) if (match := _DRAFT.fullmatch(path.name))]
    for draft in found:
        path, place = folder / draft[0], folder / draft["name"]
        if of not in (None, draft["name"]) or not _is_left(path, draft, alone):
            continue
        with suppress(OSError):  # another process has just done it, or it is another user's
            if draft["old"] and not os.path.lexists(place):
                path.rename(place)
            else:
                _remove(path)


def _is_left(path: Path, draft: re.Match[str], alone: bool) -> bool:
    """Whether the writer of a draft is gone."""
    if draft["mark"] and draft["place"] == _here():
        return draft["mark"] != _mark(int(draft["pid"]))
    if alone or not draft["mark"]:  # which earlier versions did not write, and a file of the user's has not
        return alone
    changed = 0.0
    inside = (Path(at, name) for at, *names in os.walk(path) for part in names for name in part)
    for each in (path, *inside):
        with suppress(OSError):
            # that of a rename too, which is all that happens to a folder that is moved aside
            changed = max(changed, each.lstat().st_ctime)
    return changed < time.time() - ABANDONED_SECONDS


def is_full(error: OSError) -> bool:
    """Whether an error says that there is no room, on the disk or in a quota."""
    return error.errno in (errno.ENOSPC, errno.EDQUOT)


_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG)


def disk_error(error: BaseException | None) -> OSError | None:
    """The error of a full or broken disk, or the one behind another error; None: there is none."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _DISK:
            return error
        error = error.__cause__ or error.__context__
    return None


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """Raises what a full or broken disk is met with as an error that names what could not be written."""
    try:
        yield
    except Exception as error:
        if (met := disk_error(error)) is None:
            raise
        raise OSError(met.errno, os.strerror(met.errno or errno.EIO), str(path)) from error


def sha256(path: Path) -> str:
    """Hash of a regular file's contents, in hexadecimal digits.

    Raises:
        OSError: it cannot be read, see `data_builders.reading`.
    """
    with open_regular(path) as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def sync(path: Path) -> None:
    """Flush a file or folder to disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
