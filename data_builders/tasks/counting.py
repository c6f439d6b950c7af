"""Tasks that count: parity, sums modulo a number, majorities, letters, open brackets."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from data_builders.arrays import Counts, Sample, first, join, pack
from data_builders.registry import Family, Option, Theory, register_task, whole_number
from data_builders.symbols import DIGIT_ZERO, LETTER_A, PAD, Codes, char, parse
from data_builders.tasks.strings import ALPHABET, C_RASP, DERIVED, Strings, draw_strings, strings

CAPITAL = 26
"""from a letter's code to its capital's"""


@dataclass(frozen=True)
class Residues:
    """n rows of digits, to be summed modulo `modulus`."""

    digits: NDArray[np.uint8]
    """uint8 [n, W], 0 beyond a row's own"""
    lengths: Counts
    modulus: int

    def prompt(self) -> Codes:
        """``digits =``, int16 [n, W + 1]."""
        return join(len(self.digits), [self.text(self.digits), char("=")])

    def text(self, values: NDArray[np.uint8]) -> tuple[Codes, NDArray[np.bool_]]:
        """Codes of digits, and which of them are there, [n, W] each."""
        return values.astype(np.int16) + np.int16(DIGIT_ZERO), first(self.lengths, values.shape[1])

    def running(self) -> NDArray[np.uint8]:
        """The sum up to each digit, modulo `modulus`, uint8 [n, W]."""
        return (self.digits.cumsum(axis=1) % self.modulus).astype(np.uint8)

    def total(self) -> Codes:
        """Code of the whole sum, int16 [n, 1]."""
        return self.running()[:, -1:].astype(np.int16) + np.int16(DIGIT_ZERO)


def residues(text: str, modulus: int = 2) -> Residues:
    """One given row of digits."""
    digits = np.array([[int(digit) for digit in text]], dtype=np.uint8)
    return Residues(digits, np.array([len(text)], dtype=np.int64), modulus)


def draw_residues(rng: np.random.Generator, lengths: Counts, *, modulus: int) -> Residues:
    """Draw digits below `modulus`, uniform."""
    shape = (len(lengths), int(lengths.max(initial=1)))
    digits = rng.integers(0, modulus, size=shape, dtype=np.uint8)
    return Residues(digits * first(lengths, shape[1]), lengths, modulus)


def _residues(modulus: int) -> Family:
    asked = Option(modulus, "digits are below it, sums modulo it", whole_number(2, 10))
    return Family("counting", "digits", draw_residues, {"modulus": asked})


@register_task(_residues(2), theory=Theory("no", C_RASP))
def parity(residues: Residues) -> Sample:
    """Whether the number of ones is odd: 1, or 0.

    >>> parity(residues("1101")).text()
    [('1101=', '1')]
    """
    return Sample(residues.prompt(), residues.total())


@register_task(_residues(2), theory=Theory("open", "arXiv 2310.16028"))
def parity_scratchpad(residues: Residues) -> Sample:
    """The parity of the digits up to each place, the last of which is that of all.

    >>> parity_scratchpad(residues("1101")).text()
    [('1101=', '1001')]
    """
    return Sample(residues.prompt(), join(len(residues.digits), [residues.text(residues.running())]))


@register_task(_residues(10), theory=Theory("no", DERIVED))
def modular_sum(residues: Residues) -> Sample:
    """The sum of the digits, modulo ten or `modulus`.

    >>> modular_sum(residues("9725", modulus=10)).text()
    [('9725=', '3')]
    """
    return Sample(residues.prompt(), residues.total())


def draw_majority(rng: np.random.Generator, lengths: Counts, *, alphabet: str) -> Strings:
    """Draw strings of one letter in both cases that are no draw; the last letter of a draw is changed."""
    drawn = draw_strings(rng, lengths, alphabet=alphabet)
    capital = _capital(drawn.text)
    even = np.flatnonzero(2 * capital.sum(axis=1) == lengths)
    ends = lengths[even] - 1
    drawn.text[even, ends] += np.where(capital[even, ends], -CAPITAL, CAPITAL).astype(np.int16)
    return drawn


def _capital(text: Codes) -> NDArray[np.bool_]:
    return (text >= LETTER_A + CAPITAL) & (text < LETTER_A + 2 * CAPITAL)


def _one_letter(value: object) -> str | None:
    fine = isinstance(value, str) and len(value) == 1 and ALPHABET.check(value) is None
    return None if fine else "one lower-case letter"


@register_task(
    Family("counting", "characters", draw_majority,
           {"alphabet": Option("a", "the lower-case letter in use; both cases occur", _one_letter)}),
    theory=Theory("yes", C_RASP),
)  # fmt: skip
def majority(strings: Strings) -> Sample:
    """The letter that occurs more often; there is no draw.

    >>> majority(strings("aAAaA")).text()
    [('aAAaA=', 'A')]
    """
    text = strings.text
    more = 2 * _capital(text).sum(axis=1, keepdims=True) > strings.lengths[:, None]
    letter = text[:, :1] - CAPITAL * _capital(text[:, :1])
    return Sample(strings.prompt(), (letter + CAPITAL * more).astype(np.int16))


@dataclass(frozen=True)
class Counted:
    """n strings and the letter of each that is counted."""

    strings: Strings
    asked: Codes
    """int16 [n, 1]"""


def counted(text: str, asked: str) -> Counted:
    """One given string and the letter that is counted."""
    return Counted(strings(text), parse(asked)[None])


def draw_counted(rng: np.random.Generator, lengths: Counts, *, alphabet: str) -> Counted:
    """Draw strings, and letters of these to count."""
    drawn = draw_strings(rng, lengths, alphabet=alphabet)
    return Counted(drawn, np.take_along_axis(drawn.text, rng.integers(0, lengths)[:, None], axis=1))


@register_task(
    Family("counting", "characters of the string", draw_counted,
           {"alphabet": Option("ab", ALPHABET.doc, ALPHABET.check)}),
    theory=Theory("open"),
)  # fmt: skip
def count_char(counted: Counted) -> Sample:
    """How often the asked letter occurs, lowest digit first.

    >>> count_char(counted("abAabaaaaaaaa", "a")).text()
    [('a:abAabaaaaaaaa=', '01')]
    """
    text = counted.strings.text
    count = (text == counted.asked).sum(axis=1)
    width = len(str(text.shape[1]))
    digits = count[:, None] // 10 ** np.arange(width) % 10
    there = first(np.maximum(1, (count[:, None] >= 10 ** np.arange(width)).sum(axis=1)), width)
    prompt = join(len(text), [counted.asked, char(":"), (text, text != PAD), char("=")])
    return Sample(prompt, join(len(text), [((digits + DIGIT_ZERO).astype(np.int16), there)]))


@dataclass(frozen=True)
class Brackets:
    """n beginnings of bracket words; kinds are letters, and capitals close."""

    strings: Strings
    open: Codes
    """int16 [n, W], those that are open at the end, the outermost first, `PAD` beyond"""


def brackets(text: str) -> Brackets:
    """One given beginning, as ``brackets("abBa")``."""
    stack: list[str] = []
    for letter in text:
        if letter.islower():
            stack.append(letter)
        else:
            stack.pop()
    opened = np.zeros((1, len(text)), dtype=np.int16)
    opened[0, : len(stack)] = parse("".join(stack))
    return Brackets(strings(text), opened)


def draw_brackets(rng: np.random.Generator, lengths: Counts, *, kinds: int) -> Brackets:
    """Draw beginnings that leave at least one bracket open: each step opens one or closes the last."""
    n, width = len(lengths), int(lengths.max(initial=1))
    kind = rng.integers(LETTER_A, LETTER_A + kinds, size=(width, n), dtype=np.int16)
    opens = rng.integers(0, 2, size=(width, n), dtype=np.uint8).astype(np.bool_)
    text, stack = np.zeros((width, n), dtype=np.int16), np.zeros((width + 1, n), dtype=np.int16)
    depth, rows = np.zeros(n, dtype=np.int64), np.arange(n)
    for i in range(width):
        there = i < lengths
        # a last step that would close the only one opens another
        up = opens[i] | (depth == 0) | ((depth == 1) & (i == lengths - 1))
        top = stack[depth - 1, rows]
        text[i] = np.where(up, kind[i], top + CAPITAL) * there
        stack[np.where(up, depth, depth - 1), rows] = np.where(
            there, np.where(up, kind[i], PAD), stack[np.where(up, depth, depth - 1), rows]
        )
        depth += np.where(up, 1, -1) * there
    return Brackets(Strings(np.ascontiguousarray(text.T), lengths), np.ascontiguousarray(stack[:width].T))


@register_task(
    Family("counting", "brackets of the beginning", draw_brackets,
           {"kinds": Option(2, "kinds of brackets: a and A, b and B, ...", whole_number(1, 26))}),
    theory=Theory("open"),
)  # fmt: skip
def dyck_close(brackets: Brackets) -> Sample:
    """What closes all brackets that are open, the innermost first: a opens, A closes.

    >>> dyck_close(brackets("abBab")).text()
    [('abBab=', 'BAA')]
    """
    closing = brackets.open[:, ::-1]
    there = closing != PAD
    return Sample(brackets.strings.prompt(), pack((closing + CAPITAL) * there, there))
