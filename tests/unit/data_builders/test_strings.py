"""String tasks against plain Python strings."""

import re
import string

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats

from data_builders import TaskError, get_task
from data_builders.tasks.strings import (
    capitalize,
    capitalize_reverse,
    mqar,
    recall,
    reverse,
    string_copy,
    strings,
)

EXPECTED = {
    "string_copy": lambda text: text,
    "capitalize": str.swapcase,
    "reverse": lambda text: text[::-1],
    "capitalize_reverse": lambda text: text[::-1].swapcase(),
}
STRING_TASKS = list(EXPECTED)
EXAMPLES = 8

property_test = settings(max_examples=80, deadline=None, derandomize=True, database=None)
seeds = st.integers(0, 2**32 - 1)
lengths = st.integers(1, 40)
alphabets = st.sets(st.sampled_from(string.ascii_lowercase), min_size=1).map("".join)
large_alphabets = st.sets(st.sampled_from(string.ascii_lowercase), min_size=15).map("".join)
wanted_queries = st.none() | st.integers(1, 30)


def sample(task, seed, length, n=EXAMPLES, **options):
    return get_task(task).sample(np.random.default_rng(seed), length, n, **options)


def string_of(prompt):
    assert prompt.endswith("=")
    return prompt[:-1]


def occurrences(text, piece):
    return [i for i in range(len(text) - len(piece) + 1) if text[i : i + len(piece)] == piece]


def askable(text, query_width):
    """Substrings that occur once and have a character after them."""
    pieces = [text[i : i + query_width] for i in range(len(text) - query_width)]
    return [piece for piece in pieces if len(occurrences(text, piece)) == 1]


def check_recall(text, target, mask, query_width, queries):
    step = query_width + 1
    assert len(target) % step == 0
    asked = [target[i : i + query_width] for i in range(0, len(target), step)]
    assert len(asked) == min(queries or max(1, len(text) // 2), len(askable(text, query_width)))
    assert len(set(asked)) == len(asked) >= 1
    for piece, answer in zip(asked, target[query_width::step], strict=True):
        (place,) = occurrences(text, piece)
        assert text[place + query_width] == answer
    assert list(mask[: len(target)]) == ([False] * query_width + [True]) * len(asked)
    assert not any(mask[len(target) :])


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (string_copy(strings("aBcX")), ("aBcX=", "aBcX")),
        (capitalize(strings("aBcX")), ("aBcX=", "AbCx")),
        (reverse(strings("aBcX")), ("aBcX=", "XcBa")),
        (capitalize_reverse(strings("aBcX")), ("aBcX=", "xCbA")),
        (mqar(recall("abCdeFgh", 3, 0)), ("abCdeFgh=", "deFabC")),
    ],
)
def test_worked_examples(made, text):
    assert made.text() == [text]


def test_only_answers_count_in_recall():
    made = mqar(recall("abCdeFgh", 3, 0))
    assert made.loss_mask.tolist() == [[False, False, True, False, False, True]]
    assert not made.scores_eos


@pytest.mark.parametrize("task", STRING_TASKS)
def test_strings_of_different_lengths_share_one_array(task):
    texts = ["aBcX", "z", "QrQrQ", "ZZ"]
    made = get_task(task)(strings(*texts)).text()
    assert made == [(f"{text}=", EXPECTED[task](text)) for text in texts]


def test_every_letter_changes_case():
    letters = string.ascii_letters
    assert capitalize(strings(letters)).text() == [(f"{letters}=", letters.swapcase())]


@pytest.mark.parametrize("task", STRING_TASKS)
@property_test
@given(seed=seeds, length=lengths, alphabet=alphabets)
def test_string_tasks_follow_plain_strings(task, seed, length, alphabet):
    drawn = sample(task, seed, length, alphabet=alphabet)
    assert len(drawn) == EXAMPLES
    assert drawn.scores_eos
    for (prompt, target), mask in zip(drawn.text(), drawn.loss_mask, strict=True):
        text = string_of(prompt)
        assert len(text) == length
        assert set(text) <= set(alphabet + alphabet.upper())
        assert target == EXPECTED[task](text)
        assert mask.sum() == length


@pytest.mark.parametrize("task", STRING_TASKS)
@property_test
@given(seed=seeds, rows=st.lists(lengths, min_size=1, max_size=8), alphabet=alphabets)
def test_string_tasks_with_a_length_for_each_row(task, seed, rows, alphabet):
    drawn = sample(task, seed, np.array(rows), len(rows), alphabet=alphabet)
    for length, (prompt, target), mask in zip(rows, drawn.text(), drawn.loss_mask, strict=True):
        text = string_of(prompt)
        assert len(text) == length
        assert set(text) <= set(alphabet + alphabet.upper())
        assert target == EXPECTED[task](text)
        assert mask.sum() == length


@property_test
@given(
    seed=seeds,
    length=lengths,
    alphabet=large_alphabets,
    query_width=st.integers(1, 5),
    queries=wanted_queries,
)
def test_recall_follows_plain_strings(seed, length, alphabet, query_width, queries):
    assume(length > query_width)
    drawn = sample("mqar", seed, length, alphabet=alphabet, query_width=query_width, queries=queries)
    assert len(drawn) == EXAMPLES
    assert not drawn.scores_eos
    for (prompt, target), mask in zip(drawn.text(), drawn.loss_mask.tolist(), strict=True):
        text = string_of(prompt)
        assert len(text) == length
        assert set(text) <= set(alphabet + alphabet.upper())
        check_recall(text, target, mask, query_width, queries)


@property_test
@given(
    seed=seeds,
    rows=st.lists(st.integers(6, 40), min_size=1, max_size=8),
    query_width=st.integers(1, 5),
    queries=wanted_queries,
)
def test_recall_with_a_length_for_each_row(seed, rows, query_width, queries):
    drawn = sample("mqar", seed, np.array(rows), len(rows), query_width=query_width, queries=queries)
    texts = zip(rows, drawn.text(), drawn.loss_mask.tolist(), strict=True)
    for length, (prompt, target), mask in texts:
        assert len(string_of(prompt)) == length
        check_recall(string_of(prompt), target, mask, query_width, queries)


@property_test
@given(seed=seeds, rows=st.lists(st.integers(3, 9), min_size=1, max_size=12), queries=wanted_queries)
def test_recall_in_strings_full_of_repeats(seed, rows, queries):
    drawn = sample("mqar", seed, np.array(rows), len(rows), alphabet="a", queries=queries)
    texts = zip(rows, drawn.text(), drawn.loss_mask.tolist(), strict=True)
    for length, (prompt, target), mask in texts:
        assert len(string_of(prompt)) == length
        check_recall(string_of(prompt), target, mask, 2, queries)


def test_recall_asks_for_fewer_than_wanted_where_the_string_has_no_more():
    drawn = sample("mqar", 0, 8, 300, alphabet="a").text()
    assert {len(target) // 3 for _, target in drawn} >= {1, 2, 3}
    assert max(len(target) // 3 for _, target in drawn) <= 4


def test_recall_asks_for_half_the_length_by_default():
    for length, wanted in ((3, 1), (4, 2), (5, 2), (21, 10), (40, 20)):
        targets = [target for _, target in sample("mqar", 0, length, 200).text()]
        assert max(len(target) // 3 for target in targets) == wanted
    for length, wanted in ((2, 1), (3, 1), (4, 2), (15, 7)):
        targets = [target for _, target in sample("mqar", 0, length, 200, query_width=1).text()]
        assert max(len(target) // 2 for target in targets) == wanted


def test_recall_asks_for_as_many_as_the_option_says():
    assert {len(t) for _, t in sample("mqar", 0, 20, 50, queries=1).text()} == {3}
    assert max(len(t) for _, t in sample("mqar", 0, 20, 50, queries=15).text()) == 45


def test_recall_is_as_wide_as_its_options_allow_however_few_queries_a_string_has():
    for options, wanted in (({}, 4), ({"queries": 1}, 1), ({"queries": 5}, 5), ({"queries": 99}, 6)):
        drawn = [sample("mqar", seed, 8, 1, alphabet="a", **options) for seed in range(20)]
        assert (
            {one.target.shape for one in drawn} == {one.loss_mask.shape for one in drawn} == {(1, 3 * wanted)}
        )


def test_recall_asks_about_every_place_in_any_order():
    first_places, orders = set(), set()
    for prompt, target in sample("mqar", 0, 7, 400, queries=2).text():
        places = [prompt.index(target[i : i + 2]) for i in range(0, len(target), 3)]
        first_places.add(places[0])
        orders.add(places == sorted(places))
    assert first_places == set(range(5))
    assert orders == {True, False}


@pytest.mark.parametrize("query_width", [1, 2, 4])
def test_recall_needs_a_character_after_the_query(query_width):
    assert get_task("mqar").smallest_length({"query_width": query_width}) == query_width + 1
    (prompt, target) = sample("mqar", 0, query_width + 1, 1, query_width=query_width).text()[0]
    assert target == string_of(prompt)
    with pytest.raises(TaskError, match=r"mqar.*length"):
        sample("mqar", 0, query_width, query_width=query_width)


@pytest.mark.parametrize(
    ("alphabet", "length", "query_width"), [("a", 60, 2), ("a", 30, 1), ("xy", 300, 1), ("ab", 300, 2)]
)
def test_recall_over_too_few_letters_is_refused(alphabet, length, query_width):
    with pytest.raises(TaskError, match="mqar") as error:
        sample("mqar", 0, length, alphabet=alphabet, query_width=query_width)
    assert "alphabet" in str(error.value)


def test_recall_over_too_few_letters_is_refused_for_a_single_long_row():
    with pytest.raises(TaskError, match=r"mqar.*60"):
        sample("mqar", 0, np.array([3, 60, 4]), 3, alphabet="a")


@pytest.mark.parametrize("query_width", [1, 2, 3, 5])
def test_recall_of_no_examples(query_width):
    assert len(sample("mqar", 0, 10, 0, query_width=query_width)) == 0


@pytest.mark.parametrize("task", [*STRING_TASKS, "mqar"])
def test_letters_are_uniform_over_both_cases(task):
    text = "".join(string_of(prompt) for prompt, _ in sample(task, 1, 30, 2000).text())
    counts = [text.count(letter) for letter in string.ascii_letters]
    assert sum(counts) == len(text)
    assert stats.chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize("task", STRING_TASKS)
def test_letters_are_uniform_over_a_small_alphabet_at_every_place(task):
    rows = np.tile([1, 3], 3000)
    drawn = [string_of(prompt) for prompt, _ in sample(task, 2, rows, len(rows), alphabet="qxz").text()]
    for length in (1, 3):
        for place in range(length):
            letters = [text[place] for text in drawn if len(text) == length]
            assert stats.chisquare([letters.count(c) for c in "qxzQXZ"]).pvalue > 1e-3


def test_neighbouring_letters_are_independent():
    pairs = [string_of(prompt) for prompt, _ in sample("string_copy", 3, 2, 8000, alphabet="ab").text()]
    counts = [pairs.count(x + y) for x in "abAB" for y in "abAB"]
    assert stats.chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize("value", ["", "aa", "aB", "a b", "ä", "a1", ["a", "b"], None, 3])
@pytest.mark.parametrize("task", ["reverse", "mqar"])
def test_alphabets_that_are_no_lower_case_letters_are_refused(task, value):
    with pytest.raises(TaskError, match=f"{task}.*'alphabet'.*{re.escape(repr(value))}"):
        sample(task, 0, 5, alphabet=value)


@pytest.mark.parametrize(
    ("option", "value"),
    [("query_width", 0), ("query_width", 1.5), ("query_width", True), ("queries", 0), ("queries", "all")],
)
def test_recall_options_outside_their_values_are_refused(option, value):
    with pytest.raises(TaskError, match=f"mqar.*'{option}'.*{re.escape(repr(value))}"):
        sample("mqar", 0, 9, **{option: value})


@pytest.mark.parametrize("task", STRING_TASKS)
def test_strings_have_at_least_one_character(task):
    assert get_task(task).min_length == 1
    for length in (0, np.array([1, 0, 2])):
        with pytest.raises(TaskError, match=f"{task}.*length"):
            sample(task, 0, length, 3)
