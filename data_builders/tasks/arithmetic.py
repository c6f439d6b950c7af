"""Arithmetic on numbers written with the lowest digit first (paper, section 3.1).

Digit arrays are *digit-major*, ``[width, n]`` with the lowest digit in row 0, so that a carry walks
down the rows while NumPy works on all n examples at once. Dimensions: W digits of the longest
operand, n examples.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from data_builders.arrays import Counts, Sample, first, join
from data_builders.registry import Family, Option, Theory, one_of, register_task, whole_number
from data_builders.symbols import DIGIT_ZERO, char

Digits = NDArray[np.uint8]


@dataclass(frozen=True)
class Operands:
    """n pairs of numbers, in `base`."""

    a: Digits
    """uint8 [W, n], zero beyond the number's own digits"""
    b: Digits
    """uint8 [W, n]"""
    a_digits: Counts
    """int64 [n], digits of each a; the number 0 has one"""
    b_digits: Counts
    base: int

    @property
    def digits(self) -> Counts:
        """int64 [n], digits of the longer operand."""
        return np.maximum(self.a_digits, self.b_digits)

    def prompt(self, operator: str) -> NDArray[np.int16]:
        """``a operator b =``, int16 [n, 2 W + 2]."""
        a, b = _text(self.a, self.a_digits), _text(self.b, self.b_digits)
        return join(len(self.a_digits), [a, char(operator), b, char("=")])

    def fixed_width(self, answer: Digits) -> NDArray[np.int16]:
        """The first ``digits + 1`` digits of an answer [W + 1, n], as int16 [n, W + 1]."""
        return join(len(self.a_digits), [_text(answer, self.digits + 1)])


def _text(digits: Digits, counts: Counts) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """Codes of digits and the mask of those that are written, [n, width] each."""
    # base <= 10, so that codes fit eight bits and the transposed copy stays small
    return (digits + np.uint8(DIGIT_ZERO)).T, first(counts, len(digits))


def numbers(*pairs: int, base: int = 10) -> Operands:
    """Operands with given values, ``numbers(57, 68)`` or ``numbers(a1, b1, a2, b2)``."""
    a, b = [_digits_of(values, base) for values in (pairs[::2], pairs[1::2])]
    width = max(len(a[0]), len(b[0]))
    a_digits, b_digits = (np.pad(d, ((0, width - len(d)), (0, 0))) for d in (a[0], b[0]))
    return Operands(a_digits, b_digits, a[1], b[1], base)


def _digits_of(values: tuple[int, ...], base: int) -> tuple[Digits, Counts]:
    columns = []
    for value in values:
        digits = [value % base]
        while value := value // base:
            digits.append(value % base)
        columns.append(digits)
    counts = np.array([len(c) for c in columns], dtype=np.int64)
    out = np.zeros((counts.max(), len(columns)), dtype=np.uint8)
    for i, digits in enumerate(columns):
        out[: len(digits), i] = digits
    return out, counts


def _draw_digits(rng: np.random.Generator, counts: Counts, width: int, base: int) -> Digits:
    """Uniform numbers with exactly `counts` digits, without leading zeros, uint8 [width, n]."""
    n = len(counts)
    digits = rng.integers(0, base, size=(width, n), dtype=np.uint8)
    top = rng.integers(1, base, size=n, dtype=np.uint8)
    long = np.flatnonzero(counts > 1)
    digits[counts[long] - 1, long] = top[long]
    digits *= np.arange(width)[:, None] < counts
    return digits


def draw_operands(rng: np.random.Generator, lengths: Counts, *, base: int, operands: str) -> Operands:
    """Draw pairs whose longer number has exactly `lengths` digits (tasks.md, Arithmetic)."""
    n, width = len(lengths), int(lengths.max(initial=1))
    other = lengths if operands == "equal" else rng.integers(1, lengths + 1)
    swap = rng.integers(0, 2, size=n, dtype=np.uint8).astype(np.bool_)
    a_digits, b_digits = np.where(swap, other, lengths), np.where(swap, lengths, other)
    a, b = (_draw_digits(rng, counts, width, base) for counts in (a_digits, b_digits))
    return Operands(a, b, a_digits, b_digits, base)


def draw_factors(rng: np.random.Generator, lengths: Counts, *, base: int, multiplier_digits: int) -> Operands:
    """Draw a first number of exactly `lengths` digits and a multiplier of `multiplier_digits`."""
    other = np.full_like(lengths, multiplier_digits)
    width = max(int(lengths.max(initial=1)), multiplier_digits)
    a, b = (_draw_digits(rng, counts, width, base) for counts in (lengths, other))
    return Operands(a, b, np.asarray(lengths), other, base)


BASE = Option(10, "base of all digits, carries and products", whole_number(2, 10))
ARITHMETIC = Family(
    name="arithmetic",
    length_unit="digits of the longer operand",
    draw=draw_operands,
    options={
        "base": BASE,
        "operands": Option(
            "independent",
            "digits of the other operand: uniform in 1..length (independent) or length (equal)",
            one_of("independent", "equal"),
        ),
    },
)
MULTIPLICATION = Family(
    name="arithmetic",
    length_unit="digits of the first operand",
    draw=draw_factors,
    options={
        "base": BASE,
        "multiplier_digits": Option(3, "digits of the second operand", one_of(1, 2, 3)),
    },
)


def _add(numbers_: Operands) -> tuple[Digits, Digits]:
    """Sum digits and the carry into each digit, uint8 [W + 1, n] each."""
    a, b, base = numbers_.a, numbers_.b, np.uint8(numbers_.base)
    total = np.zeros((len(a) + 1, a.shape[1]), dtype=np.uint8)
    carry = np.zeros_like(total)
    for i in range(len(a)):
        digit = a[i] + b[i] + carry[i]
        np.greater_equal(digit, base, out=carry[i + 1].view(np.bool_))
        total[i] = digit - base * carry[i + 1]
    total[-1] = carry[-1]
    return total, carry


def _subtract(a: Digits, b: Digits, base: int) -> tuple[Digits, NDArray[np.bool_]]:
    """Digits of a - b, uint8 [W, n], and whether it fell below zero (then the digits mean nothing)."""
    out = np.empty_like(a)
    borrow = np.zeros(a.shape[1], dtype=np.uint8)
    for i in range(len(a)):
        digit = a[i] + np.uint8(base) - b[i] - borrow
        np.less(digit, np.uint8(base), out=borrow.view(np.bool_))
        out[i] = digit - np.uint8(base) * (1 - borrow)
    return out, borrow.astype(np.bool_)


@register_task(ARITHMETIC, restarts="+=", theory=Theory("no", "arXiv 2410.02140"))
def reverse_add(operands: Operands) -> Sample:
    """The sum, padded with trailing zeros to one digit more than the longer operand.

    >>> reverse_add(numbers(57, 68, 57, 8, 999, 1, 12, 100)).text()
    [('75+86=', '521'), ('75+8=', '560'), ('999+1=', '0001'), ('21+001=', '2110')]
    """
    return Sample(operands.prompt("+"), operands.fixed_width(_add(operands)[0]))


@register_task(ARITHMETIC, restarts="+=")
def no_carry(operands: Operands) -> Sample:
    """The digit-wise sum modulo the base: addition without its carries.

    >>> no_carry(numbers(57, 68, 999, 1)).text()
    [('75+86=', '510'), ('999+1=', '0990')]
    """
    digits = np.zeros((len(operands.a) + 1, operands.a.shape[1]), dtype=np.uint8)
    digits[:-1] = (operands.a + operands.b) % np.uint8(operands.base)
    return Sample(operands.prompt("+"), operands.fixed_width(digits))


@register_task(ARITHMETIC, restarts="+=")
def carry_only(operands: Operands) -> Sample:
    """The carry that addition takes into each digit; the first is always 0.

    >>> carry_only(numbers(57, 68, 999, 1, 50, 50)).text()
    [('75+86=', '011'), ('999+1=', '0111'), ('05+05=', '001')]
    """
    return Sample(operands.prompt("+"), operands.fixed_width(_add(operands)[1]))


@register_task(ARITHMETIC, restarts="-=")
def reverse_subtract(operands: Operands) -> Sample:
    """The difference's magnitude, padded to the longer operand, then ``-`` if negative, else ``0``.

    >>> reverse_subtract(numbers(57, 68, 68, 57, 57, 57, 12, 100, 900, 1)).text()
    ... # doctest: +NORMALIZE_WHITESPACE
    [('75-86=', '11-'), ('86-75=', '110'), ('75-75=', '000'), ('21-001=', '880-'),
     ('009-1=', '9980')]
    """
    difference, negative = _subtract(operands.a, operands.b, operands.base)
    opposite, _ = _subtract(operands.b, operands.a, operands.base)
    magnitude = np.where(negative, opposite, difference)
    sign = np.where(negative, char("-"), char("0"))[:, None]
    target = join(len(negative), [_text(magnitude, operands.digits), sign])
    return Sample(operands.prompt("-"), target)


@register_task(ARITHMETIC, restarts="+=")
def copy_first_op(operands: Operands) -> Sample:
    """The first operand, padded like a sum: a control that looks like addition (paper, figure 8).

    >>> copy_first_op(numbers(57, 68)).text()
    [('75+86=', '750')]
    """
    digits = np.concatenate([operands.a, np.zeros_like(operands.a[:1])])
    return Sample(operands.prompt("+"), operands.fixed_width(digits))


@register_task(MULTIPLICATION)
def cot_multiply(operands: Operands) -> Sample:
    """Long multiplication: the shifted partial products, lowest digit first, then their sum.

    >>> cot_multiply(numbers(123, 456, 7, 304)).text()
    [('321*654=', '837+0516+00294=88065'), ('7*403=', '82+00+0012=8212')]
    """
    n, rows = operands.a.shape[1], int(operands.b_digits.max(initial=1))
    width = int(operands.a_digits.max(initial=1))
    total = np.zeros((width + rows, n), dtype=np.uint16)
    parts: list[int | tuple[NDArray[np.uint8], NDArray[np.bool_]]] = []
    for shift in range(rows):
        product = np.zeros((width + 1, n), dtype=np.uint16)
        product[:-1] = operands.a[:width].astype(np.uint16) * operands.b[shift]
        digits = _carry(product, operands.base)
        total[shift : shift + width + 1] += digits
        shifted = np.concatenate([np.zeros((shift, n), dtype=np.uint8), digits])
        exists = (operands.b_digits > shift)[:, None]
        codes, written = _text(shifted, _significant(digits) + shift)
        if shift:
            parts.append((np.full_like(codes[:, :1], char("+")), exists))
        parts.append((codes, written & exists))
    digits = _carry(total, operands.base)
    parts.append(char("="))
    prompt = operands.prompt("*")[:, : width + rows + 2]
    return Sample(prompt, join(n, [*parts, _text(digits, _significant(digits))]))


def _carry(columns: NDArray[np.uint16], base: int) -> Digits:
    """Settle column sums into digits, both [width, n]; the last column must not overflow."""
    carry = np.zeros(columns.shape[1], dtype=np.uint16)
    digits = np.empty(columns.shape, dtype=np.uint8)
    for i, column in enumerate(columns):
        carry, digits[i] = np.divmod(column + carry, np.uint16(base))
    return digits


def _significant(digits: Digits) -> Counts:
    """Digits of each number without its leading zeros, at least 1, int64 [n]."""
    highest = len(digits) - np.argmax(digits[::-1] != 0, axis=0)
    return np.where(digits.any(axis=0), highest, 1)


BINARY = replace(ARITHMETIC, options={**ARITHMETIC.options, "base": replace(BASE, default=2)})


@register_task(BINARY, restarts="+=", theory=Theory("no", "arXiv 2410.02140"))
def binary_add(operands: Operands) -> Sample:
    """`reverse_add` of binary numbers.

    >>> binary_add(numbers(5, 3, base=2)).text()
    [('101+11=', '0001')]
    """
    return Sample(operands.prompt("+"), operands.fixed_width(_add(operands)[0]))
