"""Which files the splits of a dataset are, all of them inside its folder.

The names of files, and what the card (README.md) says of them, decide it as for `datasets.load_dataset`.
Nothing outside the folder is looked at, whatever the card or a link names.
"""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from data_builders.reading import UnreadableFileError, read_text
from data_builders.registry import unknown
from hf_lgt.config.schema import short
from hf_lgt.utils.errors import ConfigError

READERS = {
    ".csv": "csv",
    ".tsv": "csv",
    ".json": "json",
    ".jsonl": "json",
    ".ndjson": "json",
    ".parquet": "parquet",
}
"""suffix -> what reads such files"""
COMPRESSED = (".gz", ".bz2", ".xz")
"""suffixes of CSV and JSON files that may follow"""
CARDS = ("README.md", ".huggingface.yaml")
"""files that may say which files the splits are; the second adds to the first"""
_UNSUPPORTED = {
    "csv": {
        "comment", "dialect", "encoding_errors", "header", "index_col", "lineterminator", "nrows",
        "on_bad_lines", "prefix", "skipfooter", "skiprows", "usecols",
    },
    "json": {"encoding", "encoding_errors", "field"},
    "parquet": {"columns", "filters"},
}  # fmt: skip
"""keys of a configuration that change which rows and columns `datasets` reads"""
_NO_DATA = {"config.json", "dataset_info.json", "dataset_infos.json", "dataset_dict.json"}
"""files about data, as in `datasets`"""
_FAVOURITES = (".parquet", ".jsonl", ".json", ".csv")
"""which suffix is taken where several are as frequent, as in `datasets`"""


@dataclass(frozen=True)
class SplitFiles:
    """What a dataset is read from."""

    splits: dict[str, list[str]]
    """names relative to the folder, with / between their parts"""
    options: dict[str, Any] = field(default_factory=dict)
    """how the card says that CSV files are written"""
    unread: tuple[str, ...] = ()
    """data files that belong to no split"""


def suffix_of(name: str) -> str | None:
    """The suffix by which a file's reader is chosen, None if there is none: ``.csv`` of ``train.csv.gz``."""
    suffixes = PurePosixPath(name.lower()).suffixes
    if len(suffixes) > 1 and suffixes[-1] in COMPRESSED:
        suffixes.pop()
        return suffixes[-1] if READERS.get(suffixes[-1]) in ("csv", "json") else None
    return suffixes[-1] if suffixes and suffixes[-1] in READERS else None


def read_card(folder: Path) -> dict[str, Any]:
    """The metadata of a dataset's card; empty if there is none.

    Raises:
        ConfigError: they cannot be read.
    """
    import yaml
    from huggingface_hub import metadata_load

    card: dict[str, Any] = {}
    for name in CARDS:
        path = inside(folder, folder / name)
        if not path.is_file():
            continue
        try:
            found = metadata_load(path) if path.suffix == ".md" else yaml.safe_load(read_text(path))
        except (UnreadableFileError, ValueError, yaml.YAMLError, RecursionError) as error:
            reason = " ".join(str(error).split())[:200]
            raise ConfigError([f"data.path: the metadata of {path} cannot be read: {reason}"]) from None
        if not isinstance(found or {}, dict):
            raise ConfigError([f"data.path: the metadata of {path} must be a mapping of keys"])
        card.update(found or {})
    return card


def list_files(folder: Path) -> list[str]:
    """Names of all files below a folder that are not hidden, sorted; a link to a folder is not followed.

    Raises:
        OSError: a folder cannot be read.
    """

    def refuse(error: OSError) -> None:
        raise error

    return visible(
        (Path(place) / name).relative_to(folder).as_posix()
        for place, _, files in os.walk(folder, onerror=refuse)
        for name in files
    )


def visible(names: Iterable[str]) -> list[str]:
    """Names without those that are hidden or in a hidden folder, sorted."""
    hidden = re.compile(r"(^|/)(\.|__[^/]*/)")
    return sorted(name for name in names if not hidden.search(name))


def inside(folder: Path, path: Path) -> Path:
    """A path that is in a folder, by its links too.

    Raises:
        ConfigError: it is a link that leads outside; a copy of a repository on the Hub in its client's
            cache may link to that repository's files.
    """
    top, target = folder.resolve(), path.resolve()
    blobs = top.parents[1] / "blobs" if top.parent.name == "snapshots" else top
    if target.is_relative_to(top) or target.is_relative_to(blobs):
        return path
    raise ConfigError(
        [
            f"data.path: {path} leads outside the folder, to {target}; put a copy in its place, or name that "
            "file itself as data.path"
        ]
    )


def choose_files(
    names: Sequence[str], card: Mapping[str, Any], configuration: str | None, where: str
) -> SplitFiles:
    """The files of a configuration's splits.

    Args:
        names: all files of the folder.
        card: its metadata, from `read_card`.
        configuration: which one; None: the default.
        where: the folder or the repository on the Hub, for messages.

    Raises:
        ConfigError: there is no such configuration, none of its files, or the card names files that are not
            in the folder.
    """
    settings = _configuration(card, configuration, where)
    base = _relative(settings.get("data_dir") or ".", where)
    below = [n for n in names if base == "." or n.startswith(f"{base}/")]
    if "data_files" in settings:
        splits = _named(settings["data_files"], base, below, where)
    else:
        splits = _by_name([n.removeprefix(f"{base}/") for n in below])
        splits = {s: [n if base == "." else f"{base}/{n}" for n in found] for s, found in splits.items()}
    suffix = _most_frequent(name for found in splits.values() for name in found)
    if suffix is None:
        raise ConfigError([f"data.path: {where} has no {', '.join(READERS)} file for a split"])
    chosen = {s: [n for n in found if _alike(n, suffix)] for s, found in splits.items()}
    for split, found in chosen.items():
        if not found:
            raise ConfigError(
                [f"data.path: the splits of {where} are of several formats; {split} has no {suffix} file"]
            )
    read = {name for found in chosen.values() for name in found}
    unread = () if "data_files" in settings else tuple(n for n in below if _is_data(n) and n not in read)
    return SplitFiles(chosen, _options(settings, READERS[suffix], where), unread)


def _configuration(card: Mapping[str, Any], wanted: str | None, where: str) -> dict[str, Any]:
    """What the card says of a configuration."""
    listed = card.get("configs") or [{"config_name": "default"}]
    if not isinstance(listed, list) or not all(
        isinstance(entry, dict) and isinstance(entry.get("config_name"), str) for entry in listed
    ):
        raise ConfigError(
            [f"data.path: 'configs' in the card of {where} must be a list of mappings, each with config_name"]
        )
    found: dict[str, dict[str, Any]] = {entry["config_name"]: entry for entry in listed}
    if wanted is not None:
        if wanted not in found:
            raise ConfigError([f"data.name: {unknown('configuration', wanted, found)}"])
        return found[wanted]
    defaults = [n for n, entry in found.items() if len(found) == 1 or n == "default" or entry.get("default")]
    if len(defaults) != 1:
        raise ConfigError(
            [f"data.name: {where} has several configurations, name one: {', '.join(map(short, found))}"]
        )
    return found[defaults[0]]


def _relative(name: Any, where: str) -> str:
    """A name or pattern of the card, as one below the folder.

    Raises:
        ConfigError: it is of something elsewhere.
    """
    outside = not isinstance(name, str) or "://" in name or "::" in name or name.startswith(("/", "~"))
    if outside or ".." in PurePosixPath(name).parts or "\\" in name or "\0" in name:
        # what is no text may be a list that takes for ever to be shown
        shown = repr(name)[:300] if isinstance(name, str) else f"{type(name).__name__} as a file"
        raise ConfigError([f"data.path: the card of {where} names {shown}; only files inside it are read"])
    return posixpath.normpath(str(name))


def _named(data_files: Any, base: str, names: Sequence[str], where: str) -> dict[str, list[str]]:
    """Split -> files, of the card's data_files."""
    entries = data_files if isinstance(data_files, list) else [data_files]
    patterns: dict[str, list[Any]] = {}
    for entry in entries:
        split, path = (
            ("train", entry) if not isinstance(entry, dict) else (entry.get("split"), entry.get("path"))
        )
        if not isinstance(split, str) or not isinstance(path, (str, list)):
            raise ConfigError(
                [f"data.path: data_files in the card of {where} must be names, or mappings of split and path"]
            )
        patterns.setdefault(split, []).extend(path if isinstance(path, list) else [path])
    found: dict[str, list[str]] = {}
    for split, wanted in patterns.items():
        found[split] = []
        for pattern in wanted:
            matched = _matching(names, posixpath.normpath(f"{base}/{_relative(pattern, where)}"))
            if not matched and not re.search(r"[*?\[]", pattern):
                raise ConfigError(
                    [
                        f"data.path: the card of {where} names {short(pattern)}, which is not inside it "
                        "(links to folders are not followed)"
                    ]
                )
            found[split] = list(dict.fromkeys([*found[split], *matched]))
    return found


def _by_name(names: Sequence[str]) -> dict[str, list[str]]:
    """Split -> files, where their names alone tell, as `datasets` does it."""
    from datasets.data_files import _get_data_files_patterns

    data = [name for name in names if _is_data(name)]
    try:
        patterns = _get_data_files_patterns(lambda pattern: _matching(data, pattern))
    except FileNotFoundError:
        return {}
    return {
        str(split): list(dict.fromkeys(name for pattern in several for name in _matching(data, pattern)))
        for split, several in patterns.items()
    }


def _is_data(name: str) -> bool:
    return suffix_of(name) is not None and posixpath.basename(name) not in _NO_DATA


def _matching(names: Iterable[str], pattern: str) -> list[str]:
    from fsspec.utils import glob_translate  # type: ignore[import-untyped]

    try:
        rule = re.compile(glob_translate(pattern))
    except ValueError as error:
        raise ConfigError([f"data.path: the card's pattern {short(pattern)}: {error}"]) from None
    return [name for name in names if name == pattern or rule.match(name)]


def _most_frequent(names: Iterable[str]) -> str | None:
    counts: dict[str, int] = {}
    for name in names:
        if (suffix := suffix_of(name)) is not None:
            counts[suffix] = counts.get(suffix, 0) + 1
    order = [*_FAVOURITES, *READERS]
    return max(counts, key=lambda suffix: (counts[suffix], -order.index(suffix)), default=None)


def _alike(name: str, suffix: str) -> bool:
    """Whether files may be of one split: of JSON files both kinds, as each says which it is."""
    own = suffix_of(name)
    return own == suffix or (own is not None and READERS[own] == READERS[suffix] == "json")


def _options(settings: Mapping[str, Any], reader: str, where: str) -> dict[str, Any]:
    """How the card says that files are written."""
    if odd := sorted(_UNSUPPORTED[reader].intersection(settings)):
        raise ConfigError(
            [f"data.path: the card of {where} sets {odd[0]}, which is not supported for {reader} files"]
        )
    return dict(settings)
