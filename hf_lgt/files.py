"""Files that are there whole or not at all, whatever happens while they are written."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def atomic_directory(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """A folder that appears at `path` whole or not at all.

    Yields a folder beside `path`; when the block ends well, its files are flushed to disk and it is
    renamed, else it is removed.

    Args:
        path: where the folder will be.
        replace: put it in the place of one that is there.

    Raises:
        FileExistsError: `path` exists and `replace` is not set, or something took or changed its place
            meanwhile; then that stays, and the message says where the new folder was left.
    """
    before = _identity(path)
    if before and not replace:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    name = f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}"  # threads and machines share folders
    draft, old = path.parent / name, path.parent / f"{name}.old"
    draft.mkdir()
    overtaken = False
    try:
        yield draft
        for file in draft.rglob("*"):
            _sync(file)
        _sync(draft)
        overtaken = not _swap(draft, path, old, before)
        if overtaken:
            told = f"something else was put or changed there meanwhile; the new folder was left at {draft}"
            raise FileExistsError(errno.EEXIST, told, str(path))
        _sync(path.parent)
    finally:
        if not overtaken:
            shutil.rmtree(draft, ignore_errors=True)


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
def atomic_file(path: Path) -> Iterator[Path]:
    """The path of a file beside `path` that replaces it when the block ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # the suffix stays last: writers of figures go by it
    draft = path.parent / f".{path.stem}.{os.getpid()}{path.suffix}"
    try:
        yield draft
        _sync(draft)
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with atomic_file(path) as draft:
        draft.write_text(text, encoding="utf-8")


def sha256(path: Path) -> str:
    """Hash of a file's contents, in hexadecimal digits."""
    with open(path, "rb") as file:
        digest = hashlib.sha256()
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
