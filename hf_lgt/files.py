"""Files that are there whole or not at all, whatever happens while they are written."""

from __future__ import annotations

import os
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
        FileExistsError: `path` exists and `replace` is not set.
    """
    if path.exists() and not replace:
        raise FileExistsError(f"{path} exists")
    path.parent.mkdir(parents=True, exist_ok=True)
    draft, old = (path.parent / f".{path.name}.{os.getpid()}{end}" for end in ("", ".old"))
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    try:
        yield draft
        for file in draft.rglob("*"):
            _sync(file)
        _sync(draft)
        if path.exists():
            path.rename(old)
        draft.rename(path)
        _sync(path.parent)
    finally:
        if old.exists() and not path.exists():
            old.rename(path)  # the new one could not take its place
        shutil.rmtree(draft, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


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


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
