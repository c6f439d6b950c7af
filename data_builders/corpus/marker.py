"""The file of a written corpus that says what it was made of and which files it has.

By it a folder is replaced or pushed only if every file in it is the corpus's own, as it was written.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from data_builders.code_fingerprint import digest
from data_builders.hub.push import IGNORED
from data_builders.reading import read_json

MARKER = "corpus.json"
"""the file of a written corpus that says what it was made of"""


class FolderError(ValueError):
    """A folder that cannot be replaced or pushed; the message begins with its name."""


def write_marker(
    folder: Path, fingerprint: str, rows: Mapping[str, Any], settings: Mapping[str, Any]
) -> None:
    """Write `MARKER`, when all other files are there; `rows`: configuration -> split -> how many."""
    files = {
        name: {"bytes": path.stat().st_size, "sha256": digest(path)}
        for name, path in sorted(_contents(folder))
    }
    marker = {"fingerprint": fingerprint, "rows": rows, **settings, "files": files}
    (folder / MARKER).write_text(json.dumps(marker, indent=1) + "\n", encoding="utf-8")


def read_marker(folder: Path) -> dict[str, Any] | None:
    """What `MARKER` says of a written corpus; None where there is none."""
    try:
        marker = read_json(folder / MARKER)
        rows = [splits[name] for splits in marker["rows"].values() for name in ("train", "test")]
        whole = isinstance(marker["fingerprint"], str) and all(type(count) is int for count in rows)
        whole = whole and all(isinstance(part, dict) for part in marker["files"].values())
    except (OSError, KeyError, TypeError, AttributeError):
        return None
    return marker if whole else None


def is_there(folder: Path, fingerprint: Callable[[], str], *, overwrite: bool, push: bool) -> bool:
    """Whether a folder holds this very corpus, whole, which then only needs to be pushed.

    Args:
        folder: where the corpus is, or will be.
        fingerprint: gives that of the corpus that is asked for.
        overwrite: replace an earlier corpus.
        push: it is to be pushed.

    Raises:
        FolderError: there is something that must not be replaced or pushed.
    """
    if not os.path.lexists(folder):
        return False
    marker = read_marker(folder)
    if overwrite:
        if marker is None:
            raise FolderError(f"{folder} holds no corpus; --overwrite replaces nothing else")
        if foreign := _foreign(folder, marker):
            raise FolderError(
                f"{folder} holds {foreign}, which is no part of the corpus and --overwrite would delete; "
                "move it away, or choose another folder"
            )
        return False
    if push and marker is not None and marker["fingerprint"] == fingerprint():
        _verify(folder, marker)
        return True
    what = "" if not push else " and holds no corpus of these settings and this code"
    raise FolderError(f"{folder} exists{what}; choose another folder, or add --overwrite")


def corpus_files(folder: Path) -> list[str]:
    """The files of a written corpus, as its marker lists them, and the marker."""
    marker = read_marker(folder)
    return sorted([*(marker["files"] if marker else ()), MARKER])


def _verify(folder: Path, marker: Mapping[str, Any]) -> None:
    if foreign := _foreign(folder, marker, IGNORED):
        raise FolderError(
            f"{folder} holds {foreign}, which is no part of the corpus; move it away, or name another folder"
        )
    for name, written in marker["files"].items():
        path = folder / name
        if not path.is_file():
            fault = "is missing"
        elif path.stat().st_size != written.get("bytes") or digest(path) != written.get("sha256"):
            fault = "is not as it was written"
        else:
            continue
        raise FolderError(f"{folder}: {name} {fault}; build the corpus again with --overwrite")


def _foreign(folder: Path, marker: Mapping[str, Any], ignored: tuple[str, ...] = ()) -> str | None:
    """The first file that is no part of the corpus, if there is one."""
    names = (name for name, _ in sorted(_contents(folder)) if name.partition("/")[0] not in ignored)
    return next((name for name in names if name != MARKER and name not in marker["files"]), None)


def _contents(folder: Path) -> Iterator[tuple[str, Path]]:
    """Everything below a folder but folders."""
    for path in folder.rglob("*"):
        if path.is_symlink() or not path.is_dir():
            yield path.relative_to(folder).as_posix(), path
