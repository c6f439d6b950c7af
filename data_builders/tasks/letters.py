"""Tasks on strings without a repeated letter: copying, sorting, looking up a neighbour."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data_builders.arrays import Counts, Sample, first, join, pack
from data_builders.registry import Family, Theory, register_task
from data_builders.symbols import PAD, Codes, char
from data_builders.tasks.strings import ALPHABET, C_RASP, RETRIEVAL, Strings, both_cases, strings

NONE = char("-")
"""the answer where there is none"""


def draw_distinct(rng: np.random.Generator, lengths: Counts, *, alphabet: str) -> Strings:
    """Draw strings of exactly `lengths` different letters, uniform over both cases of `alphabet`."""
    symbols, n, width = both_cases(alphabet), len(lengths), int(lengths.max(initial=1))
    # the first steps of a Fisher-Yates shuffle, of all rows at once
    order = np.repeat(symbols.astype(np.uint8)[:, None], n, axis=1)
    rows = np.arange(n)
    for i in range(width):
        other = rng.integers(i, len(symbols), size=n, dtype=np.uint8)
        order[i], order[other, rows] = order[other, rows], order[i].copy()
    text = order[:width].T.astype(np.int16)
    text *= first(lengths, width)
    return Strings(text, lengths)


DISTINCT = Family(
    name="letters",
    length_unit="characters",
    draw=draw_distinct,
    options={"alphabet": ALPHABET},
    max_length=lambda options: 2 * len(options["alphabet"]),
)


@register_task(DISTINCT, theory=Theory("yes", C_RASP))
def unique_copy(strings: Strings) -> Sample:
    """A string without repeated letters, itself.

    >>> unique_copy(strings("aBcX")).text()
    [('aBcX=', 'aBcX')]
    """
    return Sample(strings.prompt(), strings.text)


@register_task(DISTINCT, theory=Theory("yes", C_RASP))
def sort(strings: Strings) -> Sample:
    """The letters in order: a to z, then A to Z.

    >>> sort(strings("cXaB")).text()
    [('cXaB=', 'acBX')]
    """
    text = np.sort(strings.text, axis=1)
    return Sample(strings.prompt(), pack(text, text != PAD))


@dataclass(frozen=True)
class Lookup:
    """n strings without repeated letters, and the place in each that is asked about."""

    strings: Strings
    places: NDArray[np.int64]
    """int64 [n], from 0"""

    def prompt(self) -> Codes:
        """``letter : string =``, int16 [n, W + 3]."""
        text = self.strings.text
        return join(len(text), [self.at(0), char(":"), (text, text != PAD), char("=")])

    def at(self, offset: int) -> Codes:
        """The letters so far from the places, int16 [n, 1]."""
        return np.take_along_axis(self.strings.text, self.places[:, None] + offset, axis=1)


def lookup(text: str, place: int) -> Lookup:
    """One given string and the place that is asked about."""
    return Lookup(strings(text), np.array([place], dtype=np.int64))


def _draw_lookups(before: int, after: int) -> Callable[..., Lookup]:
    """Draws strings, and places with so many letters before and after them."""

    def draw(rng: np.random.Generator, lengths: Counts, *, alphabet: str) -> Lookup:
        drawn = draw_distinct(rng, lengths, alphabet=alphabet)
        return Lookup(drawn, rng.integers(before, lengths - after))

    return draw


def _lookup_family(before: int, after: int) -> Family:
    return Family(
        name="letters",
        length_unit="characters of the string",
        draw=_draw_lookups(before, after),
        options=DISTINCT.options,
        min_length=lambda options: 1 + before + after,
        max_length=DISTINCT.max_length,
    )


@register_task(_lookup_family(0, 0), theory=Theory("open", "arXiv 2310.00726, as a hint for sorting"))
def next_larger(lookup: Lookup) -> Sample:
    """The letter of the string that follows the asked one in order, a to z, then A to Z; - if none does.

    >>> next_larger(lookup("cXaB", 0)).text()
    [('c:cXaB=', 'B')]
    >>> next_larger(lookup("cXaB", 1)).text()
    [('X:cXaB=', '-')]
    """
    text, asked = lookup.strings.text, lookup.at(0)
    larger = np.where(text > asked, text, np.iinfo(np.int16).max).min(axis=1, keepdims=True)
    return Sample(
        lookup.prompt(), np.where((text > asked).any(axis=1, keepdims=True), larger, np.int16(NONE))
    )


@register_task(_lookup_family(0, 1), theory=Theory("yes", RETRIEVAL))
def induction(lookup: Lookup) -> Sample:
    """The letter to the right of the asked one.

    >>> induction(lookup("aBcX", 2)).text()
    [('c:aBcX=', 'X')]
    """
    return Sample(lookup.prompt(), lookup.at(1))


@register_task(_lookup_family(1, 0), theory=Theory("yes", RETRIEVAL))
def anti_induction(lookup: Lookup) -> Sample:
    """The letter to the left of the asked one.

    >>> anti_induction(lookup("aBcX", 2)).text()
    [('c:aBcX=', 'B')]
    """
    return Sample(lookup.prompt(), lookup.at(-1))
