"""Tasks that copy some letters of a string, which may repeat, or all of them with hints."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data_builders.arrays import Counts, Sample, join, pack
from data_builders.registry import Family, Option, Theory, register_task, whole_number
from data_builders.symbols import FIRST_NODE, LETTER_A, PAD, Codes, char
from data_builders.tasks.strings import ALPHABET, C_RASP, DERIVED, STRINGS, Strings, draw_strings, strings

FEW = Option("a", ALPHABET.doc, ALPHABET.check)
"""two letters, a and A, so that they repeat"""


@register_task(Family("strings", "characters", draw_strings, {"alphabet": FEW}), theory=Theory("no", C_RASP))
def repeat_copy(strings: Strings) -> Sample:
    """A string of two letters, which repeat, itself.

    >>> repeat_copy(strings("aAAa")).text()
    [('aAAa=', 'aAAa')]
    """
    return Sample(strings.prompt(), strings.text)


@register_task(STRINGS, theory=Theory("yes", DERIVED))
def first_letter(strings: Strings) -> Sample:
    """The first letter.

    >>> first_letter(strings("aBcX")).text()
    [('aBcX=', 'a')]
    """
    return Sample(strings.prompt(), strings.text[:, :1])


@register_task(STRINGS, theory=Theory("yes", DERIVED))
def last_letter(strings: Strings) -> Sample:
    """The last letter.

    >>> last_letter(strings("aBcX")).text()
    [('aBcX=', 'X')]
    """
    return Sample(strings.prompt(), np.take_along_axis(strings.text, strings.lengths[:, None] - 1, axis=1))


def draw_some_lower(rng: np.random.Generator, lengths: Counts, *, alphabet: str) -> Strings:
    """Draw strings with at least one lower-case letter; the last one is made so where there is none."""
    drawn = draw_strings(rng, lengths, alphabet=alphabet)
    without = np.flatnonzero(~_lower(drawn.text).any(axis=1))
    drawn.text[without, lengths[without] - 1] -= 26
    return drawn


def _lower(text: Codes) -> NDArray[np.bool_]:
    return (text >= LETTER_A) & (text < LETTER_A + 26)


@register_task(
    Family("strings", "characters", draw_some_lower, {"alphabet": ALPHABET}), theory=Theory("no", DERIVED)
)
def selective_copy(strings: Strings) -> Sample:
    """The lower-case letters, in their order; capitals are left out.

    >>> selective_copy(strings("aBcX")).text()
    [('aBcX=', 'ac')]
    """
    lower = _lower(strings.text)
    return Sample(strings.prompt(), pack(strings.text * lower, lower))


@dataclass(frozen=True)
class Hinted:
    """n strings, each letter with the number of its place before it."""

    strings: Strings
    starts: NDArray[np.int64]
    """int64 [n], number of each first letter, from 1"""

    def numbers(self) -> NDArray[np.int64]:
        """Codes of the numbers, int64 [n, W]."""
        return FIRST_NODE + self.starts[:, None] + np.arange(self.strings.text.shape[1])


def hinted(text: str, start: int) -> Hinted:
    """One given string and the number of its first letter."""
    return Hinted(strings(text), np.array([start], dtype=np.int64))


def draw_hinted(rng: np.random.Generator, lengths: Counts, *, alphabet: str, hints: int) -> Hinted:
    """Draw strings, and where their numbers begin: uniform, as far as `hints` allows."""
    drawn = draw_strings(rng, lengths, alphabet=alphabet)
    return Hinted(drawn, rng.integers(1, hints - lengths + 2))


HINTED = Family(
    name="strings",
    length_unit="characters",
    draw=draw_hinted,
    options={
        "alphabet": ALPHABET,
        "hints": Option(64, "numbers in use: [1], [2], ... up to this one", whole_number(1, 1000)),
    },
    max_length=lambda options: int(options["hints"]),
    nodes=lambda options: int(options["hints"]),
)


@register_task(HINTED, theory=Theory("open", "arXiv 2507.13332"))
def reverse_hints(hinted: Hinted) -> Sample:
    """The string backwards, each letter with the number of its place; numbers begin anywhere.

    >>> reverse_hints(hinted("aBc", 7)).text()
    [('[7]a[8]B[9]c=', '[9]c[8]B[7]a')]
    """
    text = hinted.strings.text
    numbers = np.where(text != PAD, hinted.numbers(), PAD)
    pairs = np.stack([numbers, text], axis=2).astype(np.int16)
    forwards, backwards = (own.reshape(len(text), -1) for own in (pairs, pairs[:, ::-1]))
    prompt = join(len(text), [(forwards, forwards != PAD), char("=")])
    return Sample(prompt, pack(backwards, backwards != PAD))
