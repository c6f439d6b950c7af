"""Documents to read: what every machine with Python has, a user's files, or a column of a dataset."""

from __future__ import annotations

import glob
import os
import re
import sysconfig
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from data_builders.registry import unknown
from data_builders.sampling import stream
from hf_lgt.config.schema import DataConfig, short
from hf_lgt.data.splits import open_splits, pick_split
from hf_lgt.pretraining.config import TextConfig
from hf_lgt.utils.errors import ConfigError

NO_SOURCES = {
    "test", "tests", "idle_test", "idlelib", "lib2to3", "encodings", "site-packages", "dist-packages",
    "__pycache__",
}  # fmt: skip
"""folders of the standard library that hold tests, tables, or what is no part of it"""
DOCUMENTATION = (".md", ".rst", ".txt")
_NO_DOCUMENTATION = re.compile(
    r"licen[cs]e|copying|notice|authors|contributors|(^|/)(tests?|testing|data|datasets|_vendor)/"
    r"|requirements|top_level|entry_points|sources\.txt|cmake|vendor\.txt|namespace_packages",
    re.IGNORECASE,
)
"""names of files that are repeated from package to package, or that hold data"""
LEAST_WORDS = 0.6
"""share of letters and spaces in what counts as documentation; tables of numbers have less"""


@dataclass(frozen=True)
class RawDocuments:
    """Documents as they were found, some perhaps twice."""

    texts: list[str]
    skipped: int
    """files that cannot be read or are no UTF-8 text, rows without text"""
    revision: str | None = None
    """commit of a dataset on the Hub"""
    warnings: Sequence[str] = ()
    """what a user should know of the dataset"""


def read_documents(text: TextConfig, revision: str | None = None) -> RawDocuments:
    """All documents of a source.

    Args:
        text: names the source.
        revision: commit of a dataset that an earlier start read, to read the same.

    Raises:
        ConfigError: the source is not there or gives no documents; names the key.
    """
    if text.source == "dataset":
        found = _of_dataset(replace(text, revision=revision or text.revision))
    elif text.source == "files":
        found = _decoded(_read(path) for path in _listed(text.files))
    else:
        found = _of_python()
    if not found.texts:
        raise ConfigError([f"text.source: {text.source!r} has no documents here ({found.skipped} skipped)"])
    return found


def _of_python() -> RawDocuments:
    """Sources of the standard library, long descriptions and documentation of what is installed."""
    library = Path(sysconfig.get_paths()["stdlib"])
    sources = [
        path for path in library.rglob("*.py")
        if not NO_SOURCES.intersection(path.relative_to(library).parts)
        and not path.name.startswith("_sysconfigdata")
    ]  # fmt: skip
    code = _decoded(_read(path) for path in sources)
    about = _decoded(_documentation())
    texts = [text for text in about.texts if _is_prose(text)]
    return RawDocuments(code.texts + texts, code.skipped + about.skipped)


def _documentation() -> Iterator[bytes | None]:
    for package in metadata.distributions():
        about = package.metadata
        if about is None or about["Name"] in (None, "hf-lgt"):
            continue  # this package's own changes while it is worked on
        yield str(about.json.get("description", "")).encode(errors="replace")
        for file in package.files or ():
            if file.suffix in DOCUMENTATION and not _NO_DOCUMENTATION.search(file.as_posix()):
                yield _read(Path(str(file.locate())))


def _is_prose(text: str) -> bool:
    return sum(c.isalpha() or c.isspace() for c in text) >= LEAST_WORDS * len(text)


def _listed(entries: Iterable[str]) -> list[Path]:
    """The files of paths and patterns; folders give all that is below them and not hidden.

    Raises:
        ConfigError: some name nothing.
    """
    paths, faults = [], []
    for entry in entries:
        if os.path.isfile(entry):  # noqa: PTH113  # unlike Path's, false for a name that no file can have
            found = [Path(entry)]
        elif os.path.isdir(entry):  # noqa: PTH112
            found = [p for p in Path(entry).rglob("*") if p.is_file() and not _hidden(p.relative_to(entry))]
        else:
            found = _matching(entry)
        if not found:
            faults.append(
                f"text.files: {short(entry)} is no file, no folder with files and no pattern of any"
            )
        paths += found
    if faults:
        raise ConfigError(faults)
    return paths


def _matching(pattern: str) -> list[Path]:
    """The files of a pattern; the folders at its beginning that are there are no part of it."""
    folder = Path(pattern).parent
    while not os.path.isdir(folder):  # noqa: PTH112  # as above
        folder = folder.parent
    rest = os.path.relpath(pattern, folder) if folder.parts else pattern
    found = glob.glob(rest, root_dir=folder, recursive=True)  # noqa: PTH207
    return [path for name in found if (path := folder / name).is_file()]


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except OSError:
        return None


def _decoded(contents: Iterable[bytes | None]) -> RawDocuments:
    texts, skipped = [], 0
    for content in contents:
        try:
            text = None if content is None else content.decode("utf-8-sig")
        except UnicodeDecodeError:
            text = None
        if text is None or "\0" in text:
            skipped += 1
        else:
            # the same document whatever system its lines were ended on
            texts.append(text.replace("\r\n", "\n"))
    return RawDocuments(texts, skipped)


_ROWS = 1000
"""rows that are read at a time"""
_KEYS = {"path": "path", "name": "name", "revision": "revision", "train_split": "split"}
"""keys of a run's data -> those of a text"""


def _of_dataset(text: TextConfig) -> RawDocuments:
    """The texts of a dataset's column; the faults of its opening name this config's keys."""
    data = DataConfig(
        source="dataset",
        path=text.path,
        name=text.name,
        revision=text.revision,
        train_split=text.split,
        columns=dict.fromkeys(("prompt", "target", "task"), text.column),
    )

    def renamed(line: str) -> str:
        return re.sub(rf"\bdata\.({'|'.join(_KEYS)})\b", lambda m: f"text.{_KEYS[m[1]]}", line)

    try:
        found = open_splits(data)
        rows = pick_split(data, "train_split", found.splits)
    except ConfigError as error:
        raise ConfigError([renamed(fault) for fault in error.faults]) from None
    if text.column not in rows.column_names:
        raise ConfigError([f"text.column: {unknown('column', text.column, rows.column_names)}"])
    texts, skipped = _enough(rows.select_columns([text.column]), text.column, text.characters)
    return RawDocuments(texts, skipped, found.revision, [renamed(line) for line in found.warnings])


def _enough(rows: Any, column: str, characters: int | None) -> tuple[list[str], int]:
    """Texts of a column until so many characters are there, and how many rows had none.

    Rows are drawn at random where not all are wanted, and no others are held in memory.
    """
    some = characters is not None
    order = stream(0, "rows of a text").permutation(len(rows)) if some else np.arange(len(rows))
    texts: list[str] = []
    skipped = held = 0
    for start in range(0, len(order), _ROWS):
        if characters is not None and held >= characters:
            break
        places = order[start : start + _ROWS]
        for place, value in zip(places.tolist(), rows[places][column], strict=True):
            if value is not None and not isinstance(value, str):
                raise ConfigError([f"text.column: row {place} of {column!r} is {short(value)}, not text"])
            skipped += not value
            if value:
                texts.append(value)
                held += len(value)
    return texts, skipped
