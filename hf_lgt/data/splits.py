"""The splits of a user's dataset: a file, a folder, a repository on the Hub, or what `save_to_disk` wrote."""

from __future__ import annotations

import glob
import os
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from data_builders.hub.retry import ASKING_ATTEMPTS, again, quiet
from data_builders.redaction import redact
from data_builders.registry import unknown
from data_builders.texts import line
from hf_lgt.config.schema import HUB_ID, DataConfig, short
from hf_lgt.config.validate_data import COLUMNS
from hf_lgt.data.arrow_files import read_parquet, read_saved
from hf_lgt.data.data_files import (
    CARDS,
    READERS,
    SplitFiles,
    choose_files,
    inside,
    list_files,
    read_card,
    suffix_of,
    visible,
)
from hf_lgt.data.hub_columns import UsedColumns
from hf_lgt.utils.atomic_io import disk_error
from hf_lgt.utils.errors import ConfigError

if TYPE_CHECKING:
    import pyarrow as pa

Result = TypeVar("Result")


@dataclass(frozen=True)
class Splits:
    """All splits of a dataset, by name."""

    splits: Mapping[str, Any]
    """`datasets.Dataset`, without a format"""
    revision: str | None = None
    warnings: list[str] = field(default_factory=list)


def open_splits(data: DataConfig) -> Splits:
    """All splits, on the Hub of one commit.

    Raises:
        ConfigError: there is no such dataset, configuration or revision, or a file of it cannot be read.
        OSError: a disk is full; names the file, or the cache.
    """
    from datasets.utils import disable_progress_bars

    disable_progress_bars()
    path = Path(str(data.path))
    local = os.path.exists(path)  # noqa: PTH110  # unlike Path's, false for a name that no file can have
    if not local and (suffix_of(path.name) or not HUB_ID.fullmatch(str(data.path))):
        raise ConfigError([f"data.path: {short(data.path)} is no file or folder that can be read"])
    if local and data.revision is not None:
        raise ConfigError([f"data.revision: {data.revision!r} is one of the Hub; {data.path!r} is local"])
    with _readable(data, local):
        if not local:
            return _of_hub(data)
        return _of_folder(data, path) if path.is_dir() else _of_file(data, path)


def _of_file(data: DataConfig, path: Path) -> Splits:
    """A single file as the split train."""
    if data.name is not None:
        raise ConfigError([f"data.name: {data.name!r} is a configuration, which {data.path!r} does not have"])
    if not path.is_file():
        raise ConfigError([f"data.path: {data.path!r} is neither a folder nor a regular file"])
    suffix = suffix_of(path.name)
    if suffix is None:
        raise ConfigError([f"data.path: {data.path!r} is none of {', '.join(READERS)}"])
    return Splits({"train": _read(data, READERS[suffix], [path], {})})


def _of_folder(data: DataConfig, path: Path, commit: str | None = None) -> Splits:
    """A folder of files, or one that `save_to_disk` wrote."""
    if any((path / name).is_file() for name in ("dataset_dict.json", "state.json")):
        if data.name is not None:
            raise ConfigError(
                [f"data.name: {data.name!r} is a configuration, which {data.path!r} does not have"]
            )
        return Splits(read_saved(path, _used(data)))
    names = list_files(path)
    found = choose_files(names, read_card(path), data.name, repr(data.path))
    return _read_splits(data, path, found, commit)


def _of_hub(data: DataConfig) -> Splits:
    """A repository on the Hub; offline, what the cache has of it."""
    from huggingface_hub import HfApi, constants

    name = str(data.path)
    # the last is in every repository: so there is a folder, and no warning, where there is no card
    folder = _fetched(name, data.revision, [*CARDS, ".gitattributes"])
    if constants.HF_HUB_OFFLINE:
        return replace(_of_folder(data, folder, folder.name), revision=folder.name)
    names = _patiently(lambda: HfApi().list_repo_files(name, repo_type="dataset", revision=folder.name), name)
    found = choose_files(visible(names), read_card(folder), data.name, f"{short(data.path)} on the Hub")
    files = [glob.escape(name) for several in found.splits.values() for name in several]
    _fetched(name, folder.name, files)
    return replace(_read_splits(data, folder, found, folder.name), revision=folder.name)


def _fetched(name: str, revision: str | None, patterns: list[str]) -> Path:
    """The folder of the Hub's cache that has these files of a dataset; its name is the commit."""
    from huggingface_hub import HfApi, snapshot_download
    from huggingface_hub.errors import RevisionNotFoundError

    settings: dict[str, Any] = {"repo_type": "dataset", "revision": revision, "allow_patterns": patterns}
    try:
        return Path(_patiently(lambda: snapshot_download(name, **settings), name))
    except RevisionNotFoundError:
        refs = HfApi().list_repo_refs(name, repo_type="dataset")
        names = [ref.name for ref in (*refs.branches, *refs.tags)]
        raise ConfigError([f"data.revision: {unknown('revision', revision, names)}"]) from None


def _patiently(work: Callable[[], Result], name: str) -> Result:
    with quiet():
        return again(work, name, ASKING_ATTEMPTS)


def _read_splits(data: DataConfig, folder: Path, found: SplitFiles, commit: str | None) -> Splits:
    """The rows of chosen files."""
    splits = {}
    for split, names in found.splits.items():
        paths = [inside(folder, folder / name) for name in names]
        kind = READERS[str(suffix_of(names[0]))]
        splits[split] = _read(data, kind, paths, found.options, commit)
    warnings = []
    if found.unread:
        read = [name for names in found.splits.values() for name in names]
        warnings = [
            f"data.path: {short(data.path)}: not read: {_few(found.unread)} (read: {_few(read)}). The names "
            "of files say which split they are of (train, validation, test); files of one format are read"
        ]
    return Splits(splits, warnings=warnings)


def _few(names: Sequence[str]) -> str:
    return ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")


def _read(
    data: DataConfig, kind: str, paths: list[Path], options: Mapping[str, Any], commit: str | None = None
) -> Any:
    """Rows of files of one kind, a `datasets.Dataset`."""
    from hf_lgt.data import text_tables

    for path in paths:
        if not path.is_file():
            raise ConfigError([f"data.path: {path} is no regular file, or a link to nothing"])
        if not path.stat().st_size:
            raise ConfigError([f"data.path: {path} is empty"])
    used = _used(data)
    if kind == "parquet":
        return read_parquet(paths, used, commit)
    read = (
        text_tables.read_csv_rows(paths, used, options)
        if kind == "csv"
        else text_tables.read_json_rows(paths, used)
    )
    return _in_memory(read)


def _used(data: DataConfig) -> UsedColumns:
    texts = frozenset(data.columns.get(c, c) for c in ("prompt", "target", "task"))
    return UsedColumns(texts, frozenset(data.columns.get(c, c) for c in COLUMNS) - texts)


def pick_split(data: DataConfig, key: str, splits: Mapping[str, Any]) -> Any:
    """One split; its name may be cut, as ``train[:90%]``, and joined, as ``train+validation``.

    Args:
        data: names the split.
        key: which of its keys does.
        splits: all of them.

    Raises:
        ConfigError: there is no such split.
    """
    from datasets import ReadInstruction, concatenate_datasets

    wanted = getattr(data, key)
    if wanted in splits:
        return splits[wanted]
    for name in (part.partition("[")[0].strip() for part in wanted.split("+")):
        if name not in splits:
            told = (
                "; a single file is train alone: name it here too, or give a folder with train.* and test.*"
            )
            hint = told if list(splits) == ["train"] and Path(str(data.path)).is_file() else ""
            raise ConfigError([f"data.{key}: {unknown('split', name, splits)}{hint}"])
    try:
        parts = ReadInstruction.from_spec(wanted).to_absolute({name: len(d) for name, d in splits.items()})
    except (ValueError, AssertionError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError([f"data.{key}: {wanted!r} must be as 'train' or 'train[:90%]': {reason}"]) from None
    return concatenate_datasets([splits[p.splitname].select(range(p.from_, p.to) or range(0)) for p in parts])


def _in_memory(table: pa.Table) -> Any:
    """A `datasets.Dataset` in memory."""
    from datasets import Dataset

    # without a fingerprint `datasets` would hash all rows for one
    return Dataset(table, fingerprint=uuid.uuid4().hex)


@contextmanager
def _readable(data: DataConfig, local: bool) -> Iterator[None]:
    """Turns whatever the libraries raise over a dataset into one message."""
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:  # HTTP, Arrow, file system: each library raises its own
        from datasets.exceptions import DatasetGenerationError

        if full := disk_error(error):
            from datasets.config import HF_DATASETS_CACHE
            from huggingface_hub.constants import HF_HUB_CACHE

            cache = HF_DATASETS_CACHE if isinstance(error, DatasetGenerationError) else HF_HUB_CACHE
            raise OSError(full.errno, os.strerror(full.errno or 0), full.filename or str(cache)) from None
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status in (401, 403, 404):
            raise ConfigError(
                [
                    f"data.path: {short(data.path)} is no file or folder here, and no dataset on the Hub "
                    f"that may be read (status {status}); for a private one run 'hf auth login' or set "
                    "HF_TOKEN"
                ]
            ) from None
        first = error.__cause__ if isinstance(error, DatasetGenerationError) and error.__cause__ else error
        name = f" (data.name {data.name!r})" if data.name else ""
        if not local:
            name += ", which is no file or folder here and so a dataset on the Hub,"
        reason = line(redact(str(first)))[:400]
        raise ConfigError(
            [f"data.path: {short(data.path)}{name} cannot be loaded: {type(first).__name__}: {reason}"]
        ) from None
