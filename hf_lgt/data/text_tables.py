"""CSV and JSON files as Arrow tables: text is what the file says, never read as anything else.

Files are read whole into memory, but only the columns that are asked for; the others are there by
name, as nulls. So nothing of them is cached, and an edited file gives its new rows.
"""

from __future__ import annotations

import bz2
import codecs
import csv
import gzip
import io
import json
import lzma
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc

from hf_lgt.config.schema import short
from hf_lgt.data.data_files import suffix_of
from hf_lgt.data.hub_columns import UsedColumns, first_repeated
from hf_lgt.utils.errors import ConfigError

_QUOTES = ("quotechar", "quoting", "escapechar", "doublequote", "skipinitialspace")
"""options that Python's reader has by the same names"""
CHUNK = 50_000
"""rows that are held as Python objects at a time"""


def read_csv_rows(paths: Sequence[Path], used: UsedColumns, options: Mapping[str, Any]) -> pa.Table:
    """Rows of CSV files, one after the other.

    Cells are text. Columns that are no text are integers where all their cells are.

    Args:
        paths: files with a header each.
        used: columns to read.
        options: how they are written, with the keys of `datasets`; empty: commas, tabs in .tsv files.

    Raises:
        ConfigError: a file is no such table; the message names the line.
    """
    table = _joined([_csv_table(path, used, options) for path in paths], paths)
    for name in used.others.intersection(table.column_names):
        cells = table[name]
        if pc.all(pc.match_substring_regex(cells, r"^\s*-?[0-9]{1,18}\s*$")).as_py():
            numbers = pc.cast(pc.utf8_trim_whitespace(cells), pa.int64())
            table = table.set_column(table.column_names.index(name), name, numbers)
    return table


def _csv_table(path: Path, used: UsedColumns, options: Mapping[str, Any]) -> pa.Table:
    encoding = str(options.get("encoding") or "utf-8-sig")
    written = {key: options[key] for key in _QUOTES if key in options}
    usual = "\t" if suffix_of(path.name) == ".tsv" else ","
    separator = options.get("delimiter") or options.get("sep") or usual
    names = options.get("names") or options.get("column_names")
    csv.field_size_limit(sys.maxsize)
    with _opened(path) as file, io.TextIOWrapper(file, encoding=encoding, newline="") as text:
        try:
            rows = csv.reader(_without_nul(text, path), delimiter=separator, strict=True, **written)
            header = names or next(_cells(rows, path), (1, []))[1]
            return _table_of(_checked(_cells(rows, path), header, path), _once(header, path, separator), used)
        except UnicodeError:
            raise _not_utf8(path, encoding) from None


def _cells(rows: Any, path: Path) -> Iterator[tuple[int, list[str]]]:
    """(first line, cells) of each row that is not blank."""
    while True:
        first = rows.line_num + 1
        try:
            cells = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            raise ConfigError(
                [
                    f"data.path: {path}, line {first}: a quotation mark opens a cell that does not end where "
                    f"a cell can (line {rows.line_num}: {error}); within such a cell it is written twice"
                ]
            ) from None
        if cells:
            yield first, cells


def _checked(
    rows: Iterable[tuple[int, list[str]]], header: Sequence[str], path: Path
) -> Iterator[Sequence[str]]:
    """Rows that have as many cells as the header; lines of blanks are none."""
    for line, cells in rows:
        if len(cells) != len(header):
            if len(cells) == 1 and not cells[0].strip():
                continue
            breaks = sum(cell.count("\n") for cell in cells)
            over = f" (to line {line + breaks}, as a quotation mark opens a cell)" if breaks else ""
            raise ConfigError(
                [f"data.path: {path}, line {line}{over}: {len(cells)} cells; the header has {len(header)}"]
            )
        yield cells


def _once(header: Sequence[str], path: Path, separator: str) -> Sequence[str]:
    """A header whose names differ; cells without a name are no columns.

    Raises:
        ConfigError: there is none, a name stands in it twice, or it is separated by something else.
    """
    if not header:
        raise ConfigError([f"data.path: {path} has no header"])
    if len(header) == 1 and any(s in header[0] for s in ",;\t|" if s != separator):
        raise ConfigError(
            [
                f"data.path: {path}: its header is one cell, {short(header[0])}; cells must be separated "
                f"by {separator!r}"
            ]
        )
    if (twice := first_repeated(name for name in header if name)) is not None:
        raise ConfigError([f"data.path: {path} has the column {short(twice)} twice"])
    return header


def _table_of(rows: Iterator[Sequence[str]], header: Sequence[str], used: UsedColumns) -> pa.Table:
    places = {name: place for place, name in enumerate(header) if name}
    parts = []
    while chunk := list(islice(rows, CHUNK)):
        cells = {name: [row[place] for row in chunk] for name, place in places.items() if name in used}
        parts.append(
            _named_columns(places, len(chunk), {n: pa.array(c, pa.string()) for n, c in cells.items()})
        )
    return pa.concat_tables(parts or [_named_columns(places, 0, {})])


def read_json_rows(paths: Sequence[Path], used: UsedColumns) -> pa.Table:
    """Rows of JSON files, one after the other: an object a line, or one list of objects.

    Raises:
        ConfigError: a file is no such thing, or values of a column do not go together; names the line.
    """
    return _joined([_json_table(path, used) for path in paths], paths)


def _json_table(path: Path, used: UsedColumns) -> pa.Table:
    parts, rows = [], _objects(path)
    while chunk := list(islice(rows, CHUNK)):
        names = dict.fromkeys(name for _, row in chunk for name in row)
        read = {name: _array(name, chunk, path) for name in names if name in used}
        parts.append(_named_columns(names, len(chunk), read))
    if not parts:
        raise ConfigError([f"data.path: {path} has no rows"])
    return _joined(parts, [path])


def _objects(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """(where it stands, object) of each row."""
    begun = False
    with _opened(path) as file:
        for number, line in enumerate(file, 1):
            line = line.removeprefix(codecs.BOM_UTF8) if number == 1 else line
            if not begun and line.lstrip().startswith(b"["):
                whole = _parsed(line + file.read(), f"{path}, from line {number} on")
                yield from (
                    (f"element {i}", _object(value, path, f"element {i}")) for i, value in enumerate(whole, 1)
                )
                return
            if line.strip():
                begun = True
                at = f"line {number}"
                yield at, _object(_parsed(line, f"{path}, {at}"), path, at)


def _parsed(text: bytes, at: str) -> Any:
    try:
        return _DECODER.decode(text.decode("utf-8"))
    except UnicodeDecodeError:
        reason = "is not UTF-8 text; save the file as UTF-8"
    except RecursionError:
        reason = "is nested too deeply"
    except json.JSONDecodeError as error:
        reason = f"is no JSON: {error.msg} at column {error.colno}"
    except ValueError as error:
        reason = f"cannot be read: {str(error).partition('; use')[0]}"
    raise ConfigError([f"data.path: {at} {reason}"])


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError(f"duplicate key {short(first_repeated(key for key, _ in pairs))}")
    return made


_DECODER = json.JSONDecoder(object_pairs_hook=_without_repeats)


def _object(value: Any, path: Path, at: str) -> dict[str, Any]:
    if isinstance(value, dict):
        return value
    raise ConfigError(
        [f'data.path: {path}, {at} is {short(value)}; a row is an object, as in {{"prompt": "a", ...}}']
    )


def _array(name: str, chunk: Sequence[tuple[str, Mapping[str, Any]]], path: Path) -> pa.Array:
    """A column's values.

    Raises:
        ConfigError: they are of several types, or of one that Arrow does not have.
    """
    values = [row.get(name) for _, row in chunk]
    if (array := _stored(values)) is not None:
        return array
    first = next(i for i, value in enumerate(values) if value is not None)
    odd = next((i for i, value in enumerate(values) if _stored([values[first], value]) is None), first)
    reason = (
        f", while {chunk[first][0]} has {short(values[first])}"
        if odd != first
        else ", which cannot be stored"
    )
    raise ConfigError([f"data.path: {path}, {chunk[odd][0]}: {name!r} is {short(values[odd])}{reason}"])


def _stored(values: list[Any]) -> pa.Array | None:
    """Values as an array, None if they are not of one type that there is."""
    try:
        return pa.array(values)
    except (pa.ArrowException, ValueError, TypeError, OverflowError):
        return None


def _named_columns(names: Iterable[str], rows: int, read: Mapping[str, pa.Array]) -> pa.Table:
    """A table of the columns that were read, and nulls for the others."""
    return pa.table({name: read[name] if name in read else pa.nulls(rows) for name in names})


def _joined(parts: Sequence[pa.Table], paths: Sequence[Path]) -> pa.Table:
    try:
        return pa.concat_tables(parts, promote_options="permissive")
    except pa.ArrowException as error:
        reason = " ".join(str(error).split())
        where = f"{paths[0]} and the other files of its split" if len(paths) > 1 else paths[0]
        raise ConfigError(
            [f"data.path: {where} hold values of several types in one column: {reason}"]
        ) from None


def _opened(path: Path) -> BinaryIO:
    """A file to read bytes from, whether it is compressed or not."""
    openers: dict[str, Any] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
    return openers.get(path.suffix.lower(), open)(path, "rb")  # type: ignore[no-any-return]


def _without_nul(lines: Iterable[str], path: Path) -> Iterator[str]:
    for number, line in enumerate(lines, 1):
        if "\0" in line:
            raise ConfigError(
                [f"data.path: {path}, line {number} holds a NUL character; save the file as UTF-8 text"]
            )
        yield line


def _not_utf8(path: Path, encoding: str) -> ConfigError:
    """Names the line, which a reader that decodes ahead does not."""
    number = 1
    with _opened(path) as file:
        for number, line in enumerate(file, 1):  # noqa: B007
            try:
                line.decode(encoding)
            except UnicodeError:
                break
    name = "UTF-8" if encoding == "utf-8-sig" else encoding
    return ConfigError([f"data.path: {path}, line {number} is not {name} text; save the file as {name}"])
