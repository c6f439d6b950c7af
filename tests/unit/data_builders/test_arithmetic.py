"""Arithmetic tasks against plain Python integers that are read back from the rendered prompt."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from data_builders import TaskError, get_task
from data_builders.tasks.arithmetic import (
    carry_only,
    copy_first_op,
    cot_multiply,
    no_carry,
    numbers,
    reverse_add,
    reverse_subtract,
)

PAIR_TASKS = ["reverse_add", "no_carry", "carry_only", "reverse_subtract", "copy_first_op"]
OPERATOR = {"reverse_subtract": "-", "cot_multiply": "*"}
EXAMPLES = 8

property_test = settings(max_examples=80, deadline=None, derandomize=True, database=None)
seeds = st.integers(0, 2**32 - 1)
lengths = st.integers(1, 40)
bases = st.integers(2, 10)
spreads = st.sampled_from(["independent", "equal"])


def spell(value, base):
    digits = str(value % base)
    while value >= base:
        value //= base
        digits += str(value % base)
    return digits


def value_of(text, base):
    return int(text[::-1], base)


def digit(value, place, base):
    return value // base**place % base


def operands_of(prompt, operator):
    found = re.fullmatch(rf"(\d+){re.escape(operator)}(\d+)=", prompt)
    assert found, prompt
    return found.groups()


def long_multiplication(a, b, base):
    rows = [("0" * i) + spell(a * int(d), base) for i, d in enumerate(spell(b, base))]
    return "+".join(rows) + "=" + spell(a * b, base)


def expected_target(task, a, b, digits, base):
    places = range(digits + 1)
    if task == "reverse_add":
        return spell(a + b, base).ljust(digits + 1, "0")
    if task == "no_carry":
        return "".join(str((digit(a, i, base) + digit(b, i, base)) % base) for i in places)
    if task == "carry_only":
        return "".join(str(int(a % base**i + b % base**i >= base**i)) for i in places)
    if task == "reverse_subtract":
        return spell(abs(a - b), base).ljust(digits, "0") + ("-" if a < b else "0")
    if task == "copy_first_op":
        return spell(a, base).ljust(digits + 1, "0")
    return long_multiplication(a, b, base)


def check_example(task, prompt, target, base):
    a_text, b_text = operands_of(prompt, OPERATOR.get(task, "+"))
    a, b = value_of(a_text, base), value_of(b_text, base)
    assert (a_text, b_text) == (spell(a, base), spell(b, base)), "a leading zero"
    assert target == expected_target(task, a, b, max(len(a_text), len(b_text)), base), prompt
    return len(a_text), len(b_text)


def sample(task, seed, length, n=EXAMPLES, **options):
    return get_task(task).sample(np.random.default_rng(seed), length, n, **options)


def operand_texts(seed, length, n, task="reverse_add", **options):
    drawn = sample(task, seed, length, n, **options).text()
    return [operands_of(prompt, OPERATOR.get(task, "+")) for prompt, _ in drawn]


def is_uniform(counts):
    return stats.chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (reverse_add(numbers(57, 68)), ("75+86=", "521")),
        (reverse_add(numbers(57, 8)), ("75+8=", "560")),
        (reverse_add(numbers(999, 1)), ("999+1=", "0001")),
        (reverse_add(numbers(12, 100)), ("21+001=", "2110")),
        (no_carry(numbers(57, 68)), ("75+86=", "510")),
        (no_carry(numbers(999, 1)), ("999+1=", "0990")),
        (carry_only(numbers(57, 68)), ("75+86=", "011")),
        (carry_only(numbers(999, 1)), ("999+1=", "0111")),
        (carry_only(numbers(50, 50)), ("05+05=", "001")),
        (reverse_subtract(numbers(57, 68)), ("75-86=", "11-")),
        (reverse_subtract(numbers(68, 57)), ("86-75=", "110")),
        (reverse_subtract(numbers(57, 57)), ("75-75=", "000")),
        (reverse_subtract(numbers(12, 100)), ("21-001=", "880-")),
        (reverse_subtract(numbers(900, 1)), ("009-1=", "9980")),
        (cot_multiply(numbers(123, 456)), ("321*654=", "837+0516+00294=88065")),
        (cot_multiply(numbers(7, 304)), ("7*403=", "82+00+0012=8212")),
        (copy_first_op(numbers(57, 68)), ("75+86=", "750")),
    ],
)
def test_worked_examples(made, text):
    assert made.text() == [text]


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (reverse_add(numbers(0, 0)), ("0+0=", "00")),
        (reverse_add(numbers(5, 7, base=8)), ("5+7=", "41")),
        (reverse_add(numbers(7, 1, base=2)), ("111+1=", "0001")),
        (no_carry(numbers(7, 1, base=2)), ("111+1=", "0110")),
        (carry_only(numbers(1, 999)), ("1+999=", "0111")),
        (carry_only(numbers(95, 5)), ("59+5=", "011")),
        (reverse_subtract(numbers(0, 9)), ("0-9=", "9-")),
        (reverse_subtract(numbers(1000, 999)), ("0001-999=", "10000")),
        (reverse_subtract(numbers(8, 1, base=2)), ("0001-1=", "11100")),
        (cot_multiply(numbers(0, 456)), ("0*654=", "0+00+000=0")),
        (cot_multiply(numbers(99, 0)), ("99*0=", "0=0")),
        (cot_multiply(numbers(3, 3, base=2)), ("11*11=", "11+011=1001")),
        (copy_first_op(numbers(8, 600)), ("8+006=", "8000")),
    ],
)
def test_edge_cases(made, text):
    assert made.text() == [text]


def test_examples_of_different_widths_share_one_array():
    made = cot_multiply(numbers(123, 456, 7, 304, 99999, 100))
    assert made.text() == [
        ("321*654=", "837+0516+00294=88065"),
        ("7*403=", "82+00+0012=8212"),
        ("99999*001=", "0+00+0099999=0099999"),
    ]


def test_multipliers_of_different_lengths_share_one_array():
    assert cot_multiply(numbers(123, 456, 9, 5)).text() == [
        ("321*654=", "837+0516+00294=88065"),
        ("9*5=", "54=54"),
    ]


@pytest.mark.parametrize("task", PAIR_TASKS)
@property_test
@given(seed=seeds, length=lengths, base=bases, operands=spreads)
def test_pair_tasks_follow_integer_arithmetic(task, seed, length, base, operands):
    drawn = sample(task, seed, length, base=base, operands=operands)
    assert len(drawn.text()) == EXAMPLES
    for prompt, target in drawn.text():
        digits = check_example(task, prompt, target, base)
        assert max(digits) == length
        assert operands == "independent" or min(digits) == length
        assert len(target) == length + 1


@property_test
@given(seed=seeds, length=lengths, base=bases, multiplier_digits=st.integers(1, 3))
def test_multiplication_follows_integer_arithmetic(seed, length, base, multiplier_digits):
    drawn = sample("cot_multiply", seed, length, base=base, multiplier_digits=multiplier_digits)
    assert len(drawn.text()) == EXAMPLES
    for prompt, target in drawn.text():
        assert check_example("cot_multiply", prompt, target, base) == (length, multiplier_digits)


@pytest.mark.parametrize("task", PAIR_TASKS)
@property_test
@given(seed=seeds, rows=st.lists(lengths, min_size=1, max_size=8), base=bases, operands=spreads)
def test_pair_tasks_with_a_length_for_each_row(task, seed, rows, base, operands):
    drawn = sample(task, seed, np.array(rows), len(rows), base=base, operands=operands)
    for length, (prompt, target) in zip(rows, drawn.text(), strict=True):
        digits = check_example(task, prompt, target, base)
        assert max(digits) == length
        assert operands == "independent" or min(digits) == length


@property_test
@given(
    seed=seeds,
    rows=st.lists(lengths, min_size=1, max_size=8),
    base=bases,
    multiplier_digits=st.integers(1, 3),
)
def test_multiplication_with_a_length_for_each_row(seed, rows, base, multiplier_digits):
    drawn = sample(
        "cot_multiply", seed, np.array(rows), len(rows), base=base, multiplier_digits=multiplier_digits
    )
    for length, (prompt, target) in zip(rows, drawn.text(), strict=True):
        assert check_example("cot_multiply", prompt, target, base) == (length, multiplier_digits)


@property_test
@given(
    pairs=st.lists(st.tuples(st.integers(0, 10**40), st.integers(0, 10**40)), min_size=1, max_size=4),
    base=bases,
)
def test_chosen_numbers_follow_integer_arithmetic(pairs, base):
    given_numbers = numbers(*[value for pair in pairs for value in pair], base=base)
    for name in PAIR_TASKS:
        texts = get_task(name)(given_numbers).text()
        for (a, b), (prompt, target) in zip(pairs, texts, strict=True):
            assert prompt == f"{spell(a, base)}{OPERATOR.get(name, '+')}{spell(b, base)}="
            check_example(name, prompt, target, base)


@property_test
@given(
    pairs=st.lists(st.tuples(st.integers(0, 10**40), st.integers(0, 999)), min_size=1, max_size=4), base=bases
)
def test_chosen_factors_with_multipliers_of_equal_length(pairs, base):
    pairs = [(a, base**2 + b % (base**3 - base**2)) for a, b in pairs]
    made = cot_multiply(numbers(*[value for pair in pairs for value in pair], base=base))
    for (a, b), (prompt, target) in zip(pairs, made.text(), strict=True):
        assert prompt == f"{spell(a, base)}*{spell(b, base)}="
        assert target == long_multiplication(a, b, base)


@pytest.mark.parametrize("operands", ["independent", "equal"])
@property_test
@given(seed=seeds, length=lengths, base=bases)
def test_a_sum_is_its_digit_sums_and_its_carries(operands, seed, length, base):
    sums, digit_sums, carries = (
        sample(task, seed, length, base=base, operands=operands).text()
        for task in ("reverse_add", "no_carry", "carry_only")
    )
    for (prompt, total), (same, plain), (again, carry) in zip(sums, digit_sums, carries, strict=True):
        assert prompt == same == again
        pairs = zip(plain, carry, strict=True)
        assert total == "".join(str((int(p) + int(c)) % base) for p, c in pairs)


@pytest.mark.parametrize("task", [*PAIR_TASKS, "cot_multiply"])
def test_every_target_symbol_and_the_end_count(task):
    drawn = sample(task, 0, 5, 50)
    assert drawn.scores_eos
    assert drawn.loss_mask.sum(axis=1).tolist() == [len(target) for _, target in drawn.text()]


@pytest.mark.parametrize("base", [10, 3])
def test_the_other_operand_has_a_uniform_number_of_digits(base):
    pairs = operand_texts(seed=1, length=8, n=16000, base=base)
    shorter = [min(len(a), len(b)) for a, b in pairs]
    assert is_uniform(np.bincount(shorter, minlength=9)[1:])


def test_the_other_operand_has_a_uniform_number_of_digits_in_rows_of_different_lengths():
    rows = np.tile([2, 5, 9], 6000)
    pairs = operand_texts(seed=2, length=rows, n=len(rows))
    for length in (2, 5, 9):
        shorter = [min(map(len, pair)) for pair, row in zip(pairs, rows, strict=True) if row == length]
        assert is_uniform(np.bincount(shorter, minlength=length + 1)[1:])


def test_either_operand_may_be_the_longer():
    pairs = [p for p in operand_texts(seed=3, length=8, n=8000) if len(p[0]) != len(p[1])]
    first_longer = sum(len(a) > len(b) for a, b in pairs)
    assert is_uniform([first_longer, len(pairs) - first_longer])


def test_one_digit_pairs_are_uniform_and_independent():
    counts = np.zeros((10, 10))
    for a, b in operand_texts(seed=4, length=1, n=20000):
        counts[int(a), int(b)] += 1
    assert is_uniform(counts.ravel())


@pytest.mark.parametrize("task", ["reverse_add", "cot_multiply"])
def test_digits_are_uniform_below_a_highest_digit_that_is_not_zero(task):
    counts = np.zeros((2, 4, 7))
    numbers_seen = zip(*operand_texts(seed=5, length=4, n=14000, task=task, base=7), strict=True)
    for operand, texts in enumerate(numbers_seen):
        for text in texts:
            if len(text) >= 3:
                for place in (0, 1, len(text) - 1):
                    counts[operand, min(place, 2), int(text[place])] += 1
    assert (counts[:, 2, 0] == 0).all()
    for operand in range(2):
        assert is_uniform(counts[operand, 0])
        assert is_uniform(counts[operand, 1])
        assert is_uniform(counts[operand, 2, 1:])


@pytest.mark.parametrize("multiplier_digits", [1, 2, 3])
def test_multipliers_reach_all_values_of_their_length(multiplier_digits):
    pairs = operand_texts(0, 1, 4000, "cot_multiply", base=3, multiplier_digits=multiplier_digits)
    wanted = range(0 if multiplier_digits == 1 else 3 ** (multiplier_digits - 1), 3**multiplier_digits)
    assert {value_of(b, 3) for _, b in pairs} == set(wanted)
    assert {a for a, _ in pairs} == {"0", "1", "2"}


def test_defaults_are_base_10_independent_operands_and_three_digit_multipliers():
    assert get_task("reverse_add").resolve({}) == {"base": 10, "operands": "independent"}
    assert get_task("cot_multiply").resolve({}) == {"base": 10, "multiplier_digits": 3}
    for task in ("reverse_add", "cot_multiply"):
        plain, explicit = sample(task, 9, 6), sample(task, 9, 6, **get_task(task).resolve({}))
        assert plain.text() == explicit.text()


@pytest.mark.parametrize(
    ("task", "option", "value"),
    [
        ("reverse_add", "base", 1),
        ("reverse_add", "base", 11),
        ("no_carry", "base", 2.0),
        ("carry_only", "base", True),
        ("reverse_subtract", "operands", "same"),
        ("copy_first_op", "operands", None),
        ("cot_multiply", "multiplier_digits", 0),
        ("cot_multiply", "multiplier_digits", 4),
        ("cot_multiply", "multiplier_digits", True),
    ],
)
def test_values_outside_an_option_are_refused(task, option, value):
    with pytest.raises(TaskError, match=f"{task}.*'{option}'.*{re.escape(repr(value))}"):
        sample(task, 0, 3, **{option: value})


def test_all_wrong_options_are_named_at_once():
    with pytest.raises(TaskError) as error:
        sample("reverse_add", 0, 3, base=1, operand="equal", operands=3)
    for piece in ("'base'", "'operand'", "'operands'", "reverse_add"):
        assert piece in str(error.value)


def test_multiplication_has_no_operands_option():
    with pytest.raises(TaskError, match=r"cot_multiply.*'operands'"):
        sample("cot_multiply", 0, 3, operands="equal")


@pytest.mark.parametrize("task", [*PAIR_TASKS, "cot_multiply"])
def test_no_number_has_zero_digits(task):
    for length in (0, -1, np.array([2, 0, 3])):
        with pytest.raises(TaskError, match=f"{task}.*length"):
            sample(task, 0, length, 3)
