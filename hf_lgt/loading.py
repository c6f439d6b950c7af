"""Open a user's dataset: a Hub id, a local folder or file; its splits and columns, checked."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_builders.hub import redact
from data_builders.registry import unknown
from data_builders.symbols import LAST_NODE, TAG
from hf_lgt.codec import Codec, TextCodec
from hf_lgt.errors import ConfigError
from hf_lgt.schema import Config, DataConfig

READERS = {".json": "json", ".jsonl": "json", ".csv": "csv", ".tsv": "csv", ".parquet": "parquet"}
"""files that are read alone, and the reader of datasets for them"""


@dataclass(frozen=True)
class Opened:
    """The two splits of a dataset."""

    train: Any
    """`datasets.Dataset`"""
    test: Any
    revision: str | None
    """commit on the Hub, None for local data"""


def open_dataset(data: DataConfig) -> Opened:
    """Load both splits, on the Hub from one commit.

    Raises:
        ConfigError: there is no such dataset, configuration, revision, split or column; the message
            names those that are there where the libraries tell them.
    """
    from datasets import DatasetDict, load_from_disk
    from datasets.utils import disable_progress_bars

    disable_progress_bars()
    path, revision = Path(str(data.path)), None
    if path.exists() and data.revision is not None:
        raise ConfigError([f"data.revision: {data.revision!r} is one of the Hub; {data.path!r} is local"])
    with _readable(data):
        if (path / "dataset_dict.json").is_file():
            saved = load_from_disk(str(path))
            assert isinstance(saved, DatasetDict)
            missing = [key for key in ("train_split", "test_split") if getattr(data, key) not in saved]
            if missing:
                raise ConfigError(
                    [f"data.{key}: {unknown('split', getattr(data, key), saved)}" for key in missing]
                )
            opened = Opened(saved[data.train_split], saved[data.test_split], None)
        else:
            revision = None if path.exists() else _commit(data)
            train, test = (
                _load(data, path, split, revision) for split in (data.train_split, data.test_split)
            )
            opened = Opened(train, test, revision)
    for key, dataset in (("train_split", opened.train), ("test_split", opened.test)):
        _check_columns(data, key, dataset)
    return opened


def _load(data: DataConfig, path: Path, split: str, revision: str | None) -> Any:
    """One split; its name may be cut, as ``train[:90%]``."""
    from datasets import load_dataset

    if path.is_file():
        reader = READERS.get(path.suffix.lower())
        if reader is None:
            raise ConfigError([f"data.path: {data.path!r} is none of {', '.join(READERS)}"])
        return load_dataset(reader, data_files=str(path), split=split)
    return load_dataset(str(data.path), data.name, split=split, revision=revision)


def _commit(data: DataConfig) -> str | None:
    """The commit that a revision names now, so that both splits come from one."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import OfflineModeIsEnabled, RevisionNotFoundError

    try:
        return HfApi().dataset_info(str(data.path), revision=data.revision).sha
    except OfflineModeIsEnabled:
        return data.revision
    except RevisionNotFoundError:
        refs = HfApi().list_repo_refs(str(data.path), repo_type="dataset")
        names = [ref.name for ref in (*refs.branches, *refs.tags)]
        raise ConfigError([f"data.revision: {unknown('revision', data.revision, names)}"]) from None


@contextmanager
def _readable(data: DataConfig) -> Iterator[None]:
    """Turns whatever the libraries raise over a dataset into one message."""
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:  # HTTP, Arrow, JSON, file system: each library raises its own
        name = f" (data.name {data.name!r})" if data.name else ""
        reason = redact(" ".join(str(error).split()))[:400]
        raise ConfigError(
            [f"data.path: {data.path!r}{name} cannot be loaded: {type(error).__name__}: {reason}"]
        ) from None


def _check_columns(data: DataConfig, key: str, dataset: Any) -> None:
    """Every column that is needed is there, with a type that can be read."""
    split, faults = getattr(data, key), []
    needed = {"prompt": "string", "target": "string"}
    if data.length == "column":
        needed["length"] = "int"
    for column in (*needed, *(c for c in data.columns if c not in needed)):
        name = data.columns.get(column, column)
        if name not in dataset.column_names:
            words = f"data.columns: {split} has no column {name!r}; it has {', '.join(dataset.column_names)}"
            faults.append(f"{words}. data.columns.{column} names yours")
            if column == "length":
                faults[-1] += ", or data.length counts characters, words or tokens of the prompt"
            continue
        kind = str(getattr(dataset.features[name], "dtype", dataset.features[name]))
        if column in needed and not re.fullmatch(
            needed[column] + r"(\d*|_view)", kind.removeprefix("large_")
        ):
            faults.append(f"data.columns: column {name!r} of {split} holds {kind}, not {needed[column]}")
    if not faults and not len(dataset):
        faults.append(f"data.{key}: {split} has no rows")
    if faults:
        raise ConfigError(faults)


def only_task(config: Config, opened: Opened) -> str | None:
    """The task of all rows, where the dataset has no column for it.

    Raises:
        ConfigError: there is none, and the mixture has several tasks.
    """
    name = config.data.columns.get("task", "task")
    if name in opened.train.column_names and name in opened.test.column_names:
        kind = str(getattr(opened.train.features[name], "dtype", opened.train.features[name]))
        if kind not in ("string", "large_string", "string_view"):
            raise ConfigError([f"data.columns: column {name!r} holds {kind}, not string"])
        return None
    if len(config.mixture) > 1:
        raise ConfigError(
            [
                f"data.columns: there is no column {name!r} to tell the {len(config.mixture)} tasks of the "
                f"mixture apart; there are {', '.join(opened.train.column_names)}. data.columns.task "
                "names yours"
            ]
        )
    return config.mixture[0].task


def build_codec(config: Config, opened: Opened, task: str | None) -> TextCodec:
    """The tokenizer of a model that starts at random.

    It is made from the whole dataset, not from the mixture's rows, so that the arms of a comparison
    have one vocabulary and start from the same weights.

    Args:
        config: says which kind.
        opened: the dataset.
        task: the task of all rows, where there is no column for it.
    """
    data, train = config.data, opened.train
    column = data.columns.get("task", "task")
    named = [task] if task is not None else train.unique(column)
    names = sorted(name for name in named if name is not None and TAG.fullmatch(name))
    texts = [data.columns.get(c, c) for c in ("prompt", "target")]
    if config.model.tokenizer == "words":
        return TextCodec.of_words(_texts(train, texts), tasks=names, tags=data.tags)
    nodes = min(max((_largest_node(text) for text in _texts(train, texts)), default=0), LAST_NODE)
    return Codec.build(tasks=names, nodes=nodes, tags=data.tags)


def _texts(dataset: Any, columns: Iterable[str]) -> Iterator[str]:
    for batch in dataset.select_columns([*columns]).iter(batch_size=4096):
        for column in columns:
            yield from (text for text in batch[column] if text)


def _largest_node(text: str) -> int:
    """The largest k of the nodes ``[k]`` in a text, 0 if there is none."""
    if "[" not in text:
        return 0
    return max((int(k) for k in re.findall(r"\[([1-9][0-9]{0,4})\]", text)), default=0)
