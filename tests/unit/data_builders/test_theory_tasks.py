"""Tasks that theory speaks of, against plain Python."""

import re
from collections import Counter

import numpy as np
import pytest

from data_builders import TaskError, get_task

ORDER = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def after(body):
    """(what is asked, the string)."""
    asked, _, text = body.partition(":")
    return asked, text


def next_larger(body):
    asked, text = after(body)
    larger = [c for c in text if ORDER.index(c) > ORDER.index(asked)]
    return min(larger, key=ORDER.index, default="-")


def running(body):
    ones, out = 0, []
    for digit in body:
        ones += digit == "1"
        out.append(str(ones % 2))
    return "".join(out)


def neighbour(offset):
    def find(body):
        asked, text = after(body)
        return text[text.index(asked) + offset]

    return find


def count(body):
    asked, text = after(body)
    return str(text.count(asked))[::-1]


def close(body):
    pairs = "|".join(c + c.upper() for c in ORDER[:26])
    while re.search(pairs, body):
        body = re.sub(pairs, "", body)
    assert body.islower()
    return body[::-1].upper()


def hints(body):
    pairs = re.findall(r"\[(\d+)\]([A-Za-z])", body)
    numbers = [int(number) for number, _ in pairs]
    assert numbers == list(range(numbers[0], numbers[0] + len(pairs)))
    return "".join(f"[{number}]{letter}" for number, letter in reversed(pairs))


def binary(body):
    a, b = (int(part[::-1], 2) for part in body.split("+"))
    width = max(map(len, body.split("+"))) + 1
    return format(a + b, f"0{width}b")[::-1]


ORACLES = {
    "unique_copy": lambda body: body,
    "repeat_copy": lambda body: body,
    "sort": lambda body: "".join(sorted(body, key=ORDER.index)),
    "next_larger": next_larger,
    "induction": neighbour(1),
    "anti_induction": neighbour(-1),
    "first_letter": lambda body: body[0],
    "last_letter": lambda body: body[-1],
    "selective_copy": lambda body: "".join(c for c in body if c.islower()),
    "reverse_hints": hints,
    "parity": lambda body: str(body.count("1") % 2),
    "parity_scratchpad": running,
    "modular_sum": lambda body: str(sum(map(int, body)) % 10),
    "majority": lambda body: Counter(body).most_common(1)[0][0],
    "count_char": count,
    "dyck_close": close,
    "binary_add": binary,
}
LENGTHS = np.array([1, 2, 3, 5, 8, 13, 21, 34, 52])


def sample(name, lengths, seed=0, **options):
    return get_task(name).sample(np.random.default_rng(seed), lengths, len(lengths), **options).text()


@pytest.mark.parametrize("name", ORACLES)
def test_answers_are_those_of_the_rule(name):
    lengths = np.repeat(LENGTHS[get_task(name).min_length <= LENGTHS], 60)
    for prompt, answer in sample(name, lengths):
        assert answer == ORACLES[name](prompt.removesuffix("=")), prompt


@pytest.mark.parametrize("name", ["unique_copy", "sort", "next_larger", "induction", "anti_induction"])
def test_no_letter_occurs_twice(name):
    for prompt, _ in sample(name, np.full(200, 52), seed=1):
        assert sorted(after(prompt.removesuffix("="))[1] or prompt[:-1]) == sorted(ORDER)
    with pytest.raises(TaskError, match="53 is above 52, the largest length"):
        sample(name, np.full(2, 53))
    with pytest.raises(TaskError, match="7 is above 6"):
        sample(name, np.full(2, 7), alphabet="abc")


def test_all_orders_are_drawn_equally_often():
    found = Counter(prompt[:-1] for prompt, _ in sample("unique_copy", np.full(24_000, 3), alphabet="ab"))
    assert len(found) == 24
    assert all(850 < times < 1150 for times in found.values())


def test_every_place_is_asked_about():
    for name, places in (("next_larger", range(4)), ("induction", range(3)), ("anti_induction", range(1, 4))):
        asked = Counter()
        for prompt, _ in sample(name, np.full(4_000, 4)):
            letter, text = after(prompt[:-1])
            asked[text.index(letter)] += 1
        assert set(asked) == set(places)
        assert min(asked.values()) > 0.8 * max(asked.values())


def test_answers_of_yes_or_no_are_balanced():
    for name, one in (("parity", "1"), ("majority", "A")):
        answers = Counter(answer for _, answer in sample(name, np.full(4_000, 9)))
        assert 1800 < answers[one] < 2200
        assert len(answers) == 2
    assert {answer for _, answer in sample("modular_sum", np.full(500, 3))} == set("0123456789")


@pytest.mark.parametrize("length", [2, 4, 8])
def test_a_majority_of_even_length_is_no_draw(length):
    for prompt, answer in sample("majority", np.full(500, length), alphabet="q"):
        assert 2 * prompt.count(answer) > length


def test_brackets_are_of_as_many_kinds_as_asked():
    letters = {c for prompt, _ in sample("dyck_close", np.full(300, 12), kinds=3) for c in prompt[:-1]}
    assert letters == set("abcABC")
    depths = Counter(len(answer) for _, answer in sample("dyck_close", np.full(2_000, 12), kinds=1))
    assert set(depths) == {2, 4, 6, 8, 10, 12}


def test_hints_begin_anywhere_and_stay_below_the_last():
    starts = Counter(int(re.match(r"\[(\d+)", prompt)[1]) for prompt, _ in
                     sample("reverse_hints", np.full(3_000, 4), hints=8))  # fmt: skip
    assert set(starts) == {1, 2, 3, 4, 5}
    assert get_task("reverse_hints").nodes({"hints": 8}) == 8
    with pytest.raises(TaskError, match="9 is above 8"):
        sample("reverse_hints", np.full(2, 9), hints=8)
