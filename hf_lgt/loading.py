"""Open a user's dataset: a Hub id, a local folder or file; its splits and columns, checked."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from data_builders.registry import unknown
from data_builders.retry import redact
from data_builders.symbols import LAST_NODE
from data_builders.texts import line
from hf_lgt.codec import Codec, TextCodec
from hf_lgt.columns import check_columns, listed
from hf_lgt.config_checks import can_be_tag
from hf_lgt.errors import ConfigError
from hf_lgt.schema import HUB_ID, Config, DataConfig, short
from hf_lgt.starts import Start

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
    splits, revision = open_splits(data)
    both, faults = [], []
    for key in ("train_split", "test_split"):
        try:
            both.append(pick_split(data, key, splits))
            check_columns(data, key, both[-1])
        except ConfigError as error:
            faults += error.faults
    if faults:
        raise ConfigError(list(dict.fromkeys(faults)))
    return Opened(both[0], both[1], revision)


def open_splits(data: DataConfig) -> tuple[Mapping[str, Any], str | None]:
    """All splits, on the Hub of one commit, and that commit.

    Raises:
        ConfigError: there is no such dataset, configuration or revision.
    """
    from datasets.utils import disable_progress_bars

    disable_progress_bars()
    path = Path(str(data.path))
    local = os.path.exists(path)  # noqa: PTH110  # unlike Path's, false for a name that no file can have
    if not local and (path.suffix in READERS or not HUB_ID.fullmatch(str(data.path))):
        raise ConfigError([f"data.path: {short(data.path)} is no file or folder that can be read"])
    if local and data.revision is not None:
        raise ConfigError([f"data.revision: {data.revision!r} is one of the Hub; {data.path!r} is local"])
    with _readable(data, local):
        revision = None if local else _commit(data)
        return _load(data, path, revision), revision


def _load(data: DataConfig, path: Path, revision: str | None) -> Mapping[str, Any]:
    """All splits."""
    from datasets import Dataset, load_dataset, load_from_disk

    saved = path.is_dir() and any((path / n).is_file() for n in ("dataset_dict.json", "state.json"))
    if (path.is_file() or saved) and data.name is not None:
        raise ConfigError([f"data.name: {data.name!r} is a configuration, which {data.path!r} does not have"])
    if saved:
        read: Any = load_from_disk(str(path))
        return {"train": read} if isinstance(read, Dataset) else read
    if not path.is_file():
        loaded: Mapping[str, Any] = load_dataset(str(data.path), data.name, revision=revision)
        return loaded
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise ConfigError([f"data.path: {data.path!r} is none of {', '.join(READERS)}"])
    if not path.stat().st_size:
        raise ConfigError([f"data.path: {data.path!r} is empty"])
    options: dict[str, Any] = {}
    if reader == "csv":
        # digits are text where text is wanted, 007 is not 7, and the word null is a word
        texts = [data.columns.get(c, c) for c in ("prompt", "target", "task")]
        options = {"converters": dict.fromkeys(texts, str), "keep_default_na": False}
        options["sep"] = "\t" if path.suffix.lower() == ".tsv" else ","
    read = load_dataset(reader, data_files=_literal(path), **options)
    if reader == "csv" and "__index_level_0__" in read["train"].column_names:
        raise ConfigError([f"data.path: the rows of {data.path!r} have more cells than its header"])
    return read  # type: ignore[no-any-return]


def _literal(path: Path) -> str:
    """A path as the pattern that only it matches."""
    return re.sub(r"([*?\[])", r"[\1]", str(path))


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
            raise ConfigError([f"data.{key}: {unknown('split', name, splits)}"])
    try:
        parts = ReadInstruction.from_spec(wanted).to_absolute({name: len(d) for name, d in splits.items()})
    except (ValueError, AssertionError) as error:
        reason = " ".join(str(error).split())
        raise ConfigError([f"data.{key}: {wanted!r} must be as 'train' or 'train[:90%]': {reason}"]) from None
    return concatenate_datasets([splits[p.splitname].select(range(p.from_, p.to) or range(0)) for p in parts])


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
def _readable(data: DataConfig, local: bool) -> Iterator[None]:
    """Turns whatever the libraries raise over a dataset into one message."""
    try:
        yield
    except ConfigError:
        raise
    except Exception as error:  # HTTP, Arrow, JSON, file system: each library raises its own
        from datasets.exceptions import DatasetGenerationError

        if data.name is not None and "BuilderConfig" in str(error) and "Available:" in str(error):
            names = re.findall(r"'([^']*)'", str(error).split("Available:")[1])
            raise ConfigError([f"data.name: {unknown('configuration', data.name, names)}"]) from None
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


def only_task(config: Config, opened: Opened) -> str | None:
    """The task of all rows, where the dataset has no column for it.

    Raises:
        ConfigError: there is none, and the mixture has several tasks; or one split alone has it.
    """
    data = config.data
    name = data.columns.get("task", "task")
    splits = {data.train_split: opened.train, data.test_split: opened.test}
    lacking = [split for split, dataset in splits.items() if name not in dataset.column_names]
    if not lacking:
        return None
    if len(config.mixture) == 1 and len(lacking) == len(splits):
        return config.mixture[0].task
    why = f"to tell the {len(config.mixture)} tasks of the mixture apart"
    if len(lacking) < len(splits):
        why = "although the other split has it"
    lacks = f"{lacking[0]} has no column {name!r}"
    there = listed(splits[lacking[0]].column_names)
    raise ConfigError([f"data.columns: {lacks} {why}; it has {there}. data.columns.task names yours"])


def build_codec(config: Config, opened: Opened, task: str | None, start: Start | None = None) -> TextCodec:
    """The codec of a model of its own, or on a checkpoint's tokenizer.

    It is made from the whole dataset, not from the mixture's rows, so that the arms of a comparison
    have one vocabulary and start from the same weights.

    Args:
        config: says which kind.
        opened: the dataset.
        task: the task of all rows, where there is no column for it.
        start: the checkpoint, None for a model of its own.
    """
    data, train = config.data, opened.train
    column = data.columns.get("task", "task")
    named = [task] if task is not None else train.unique(column)
    names = sorted(name for name in named if name is not None and can_be_tag(name))
    texts = [data.columns.get(c, c) for c in ("prompt", "target")]
    if config.model.tokenizer == "words":
        return TextCodec.of_words(_texts(train, texts), tasks=names, tags=data.tags)
    if start and config.model.tokenizer == "text":
        return start.codec(TextCodec, tasks=names, tags=data.tags)
    nodes = min(max((_largest_node(text) for text in _texts(train, texts)), default=0), LAST_NODE)
    if start:
        return start.codec(Codec, tasks=names, nodes=nodes, tags=data.tags)
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
