"""String tasks over letters of both cases (paper, section 3.1)."""

from __future__ import annotations

import string
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from data_builders.arrays import Counts, Mask, Sample, first, join, pack
from data_builders.registry import Family, Option, TaskError, Theory, register_task, whole_number
from data_builders.symbols import FIRST_TAG, LETTER_A, PAD, Codes, char, parse

C_RASP = "arXiv 2410.02140"
RETRIEVAL = "arXiv 2505.21785"
DERIVED = f"follows from {C_RASP}"

_FLIP = np.arange(FIRST_TAG, dtype=np.int16)
_FLIP[LETTER_A : LETTER_A + 52] = np.roll(_FLIP[LETTER_A : LETTER_A + 52], 26)


@dataclass(frozen=True)
class Strings:
    """n strings, right-padded."""

    text: Codes
    """int16 [n, W]"""
    lengths: Counts
    """int64 [n]"""

    def flipped(self) -> Strings:
        """The strings with every letter in the other case."""
        return Strings(_FLIP[self.text], self.lengths)

    def reversed(self) -> Strings:
        """The strings backwards."""
        text = self.text[:, ::-1]
        return Strings(pack(text, text != PAD), self.lengths)

    def prompt(self) -> Codes:
        """``string =``, int16 [n, W + 1]."""
        return join(len(self.text), [(self.text, self.text != PAD), char("=")])


def strings(*texts: str) -> Strings:
    """Given strings, ``strings("aBcX", "b")``."""
    lengths = np.array([len(t) for t in texts], dtype=np.int64)
    out = np.zeros((len(texts), lengths.max()), dtype=np.int16)
    for row, text in zip(out, texts, strict=True):
        row[: len(text)] = parse(text)
    return Strings(out, lengths)


@lru_cache
def both_cases(alphabet: str) -> Codes:
    """Codes of the letters, int16 [letters], which nobody may change."""
    return parse(alphabet + alphabet.upper())


def draw_strings(rng: np.random.Generator, lengths: Counts, *, alphabet: str) -> Strings:
    """Draw strings of exactly `lengths` letters, uniform over both cases of `alphabet`."""
    symbols = both_cases(alphabet)
    shape = (len(lengths), int(lengths.max(initial=1)))
    text = symbols[rng.integers(0, len(symbols), size=shape, dtype=np.uint8)]
    if lengths.min(initial=shape[1]) < shape[1]:
        text *= first(lengths, shape[1])
    return Strings(text, lengths)


def _check_alphabet(value: Any) -> str | None:
    fine = (
        isinstance(value, str)
        and value
        and set(value) <= set(string.ascii_lowercase)
        and len(set(value)) == len(value)
    )
    return None if fine else "different lower-case letters, such as 'abcd'"


ALPHABET = Option(string.ascii_lowercase, "the lower-case letters in use; both cases occur", _check_alphabet)
STRINGS = Family(name="strings", length_unit="characters", draw=draw_strings, options={"alphabet": ALPHABET})


@register_task(STRINGS, theory=Theory("no", C_RASP))
def string_copy(strings: Strings) -> Sample:
    """The string itself.

    >>> string_copy(strings("aBcX")).text()
    [('aBcX=', 'aBcX')]
    """
    return Sample(strings.prompt(), strings.text)


@register_task(STRINGS, theory=Theory("no", DERIVED))
def capitalize(strings: Strings) -> Sample:
    """The string with the case of every letter flipped.

    >>> capitalize(strings("aBcX")).text()
    [('aBcX=', 'AbCx')]
    """
    return Sample(strings.prompt(), strings.flipped().text)


@register_task(STRINGS, theory=Theory("no", RETRIEVAL))
def reverse(strings: Strings) -> Sample:
    """The string backwards.

    >>> reverse(strings("aBcX")).text()
    [('aBcX=', 'XcBa')]
    """
    return Sample(strings.prompt(), strings.reversed().text)


@register_task(STRINGS, theory=Theory("no", DERIVED))
def capitalize_reverse(strings: Strings) -> Sample:
    """The string backwards, with the case of every letter flipped.

    >>> capitalize_reverse(strings("aBcX")).text()
    [('aBcX=', 'xCbA')]
    """
    return Sample(strings.prompt(), strings.reversed().flipped().text)


@dataclass(frozen=True)
class Recall:
    """n strings with the places that are asked about."""

    strings: Strings
    starts: NDArray[np.int64]
    """int64 [n, Q], where each queried substring starts, -1 where a row has fewer queries"""
    query_width: int


def recall(text: str, *starts: int, query_width: int = 2) -> Recall:
    """One given string and the starts of its queries."""
    return Recall(strings(text), np.array([starts], dtype=np.int64), query_width)


_ROUNDS = 200


def draw_recall(
    rng: np.random.Generator,
    lengths: Counts,
    *,
    alphabet: str,
    query_width: int,
    queries: int | None,
) -> Recall:
    """Draw strings that have a substring to ask about, and the queries, in random order."""
    drawn = draw_strings(rng, lengths, alphabet=alphabet)
    for _ in range(_ROUNDS):
        eligible = _eligible(drawn, query_width)
        without = np.flatnonzero(~eligible.any(axis=1))
        if not len(without):
            break
        redrawn = draw_strings(rng, lengths[without], alphabet=alphabet)
        drawn.text[without] = 0
        drawn.text[without, : redrawn.text.shape[1]] = redrawn.text
    else:
        raise TaskError(
            f"mqar: {_ROUNDS} draws gave no string of length {lengths[without].max()} over alphabet "
            f"{alphabet!r} in which {query_width} letters occur exactly once; use a larger "
            "'alphabet' or 'query_width'"
        )
    asked = np.maximum(lengths // 2, 1) if queries is None else np.full_like(lengths, queries)
    width = min(int(asked.max(initial=1)), eligible.shape[1])
    # Random keys above, the place below: the smallest keys are a uniform choice in random order.
    keys = rng.integers(0, 2**46, size=eligible.shape, dtype=np.uint64) << np.uint64(16)
    keys[~eligible] = np.uint64(2**63)
    keys |= np.arange(eligible.shape[1], dtype=np.uint64)
    keys.sort(axis=1)
    starts = (keys[:, :width] & np.uint64(0xFFFF)).astype(np.int64)
    starts[~first(np.minimum(asked, eligible.sum(axis=1)), width)] = -1
    return Recall(drawn, starts, query_width)


def _eligible(drawn: Strings, query_width: int) -> Mask:
    """Whether the substring at each place occurs once and has a character after it, [n, W - width]."""
    # Place-major, so that each comparison below runs over all examples at once.
    text = np.ascontiguousarray(drawn.text.T)
    places = len(text) - query_width + 1
    repeated = np.zeros((places, text.shape[1]), dtype=np.bool_)
    for shift in range(1, places):
        same = text[shift:] == text[:-shift]
        window = same[: places - shift]
        for k in range(1, query_width):
            window = window & same[k : places - shift + k]
        repeated[shift:] |= window
        repeated[: places - shift] |= window
    inside = first(drawn.lengths - query_width, places - 1)
    return ~repeated[:-1].T & inside


MQAR = Family(
    name="strings",
    length_unit="characters",
    draw=draw_recall,
    options={
        "alphabet": ALPHABET,
        "query_width": Option(2, "letters of a queried substring", whole_number(1)),
        "queries": Option(
            None,
            "queries a string; null: length // 2, at least 1; never more than the string allows",
            lambda value: None if value is None else whole_number(1)(value),
        ),
    },
    min_length=lambda options: int(options["query_width"]) + 1,
)


@register_task(MQAR, theory=Theory("yes", RETRIEVAL))
def mqar(recall: Recall) -> Sample:
    """Multi-query associative recall: substrings that occur once, each with the letter after it.

    Only that letter counts in loss and exact match: ``..F..C`` below.

    >>> mqar(recall("abCdeFgh", 3, 0)).text()
    [('abCdeFgh=', 'deFabC')]
    >>> mqar(recall("abCdeFgh", 3, 0)).loss_mask.astype(int).tolist()
    [[0, 0, 1, 0, 0, 1]]
    """
    n, width = len(recall.starts), recall.query_width + 1
    places = np.repeat(recall.starts, width, axis=1)
    asked = places >= 0
    places += np.tile(np.arange(width), recall.starts.shape[1])
    text = np.take_along_axis(recall.strings.text, np.where(asked, places, 0), axis=1) * asked
    answers = np.tile(np.arange(width) == width - 1, (n, recall.starts.shape[1])) & asked
    return Sample(recall.strings.prompt(), text, answers, scores_eos=False)
