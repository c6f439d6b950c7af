"""Tasks in natural language: English prompts about lists of different words, numbers or rows of a table.

A family has a target task, auxiliary tasks that do one step of it, and a control that shares none. To add
one, write how its items are drawn and a function for each task, and put it into `FAMILIES`. A corpus of a
family is written by `data_builders.corpus.language`.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType
from typing import Any, Literal

import numpy as np

from data_builders.nouns import NOUNS

Role = Literal["target", "auxiliary", "control"]
Write = Callable[[Any, np.random.Generator], tuple[str, str]]
"""``write(items, rng)`` -> prompt and answer; `rng` draws what the question asks for"""

Table = Sequence[tuple[str, str]]
"""rows of a name and its team"""

NUMBERS = range(1, 1000)
TEAMS = ("red", "blue")
NONE = "none"


@dataclass(frozen=True)
class TextTask:
    """A question about some items."""

    role: Role
    write: Write


@dataclass(frozen=True)
class TextFamily:
    """Tasks about one kind of items."""

    title: str
    unit: str
    """what a length counts"""
    draw: Callable[[np.random.Generator, int], Any]
    """``draw(rng, n)`` -> n different items"""
    pool: int
    """how many items a list can have"""
    lengths: tuple[int, int, int]
    """longest training length of the target, of the others, and longest test length, unless given"""
    tasks: Mapping[str, TextTask]
    count: Callable[[int], int]
    """how many different lists of n items there are, at least"""


def _words(rng: np.random.Generator, n: int) -> list[str]:
    return [NOUNS[k] for k in rng.choice(len(NOUNS), size=n, replace=False)]


def _words_with_own_initials(rng: np.random.Generator, n: int) -> list[str]:
    """Words of which no two begin with the same letter."""
    found: dict[str, str] = {}
    for k in rng.permutation(len(NOUNS)):
        found.setdefault(NOUNS[k][0], NOUNS[k])
        if len(found) == n:
            break
    return list(found.values())


def _lists_with_own_initials(n: int) -> int:
    """How many lists of n such words there are."""
    sets = [1] + [0] * n  # of k words, over the initials so far
    for words in Counter(word[0] for word in NOUNS).values():
        sets = [1] + [sets[k] + words * sets[k - 1] for k in range(1, n + 1)]
    return math.factorial(n) * sets[n]


def _numbers(rng: np.random.Generator, n: int) -> list[int]:
    return [int(k) for k in rng.choice(NUMBERS, size=n, replace=False)]


def _rows(rng: np.random.Generator, n: int) -> list[tuple[str, str]]:
    return [
        (name, TEAMS[k]) for name, k in zip(_words(rng, n), rng.integers(len(TEAMS), size=n), strict=True)
    ]


def _of_words(verb: str, answer: Callable[[Sequence[str]], Sequence[str]], joint: str) -> Write:
    def write(words: Sequence[str], rng: np.random.Generator) -> tuple[str, str]:
        return f"{verb}: {', '.join(words)} ->", " " + joint.join(answer(words))

    return write


def _initials(words: Sequence[str]) -> list[str]:
    return [word[0].upper() for word in words]


INITIALS = TextFamily(
    title="Reversed initials",
    unit="words",
    draw=_words_with_own_initials,
    pool=len({word[0] for word in NOUNS}),
    count=_lists_with_own_initials,
    lengths=(5, 12, 15),
    tasks=MappingProxyType(
        {
            "reversed_initials": TextTask(
                "target", _of_words("Reverse initials", lambda words: _initials(words)[::-1], " ")
            ),
            "initials": TextTask("auxiliary", _of_words("Initials", _initials, " ")),
            "reversed_words": TextTask("auxiliary", _of_words("Reverse", lambda words: words[::-1], ", ")),
            "copied_words": TextTask("control", _of_words("Copy", list, ", ")),
        }
    ),
)


def _sort(numbers: Sequence[int], rng: np.random.Generator) -> tuple[str, str]:
    return f"Sort: {_listed(numbers)} =", f" {_listed(sorted(numbers))}"


def _next_larger(numbers: Sequence[int], rng: np.random.Generator) -> tuple[str, str]:
    asked = int(rng.choice(numbers))
    larger = [k for k in numbers if k > asked]
    return f"Next larger than {asked} in: {_listed(numbers)} =", f" {min(larger) if larger else NONE}"


def _item_after(numbers: Sequence[int], rng: np.random.Generator) -> tuple[str, str]:
    place = int(rng.integers(len(numbers)))
    after = numbers[place + 1] if place + 1 < len(numbers) else NONE
    return f"Item after {numbers[place]} in: {_listed(numbers)} =", f" {after}"


def _listed(numbers: Sequence[int]) -> str:
    return " ".join(map(str, numbers))


SORTING = TextFamily(
    title="Sorted numbers",
    unit="numbers",
    draw=_numbers,
    pool=len(NUMBERS),
    count=partial(math.perm, len(NUMBERS)),
    lengths=(5, 10, 15),
    tasks=MappingProxyType(
        {
            "sorted_numbers": TextTask("target", _sort),
            "next_larger": TextTask("auxiliary", _next_larger),
            "item_after": TextTask("control", _item_after),
        }
    ),
)


def _of_table(question: str, answer: Callable[[Table, str], Sequence[str]]) -> Write:
    def write(rows: Table, rng: np.random.Generator) -> tuple[str, str]:
        team = TEAMS[int(rng.integers(len(TEAMS)))]
        asked = question.format(team=team)
        found = answer(rows, team) or [NONE]
        return f"{asked} in: name,team; {'; '.join(map(','.join, rows))} ->", f" {'; '.join(found)}"

    return write


def _names(rows: Table, team: str) -> list[str]:
    return [name for name, _ in rows]


def _names_where(rows: Table, team: str) -> list[str]:
    return [name for name, own in rows if own == team]


def _rows_where(rows: Table, team: str) -> list[str]:
    return [f"{name},{own}" for name, own in rows if own == team]


def _all_rows(rows: Table, team: str) -> list[str]:
    return [",".join(row) for row in rows]


TABLE = TextFamily(
    title="A table's rows",
    unit="rows",
    draw=_rows,
    pool=len(NOUNS),
    count=partial(math.perm, len(NOUNS)),
    lengths=(6, 20, 24),
    tasks=MappingProxyType(
        {
            "names_where": TextTask("target", _of_table("names where team={team}", _names_where)),
            "names": TextTask("auxiliary", _of_table("names", _names)),
            "rows_where": TextTask("auxiliary", _of_table("rows where team={team}", _rows_where)),
            "copied_rows": TextTask("control", _of_table("copy", _all_rows)),
        }
    ),
)

FAMILIES: Mapping[str, TextFamily] = MappingProxyType(
    {"initials": INITIALS, "sorting": SORTING, "table": TABLE}
)
