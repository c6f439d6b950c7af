"""Faults of section data that its types cannot see."""

from __future__ import annotations

from collections.abc import Iterator

from data_builders.registry import get_task, list_tasks, unknown
from data_builders.symbols import CONTROL_TEXT, TAG
from hf_lgt.config.schema import Config, DataConfig, PrimingConfig, short
from hf_lgt.config.validate_model import Fault

COLUMNS = ("task", "length", "prompt", "target", "loss_mask")
_RESERVED = (*CONTROL_TEXT, "<unk>")
"""tokens that are no task's tag"""
_DATASET_KEYS = ("path", "name", "revision", "columns", "length", "train_split", "test_split")


def _priming_faults(config: Config) -> Iterator[Fault]:
    """Long examples that the targets do not have, or that change nothing."""
    own, usual = config.data.priming, PrimingConfig()
    if not own.examples:
        if own != usual:
            yield (
                ("data.priming.examples",),
                "data.priming.examples: 0, so the other keys of data.priming mean nothing",
            )
        return
    if config.data.source == "dataset":
        yield (
            ("data.priming.examples", "data.source"),
            f"data.priming.examples: {own.examples} are for data.source 'generated'; add rows to a dataset",
        )
        return
    if own.lengths[0] > own.lengths[1]:
        yield (
            ("data.priming.lengths",),
            f"data.priming.lengths: {list(own.lengths)} must be [smallest, largest]",
        )
        return
    for i, c in enumerate(config.mixture):
        if c.role != "target" or c.task not in list_tasks() or get_task(c.task).option_faults(c.options):
            continue
        if own.lengths[0] <= c.lengths[1]:
            yield (
                ("data.priming.lengths", f"mixture.{i}.lengths"),
                f"data.priming.lengths: {list(own.lengths)} must be longer than {c.task} is trained on, "
                f"{c.lengths[1]}",
            )
        for length in own.lengths:
            if fault := get_task(c.task).length_fault(length, c.options):
                yield ("data.priming.lengths", f"mixture.{i}.task"), f"data.priming.lengths: {fault}"


def data_faults(config: Config) -> Iterator[Fault]:
    """Faults of section data."""
    data, default = config.data, DataConfig()
    yield from _priming_faults(config)
    limit = config.model.position_limit
    if data.filler and config.model.architecture == "looped_llama":
        yield (
            ("data.filler", "model.architecture"),
            f"data.filler: {data.filler} would count as a part of the prompt for 'looped_llama', which works "
            "longer on longer ones; take one of the two",
        )
    if limit is not None and data.filler >= limit:
        yield (
            ("data.filler", "model.max_positions"),
            f"data.filler: {data.filler} leaves no place for an example; model.max_positions is {limit}",
        )
    if data.filler and config.model.position_ids != "sequential":
        yield (
            ("data.filler", "model.position_ids"),
            f"data.filler: {data.filler} moves examples among position IDs 0, 1, 2, ...; model.position_ids "
            f"{config.model.position_ids!r} gives them others, take one of the two",
        )
    if data.source == "generated":
        for key in _DATASET_KEYS:
            if getattr(data, key) != getattr(default, key):
                yield (
                    (f"data.{key}", "data.source"),
                    f"data.{key}: {short(getattr(data, key))} is for data.source 'dataset', not 'generated'",
                )
        if config.model.tokenizer == "words":
            yield (
                ("model.tokenizer", "data.source"),
                "model.tokenizer: 'words' are those of a dataset; data.source is 'generated'",
            )
        return
    if data.curriculum:
        yield (
            ("data.curriculum", "data.source"),
            f"data.curriculum: {data.curriculum} is for data.source 'generated'; rows of a dataset "
            "come in an order of their own",
        )
    if not data.path:
        yield (
            ("data.path", "data.source"),
            "data.path: is missing; data.source 'dataset' needs a Hub id, or a local folder or file",
        )
    for column in data.columns:
        if column not in COLUMNS:
            yield ("data.columns",), f"data.columns: {unknown('column', column, COLUMNS)}"
    yield from _shared_columns(data)
    if data.length != "column" and "length" in data.columns:
        yield (
            ("data.columns", "data.length"),
            f"data.columns: names a column for the length, but data.length counts {data.length}",
        )
    if data.tags:
        for i, c in enumerate(config.mixture):
            if not can_be_tag(c.task):
                yield (
                    (f"mixture.{i}.task", "data.tags"),
                    f"mixture.{i}.task: {short(c.task)} can be no tag, which is letters, digits and '_', at "
                    f"most 64, and none of {', '.join(_RESERVED)}; set data.tags to false if the prompts "
                    "themselves say what is asked",
                )


def can_be_tag(task: str) -> bool:
    """Whether ``<task>`` can be a token of its own."""
    return TAG.fullmatch(task) is not None and f"<{task}>" not in _RESERVED


def _shared_columns(data: DataConfig) -> Iterator[Fault]:
    """Columns that are read as two things."""
    read = [c for c in COLUMNS if c != "length" or data.length == "column"]
    keys: dict[str, list[str]] = {}
    for key in read:
        keys.setdefault(data.columns.get(key, key), []).append(key)
    for name, both in keys.items():
        if len(both) > 1:
            yield (
                ("data.columns", "data.length"),
                f"data.columns: {short(name)} is read as {' and as '.join(both)}; "
                "each needs a column of its own",
            )
