"""The columns of a user's dataset: what is lacking, and what is of a type that cannot be read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from hf_lgt.config.schema import DataConfig, short
from hf_lgt.utils.errors import ConfigError

_TEXT = ("string", "large_string", "string_view")


@dataclass(frozen=True)
class UsedColumns:
    """Names of the columns that are read, as the dataset has them."""

    texts: frozenset[str]
    others: frozenset[str]
    """lengths and loss masks"""

    def __contains__(self, name: str) -> bool:
        return name in self.texts or name in self.others


def check_columns(data: DataConfig, key: str, dataset: Any) -> None:
    """Refuse a split that lacks a column, or has one whose type cannot be read.

    Args:
        data: names the columns.
        key: which of its keys names the split.
        dataset: the split, a `datasets.Dataset`.

    Raises:
        ConfigError: with every fault.
    """
    split, faults = getattr(data, key), []
    needed: dict[str, tuple[str, ...]] = {"prompt": _TEXT, "target": _TEXT}
    if data.length == "column":
        needed["length"] = tuple(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))
    for column in (*needed, *(c for c in data.columns if c not in needed)):
        name = data.columns.get(column, column)
        if name not in dataset.column_names:
            words = f"data.columns: {split} has no column {name!r}; it has {listed(dataset.column_names)}"
            faults.append(f"{words}. data.columns.{column} names yours")
            if column == "length":
                faults[-1] += ", or data.length counts characters, words or tokens of the prompt"
    if not len(dataset):
        faults.append(f"data.{key}: {split} has no rows")
    for column, kinds in ({**needed, "task": _TEXT} if not faults else {}).items():
        whole = column == "length"
        faults += _type_fault(split, dataset, data.columns.get(column, column), kinds, whole)
    masks = data.columns.get("loss_mask", "loss_mask")
    if not faults and masks in dataset.column_names:
        faults += _mask_fault(split, dataset, masks)
    if faults:
        raise ConfigError(faults)


def check_masks(data: DataConfig, train: Any, test: Any) -> list[str]:
    """What is wrong where one split alone says what counts: the other's numbers would mean something else."""
    name = data.columns.get("loss_mask", "loss_mask")
    splits = {data.train_split: train, data.test_split: test}
    lacking = [split for split, dataset in splits.items() if name not in dataset.column_names]
    if len(lacking) != 1 or len(splits) != 2:
        return []
    return [
        f"data.columns: {lacking[0]} has no column {name!r} although the other split has it; add it (null in "
        "a row: all of its target counts), or remove it from the other"
    ]


def first_repeated(names: Iterable[str]) -> str | None:
    """The first name that was there before, None if all differ."""
    seen: set[str] = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None


def listed(names: Iterable[str], most: int = 20) -> str:
    """The first names of columns, those that could be misread, quoted."""
    shown = [name if name.isprintable() and name.strip() == name != "" else repr(name) for name in names]
    return ", ".join(shown[:most]) + (f" and {len(shown) - most} more" if len(shown) > most else "")


def _kind(dataset: Any, name: str) -> str:
    feature = dataset.features[name]
    return str(getattr(feature, "dtype", feature))


def _type_fault(split: str, dataset: Any, name: str, kinds: tuple[str, ...], whole: bool) -> list[str]:
    """What is wrong with a column's type, with the first row that shows it."""
    if name not in dataset.column_names or _kind(dataset, name) in kinds:
        return []
    fits = _is_whole if whole else lambda value: isinstance(value, str)
    odd = ((i, value) for i, value in enumerate(_values(dataset, name)) if not fits(value))
    row, value = next(odd, (None, None))
    wanted = "integers" if whole else "strings"
    words = f"data.columns: column {name!r} of {split} holds {_kind(dataset, name)}, not {wanted}"
    if row is not None:
        words += f": row {row} is {short(value)}"
    return [words if whole else f"{words}; store it as text (a string)"]


def _is_whole(value: Any) -> bool:
    """Whether a value means an integer, so that it is not what makes the column another type."""
    if isinstance(value, str):
        return value.isdecimal() and len(value) < 19
    return type(value) is int or (isinstance(value, float) and value.is_integer())


def _mask_fault(split: str, dataset: Any, name: str) -> list[str]:
    inner = getattr(dataset.features[name], "feature", None)
    if getattr(inner, "dtype", None) == "bool" or _kind(dataset, name) == "null":
        return []
    words = (
        f"data.columns: column {name!r} of {split} holds {_kind(dataset, name)}, not lists of true and false"
    )
    return [f"{words}; data.columns.loss_mask names another one"]


def _values(dataset: Any, name: str) -> Iterator[Any]:
    # as Arrow: pictures and the like are not decoded, which may open files that the rows name
    for batch in dataset.select_columns([name]).with_format("arrow").iter(batch_size=4096):
        yield from batch[name].to_pylist()
