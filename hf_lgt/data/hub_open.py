"""Open a user's dataset: a Hub id, a local folder or file; its splits and columns, checked."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from data_builders.symbols import LAST_NODE
from hf_lgt.config.schema import Config, DataConfig
from hf_lgt.config.validate_data import can_be_tag
from hf_lgt.data.codec import CheckpointTokenizer, Codec, TextCodec
from hf_lgt.data.hub_columns import check_columns, check_masks, listed
from hf_lgt.data.splits import open_splits, pick_split
from hf_lgt.utils.errors import ConfigError


@dataclass(frozen=True)
class Opened:
    """The two splits of a dataset."""

    train: Any
    """`datasets.Dataset`"""
    test: Any
    revision: str | None
    """commit on the Hub, None for local data"""
    warnings: list[str] = field(default_factory=list)
    """what a user should know of it"""


def open_dataset(data: DataConfig) -> Opened:
    """Load both splits, on the Hub from one commit.

    Raises:
        ConfigError: there is no such dataset, configuration, revision, split or column; the message
            names those that are there where the libraries tell them.
    """
    found = open_splits(data)
    both, faults = [], []
    for key in ("train_split", "test_split"):
        try:
            both.append(pick_split(data, key, found.splits))
            check_columns(data, key, both[-1])
        except ConfigError as error:
            faults += error.faults
    if not faults:
        faults = check_masks(data, *both)
    if faults:
        raise ConfigError(list(dict.fromkeys(faults)))
    return Opened(both[0], both[1], found.revision, found.warnings)


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


def build_codec(
    config: Config, opened: Opened, task: str | None, start: CheckpointTokenizer | None = None
) -> TextCodec:
    """The codec of a model trained from scratch, or on a checkpoint's tokenizer.

    It is made from the whole dataset, not from the mixture's rows, so that the arms of a comparison
    have one vocabulary and start from the same weights.

    Args:
        config: says which kind.
        opened: the dataset.
        task: the task of all rows, where there is no column for it.
        start: the checkpoint, None for a model trained from scratch.
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
