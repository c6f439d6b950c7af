"""Parquet files, and what `save_to_disk` wrote, as `datasets.Dataset`."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from data_builders.reading import UnreadableFileError, read_json
from hf_lgt.config.schema import short
from hf_lgt.data.data_files import inside
from hf_lgt.data.hub_columns import UsedColumns, first_repeated, listed
from hf_lgt.utils.atomic_io import sha256
from hf_lgt.utils.errors import ConfigError


def read_parquet(paths: Sequence[Path], used: UsedColumns, commit: str | None) -> Any:
    """Rows of Parquet files, one after the other, a `datasets.Dataset` that maps a file in the cache.

    Args:
        paths: the files.
        used: the columns that are used.
        commit: of the Hub, which says what they hold; None: their contents do.

    Raises:
        ConfigError: they have no rows, or other columns than each other.
    """
    from datasets.data_files import DataFilesDict, DataFilesList
    from datasets.packaged_modules.parquet.parquet import Parquet

    paths = _checked(paths, used.texts)
    key = hashlib.sha256()
    for path in paths:
        key.update(f"{commit} {path}\n".encode() if commit else sha256(path).encode())
    files = DataFilesList([str(path) for path in paths], [(key.hexdigest(),)])
    # the key of `datasets` itself is the time of the last change
    builder = Parquet(
        dataset_name="rows", config_id="default", hash=key.hexdigest(), data_files=DataFilesDict(rows=files)
    )
    builder.download_and_prepare()
    return _valid(builder.as_dataset("rows"), used, paths[0])


def _checked(paths: Sequence[Path], texts: Iterable[str]) -> list[Path]:
    """The files that have rows.

    Raises:
        ConfigError: none has, or their columns differ.
    """
    import pyarrow.parquet as pq

    found = {path: pq.read_metadata(path) for path in paths}
    schemas = {path: metadata.schema.to_arrow_schema() for path, metadata in found.items()}
    first = schemas[paths[0]]
    for path, schema in schemas.items():
        if (twice := first_repeated(schema.names)) is not None:
            raise ConfigError([f"data.path: {path} has the column {short(twice)} twice"])
        if odd := {*schema.names}.symmetric_difference(first.names):
            raise ConfigError([f"data.path: {path} and {paths[0]} differ in columns: {listed(sorted(odd))}"])
        for name in {*texts}.intersection(schema.names):
            types = [str(one.field(name).type) for one in (first, schema)]
            if len({"string" in kind for kind in types}) > 1:
                words = f"of {paths[0]} is {types[0]}, that of {path} {types[1]}"
                raise ConfigError([f"data.path: column {short(name)} {words}; store it as text (a string)"])
    filled = [path for path, metadata in found.items() if metadata.num_rows]
    if not filled:
        raise ConfigError([f"data.path: {paths[0]} has no rows"])
    return filled


def read_saved(folder: Path, used: UsedColumns) -> dict[str, Any]:
    """The splits that `save_to_disk` wrote, as `datasets.Dataset`, whatever format they were given.

    Raises:
        ConfigError: it names files outside the folder, or is not what `save_to_disk` writes.
    """
    from datasets import Dataset, concatenate_datasets

    def read(part: Path) -> Any:
        state = read_json(inside(folder, part / "state.json"))
        names = [entry["filename"] for entry in state["_data_files"]]
        parts = [Dataset.from_file(str(inside(folder, part / name))) for name in names]
        return _valid(concatenate_datasets(parts), used, part)

    try:
        if not (folder / "dataset_dict.json").is_file():
            return {"train": read(folder)}
        splits = read_json(folder / "dataset_dict.json")["splits"]
        return {split: read(inside(folder, folder / split)) for split in splits}
    except ConfigError:
        raise
    except (KeyError, TypeError, ValueError, UnreadableFileError) as error:
        raise ConfigError(
            [f"data.path: {folder} is not what save_to_disk writes: {type(error).__name__}: {error}"]
        ) from None


def _valid(dataset: Any, used: UsedColumns, path: Path) -> Any:
    """A dataset whose columns may be read: Arrow trusts what a file says of itself, and would crash.

    Raises:
        ConfigError: a column is damaged, or holds text that is not UTF-8.
    """
    import pyarrow as pa

    for name in sorted({*dataset.column_names} & (used.texts | used.others)):
        try:
            dataset.data.column(name).validate(full=True)
        except pa.ArrowInvalid as error:
            reason = " ".join(str(error).split())[:200]
            raise ConfigError([f"data.path: {path}: column {short(name)} is damaged: {reason}"]) from None
    return dataset
