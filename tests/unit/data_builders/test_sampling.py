"""Random streams, training batches, test sets and what is held out from training."""

import math
import signal
from collections import Counter
from itertools import permutations, product

import numpy as np
import pytest
from scipy import stats

from data_builders import Component, Mixture, TaskError, get_task, render, symbols
from data_builders.sampling import HeldOut, draw_batch, draw_test_set, prompt_hashes, stream

WIDE = Mixture(
    [
        Component("reverse_add", "target", (1, 12)),
        Component("no_carry", "auxiliary", (3, 20), weight=2.0),
        Component("mqar", "auxiliary", (3, 9), weight=5.0),
    ]
)


@pytest.fixture(autouse=True)
def draws_end():
    """Drawing again until a prompt is free would never end if no prompt were."""

    def stop(*_):
        raise TimeoutError("the draws do not end")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(20)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def component(task="reverse_add", lengths=(1, 10), role="target", weight=1.0, **options):
    return Component(task, role, lengths, weight, options)


def length_of(prompt):
    return max(len(part) for part in prompt.removesuffix("=").replace("-", "+").split("+"))


def prompts_of(sample):
    return [prompt for prompt, _ in sample.text()]


def texts_of(draw):
    """Every example of a batch, at its place in the batch."""
    placed = [
        (row, text) for rows, sample in draw.groups for row, text in zip(rows, sample.text(), strict=True)
    ]
    return [text for _, text in sorted(placed)]


def sums(length, base):
    """Prompts of sums whose longer operand has this many digits."""
    numerals = ["".join(d) for n in range(1, length + 1) for d in product("0123456789"[:base], repeat=n)]
    numerals = [text for text in numerals if len(text) == 1 or text[-1] != "0"]
    return {f"{a}+{b}=" for a, b in product(numerals, repeat=2) if max(len(a), len(b)) == length}


def letters(length, alphabet):
    return {"".join(text) + "=" for text in product(alphabet + alphabet.upper(), repeat=length)}


def is_uniform(counts):
    return stats.chisquare(counts).pvalue > 1e-3


def words(*key, n=500):
    return stream(*key).integers(0, 2**64, size=n, dtype=np.uint64).tolist()


# Streams


def test_a_stream_is_a_pure_function_of_its_names():
    expected = words(3, "train", 7)
    words(3, "train", 8)
    stream(3, "train", 7).random(5)
    np.random.default_rng(0).random()
    assert words(3, "train", 7) == expected
    assert isinstance(stream(3, "train", 7).bit_generator, np.random.Philox)


def test_neighbouring_seeds_and_steps_share_nothing():
    keys = list(product(range(12), ["train", "test"], range(12)))
    drawn = Counter(word for key in keys for word in words(*key))
    assert len(drawn) == 500 * len(keys)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((0, "a"), (0, "b")),
        ((0, "a"), (0, "a", "a")),
        ((0, "a", "b"), (0, "ab")),
        ((0, "a", "b"), (0, "b", "a")),
        ((0, "a", 1), (0, "a", "1")),
        ((1, 23), (12, 3)),
        ((1, 2), (2, 1)),
        ((0,), (0, 0)),
        ((0, "a"), (-1, "a")),
        ((0, "a"), (2**64, "a")),
    ],
)
def test_different_names_give_different_streams(one, other):
    assert not set(words(*one)) & set(words(*other))


def test_integer_kinds_do_not_matter():
    assert words(np.int64(5), "train", 3) == words(5, "train", 3)


# Training batches


def test_a_batch_is_the_same_whenever_it_is_drawn():
    forward = [texts_of(draw_batch(WIDE, step, 40, seed=1)) for step in range(6)]
    backward = {step: texts_of(draw_batch(WIDE, step, 40, seed=1)) for step in (5, 2, 4, 0, 3, 1)}
    assert forward == [backward[step] for step in range(6)]


def test_a_batch_with_held_out_prompts_is_the_same_whenever_it_is_drawn():
    mixture = Mixture([component(lengths=(1, 2), base=2), component("reverse", (1, 2), alphabet="ab")])
    one, other = (HeldOut(mixture, [1, 2], 6, seed=0) for _ in range(2))
    forward = [texts_of(draw_batch(mixture, step, 40, 1, one)) for step in range(6)]
    backward = {step: texts_of(draw_batch(mixture, step, 40, 1, other)) for step in (5, 2, 4, 0, 3, 1)}
    assert forward == [backward[step] for step in range(6)]


def test_replaced_examples_leave_nothing_of_the_old_ones():
    recall = get_task("mqar")
    old, new = (recall.sample(np.random.default_rng(n), n, 3, queries=n // 3) for n in (12, 6))
    mixed = old.replace(np.array([2, 0]), new.take(np.array([0, 1])))
    assert mixed.text() == [new.text()[1], old.text()[1], new.text()[0]]
    assert mixed.loss_mask.sum(axis=1).tolist() == [2, 4, 2]
    assert not mixed.scores_eos
    assert old.take(np.array([True, False, True])).text() == [old.text()[0], old.text()[2]]


def test_the_held_out_prompts_alone_are_replaced():
    mixture = Mixture([component(lengths=(2, 3))])
    held_out = HeldOut(mixture, [2, 3], 500, seed=0)
    taken = {
        prompt
        for n in (2, 3)
        for prompt in prompts_of(draw_test_set(mixture.components[0], n, 500, 0).examples)
    }
    free, avoiding = (texts_of(draw_batch(mixture, 4, 500, 1, h)) for h in (None, held_out))
    replaced = [one[0] in taken for one in free]
    assert 0 < sum(replaced) < 250
    assert [one != other for one, other in zip(free, avoiding, strict=True)] == replaced


def test_batches_of_other_steps_and_seeds_have_other_examples():
    seen = Counter()
    mixture = Mixture([component(lengths=(20, 20)), component("reverse", (20, 20))])
    for seed, step in product(range(5), range(5)):
        seen.update(texts_of(draw_batch(mixture, step, 20, seed)))
    assert len(seen) == 25 * 20


def test_components_and_lengths_change_from_step_to_step():
    draws = [draw_batch(WIDE, step, 64, seed=0) for step in range(20)]
    assert len({tuple(d.component) for d in draws}) == len({tuple(d.length) for d in draws}) == 20


def test_nothing_ties_the_operands_of_two_tasks():
    mixture = Mixture([component(lengths=(8, 8)), component("no_carry", (8, 8), "auxiliary")])
    for step in range(10):
        (_, sums), (_, others) = draw_batch(mixture, step, 64, seed=0).groups
        digits = [{piece for p in prompts_of(s) for piece in p[:-1].split("+")} for s in (sums, others)]
        assert not {piece for piece in digits[0] & digits[1] if len(piece) > 4}


@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_every_place_of_a_batch_is_filled_once(batch_size):
    for step in range(20):
        draw = draw_batch(WIDE, step, batch_size, seed=2)
        assert len(draw.component) == len(draw.length) == batch_size
        assert len(draw.groups) == len(WIDE.components)
        assert sorted(np.concatenate([rows for rows, _ in draw.groups])) == list(range(batch_size))
        for index, (rows, sample) in enumerate(draw.groups):
            assert len(rows) == len(sample)
            assert (draw.component[rows] == index).all()


def test_examples_have_the_task_and_length_that_the_batch_says():
    for step in range(5):
        draw = draw_batch(WIDE, step, 100, seed=3)
        for part, (rows, sample) in zip(WIDE.components, draw.groups, strict=True):
            assert [length_of(prompt) for prompt in prompts_of(sample)] == draw.length[rows].tolist()
            assert all(prompt[:-1].isalpha() == (part.task == "mqar") for prompt in prompts_of(sample))
            assert all(part.lengths[0] <= n <= part.lengths[1] for n in draw.length[rows])


def test_options_reach_the_examples():
    mixture = Mixture([component(base=2, operands="equal"), component("reverse", (1, 10), alphabet="ab")])
    (_, sums), (_, strings) = draw_batch(mixture, 0, 200, seed=0).groups
    assert set("".join(prompts_of(sums))) == set("01+=")
    assert all(len(p) % 2 == 0 and p[len(p) // 2 - 1] == "+" for p in prompts_of(sums))
    assert set("".join(prompts_of(strings))) == set("abAB=")


def test_a_batch_may_miss_a_component_with_wide_queries():
    mixture = Mixture([component(), component("mqar", (6, 9), "auxiliary", 1e-6, query_width=5)])
    assert len(draw_batch(mixture, 0, 8, seed=0).groups[1][1]) == 0


def test_shares_follow_the_weights():
    drawn = np.concatenate([draw_batch(WIDE, step, 400, seed=4).component for step in range(20)])
    expected = len(drawn) * np.array([1, 2, 5]) / 8
    assert stats.chisquare(np.bincount(drawn, minlength=3), expected).pvalue > 1e-3


def test_shares_are_drawn_example_by_example():
    firsts = [draw_batch(WIDE, step, 8, seed=5).component for step in range(600)]
    places = np.array(firsts).T
    for place in places:
        counts = np.bincount(place, minlength=3)
        assert stats.chisquare(counts, 600 * np.array([1, 2, 5]) / 8).pvalue > 1e-3
    assert len({tuple(sorted(first)) for first in firsts}) > 10


def test_lengths_are_uniform_in_each_component():
    draws = [draw_batch(WIDE, step, 400, seed=6) for step in range(20)]
    for index, part in enumerate(WIDE.components):
        low, high = part.lengths
        drawn = np.concatenate([d.length[d.component == index] for d in draws])
        assert is_uniform(np.bincount(drawn - low, minlength=high - low + 1))


def test_lengths_stay_uniform_when_prompts_are_held_out():
    mixture = Mixture([component(lengths=(1, 3), base=2)])
    held_out = HeldOut(mixture, [1, 2, 3], 6, seed=0)
    drawn = [draw_batch(mixture, step, 200, 1, held_out) for step in range(30)]
    assert is_uniform(np.bincount(np.concatenate([d.length for d in drawn]))[1:])
    for draw in drawn:
        assert [length_of(prompt) for prompt, _ in texts_of(draw)] == draw.length.tolist()


# Training and test do not meet


def trained_and_held_out(mixture, lengths, examples, steps=60, seed=1, test_seed=9):
    """By component: the prompts seen with and without holding out, and those that are held out."""
    held_out = HeldOut(mixture, lengths, examples, test_seed)
    avoiding, free = ([set() for _ in mixture.components] for _ in range(2))
    for step in range(steps):
        for seen, held in ((avoiding, held_out), (free, None)):
            for prompts, (_, sample) in zip(
                seen, draw_batch(mixture, step, 48, seed, held).groups, strict=True
            ):
                prompts.update(prompts_of(sample))
    reserved = []
    for part in mixture.components:
        prompts = set()
        for length in lengths:
            if length >= part.definition.smallest_length(part.options):
                test = draw_test_set(part, length, examples, test_seed)
                prompts.update(prompts_of(test.examples)[: test.held_out])
        reserved.append(prompts)
    return avoiding, free, reserved


@pytest.mark.parametrize("examples", [3, 1000])
def test_no_training_example_has_a_held_out_prompt(examples):
    mixture = Mixture(
        [
            component(lengths=(1, 3), base=2),
            component("string_copy", (1, 2), "auxiliary", alphabet="ab"),
            component("mqar", (3, 4), "auxiliary", alphabet="a"),
            component("cot_multiply", (1, 2), "auxiliary", base=3, multiplier_digits=1),
        ]
    )
    avoiding, free, reserved = trained_and_held_out(mixture, [1, 2, 3, 4], examples)
    for trained, unguarded, held in zip(avoiding, free, reserved, strict=True):
        assert unguarded & held
        assert not trained & held
        assert trained


def test_a_task_stands_in_a_mixture_once():
    # else its test prompts for one component could be trained on by way of the other
    with pytest.raises(TaskError, match="'reverse_add' stands in the mixture 2 times"):
        Mixture([component(lengths=(1, 1)), component(lengths=(2, 2), role="auxiliary", operands="equal")])


def test_all_that_is_not_held_out_is_trained_on():
    mixture = Mixture([component(lengths=(1, 2), base=2), component("reverse", (1, 2), alphabet="a")])
    (trained_sums, trained_strings), _, (held_sums, held_strings) = trained_and_held_out(
        mixture, [1, 2], 1000
    )
    assert trained_sums | held_sums == sums(1, 2) | sums(2, 2)
    assert (len(trained_sums), len(held_sums)) == (8, 8)
    assert trained_strings | held_strings == letters(1, "a") | letters(2, "a")
    assert (len(trained_strings), len(held_strings)) == (3, 3)


def test_lengths_that_are_evaluated_but_not_trained_cost_nothing():
    mixture = Mixture([component(lengths=(1, 2))])
    plain = [texts_of(draw_batch(mixture, step, 50, 1)) for step in range(5)]
    held_out = HeldOut(mixture, [3, 9], 1000, seed=0)
    assert [texts_of(draw_batch(mixture, step, 50, 1, held_out)) for step in range(5)] == plain


def test_held_out_prompts_are_known_whatever_their_padding():
    mixture = Mixture([component(lengths=(1, 6))])
    held_out = HeldOut(mixture, [2, 6], 50, seed=0)
    for length in (2, 6):
        prompts = draw_test_set(mixture.components[0], length, 50, 0).examples.prompt
        for extra in (0, 1, 9):
            padded = np.pad(prompts, ((0, 0), (0, extra)))
            assert held_out.contains(mixture.components[0], padded).all()
    others = draw_test_set(mixture.components[0], 6, 50, 1).examples.prompt
    assert not held_out.contains(mixture.components[0], others).any()


def test_held_out_finds_the_component_of_a_task_by_its_resolved_options():
    mixture = Mixture([component(), component("reverse", (1, 4), alphabet="ab")])
    held_out = HeldOut(mixture, [], 10, seed=0)
    assert held_out.component(component(lengths=(5, 9), role="auxiliary", base=10)) == mixture.components[0]
    assert held_out.component(component(base=9)) is None
    assert held_out.component(component("reverse", (1, 4))) is None


# Test sets


@pytest.mark.parametrize("task", ["reverse_add", "reverse_subtract", "cot_multiply", "capitalize", "mqar"])
@pytest.mark.parametrize("length", [3, 4, 12])
def test_no_prompt_occurs_twice_in_a_test_set(task, length):
    test = draw_test_set(component(task, (3, 5)), length, 3000, seed=0)
    assert len(test.examples) == len(set(prompts_of(test.examples))) == 3000
    assert not test.exhausted
    assert test.held_out == 3000


def test_test_examples_have_the_asked_length_and_follow_the_task():
    test = draw_test_set(component(lengths=(1, 5)), 7, 200, seed=0)
    for prompt, target in test.examples.text():
        a, b = (int(operand[::-1]) for operand in prompt[:-1].split("+"))
        assert length_of(prompt) == 7
        assert target == str(a + b)[::-1].ljust(8, "0")


def test_recall_test_sets_keep_their_loss_masks():
    test = draw_test_set(component("mqar", (3, 5)), 6, 100, seed=0)
    assert not test.examples.scores_eos
    assert len(test.examples.loss_mask) == 100
    for mask, (_, target) in zip(test.examples.loss_mask, test.examples.text(), strict=True):
        assert np.flatnonzero(mask).tolist() == list(range(2, len(target), 3))


@pytest.mark.parametrize(
    "case", [("reverse_add", 1, {}), ("reverse_add", 5, {}), ("capitalize", 2, {"alphabet": "abc"})]
)
def test_a_smaller_test_set_begins_a_larger_one(case):
    task, length, options = case
    part = component(task, (1, 5), **options)
    largest = draw_test_set(part, length, 3000, seed=3).examples.text()
    for examples in (1, 7, 20, 512, 1500):
        smaller = draw_test_set(part, length, examples, seed=3).examples.text()
        assert smaller == largest[:examples]


def test_test_sets_depend_on_task_options_length_and_seed_alone():
    expected = draw_test_set(component(), 4, 100, seed=5).examples.text()
    draw_test_set(component(), 3, 100, seed=5)
    draw_batch(WIDE, 0, 10, seed=5)
    np.random.seed(1)
    same = component(lengths=(4, 90), role="auxiliary", weight=9.0, operands="independent", base=10)
    assert draw_test_set(same, 4, 100, seed=5).examples.text() == expected


@pytest.mark.parametrize(
    "other",
    [
        (component(), 12, 6),
        (component(), 11, 5),
        (component(base=9), 12, 5),
        (component(operands="equal"), 12, 5),
        (component("no_carry"), 12, 5),
    ],
)
def test_other_tasks_options_lengths_and_seeds_have_other_test_sets(other):
    part, length, seed = other
    one = set(prompts_of(draw_test_set(component(), 12, 500, 5).examples))
    assert not one & set(prompts_of(draw_test_set(part, length, 500, seed).examples))


def test_test_sets_of_two_lengths_share_no_letters():
    part = component("string_copy", (1, 9))
    runs = ["".join(t for _, t in draw_test_set(part, n, 60, 5).examples.text()) for n in (8, 12, 24)]
    pieces = [{run[i : i + 8] for i in range(len(run) - 7)} for run in runs]
    assert sum(map(len, pieces)) == len(set.union(*pieces))


def test_test_sets_are_no_training_data_of_the_same_seed():
    mixture = Mixture([component(lengths=(9, 9))])
    tested = set(prompts_of(draw_test_set(mixture.components[0], 9, 500, seed=0).examples))
    for step in range(20):
        assert not tested & {prompt for prompt, _ in texts_of(draw_batch(mixture, step, 500, seed=0))}


SMALL_SPACES = [
    (component(), 1, sums(1, 10)),
    (component(operands="equal"), 1, sums(1, 10)),
    (component(base=3), 1, sums(1, 3)),
    (component(base=2), 2, sums(2, 2)),
    (component(base=3), 2, sums(2, 3)),
    (component("string_copy", (1, 2), alphabet="abcd"), 1, letters(1, "abcd")),
    (component("capitalize_reverse", (1, 2), alphabet="a"), 1, letters(1, "a")),
    (component("reverse", (1, 2), alphabet="abcd"), 2, letters(2, "abcd")),
    (component("mqar", (3, 4), alphabet="a"), 3, letters(3, "a") - {"aaa=", "AAA="}),
    (
        component("mqar", (3, 4), alphabet="ab", query_width=1, queries=1),
        2,
        {x + y + "=" for x, y in permutations("abAB", 2)},
    ),
    (
        component("cot_multiply", (1, 2), base=3, multiplier_digits=1),
        1,
        {f"{a}*{b}=" for a, b in product("012", repeat=2)},
    ),
]


@pytest.mark.parametrize(("part", "length", "space"), SMALL_SPACES)
def test_a_small_space_gives_all_its_prompts_and_holds_out_half(part, length, space):
    for examples in (len(space) + 1, 2 * len(space), 10 * len(space)):
        test = draw_test_set(part, length, examples, seed=0)
        assert sorted(prompts_of(test.examples)) == sorted(space)
        assert test.exhausted
        assert test.held_out == len(space) // 2


@pytest.mark.parametrize(("part", "length", "space"), SMALL_SPACES)
def test_a_test_set_of_more_than_half_a_space_holds_out_half(part, length, space):
    for examples in range(1, len(space) + 1):
        test = draw_test_set(part, length, examples, seed=1)
        prompts = prompts_of(test.examples)
        assert len(prompts) == len(set(prompts)) == examples
        assert set(prompts) <= space
        assert not test.exhausted
        assert test.held_out == min(examples, len(space) // 2)


def test_sums_of_one_digit_have_a_hundred_prompts_and_four_letters_eight():
    add, copy = component(), component("string_copy", (1, 2), alphabet="abcd")
    found = [draw_test_set(part, 1, 1000, 0) for part in (add, copy)]
    assert [(len(t.examples), t.exhausted, t.held_out) for t in found] == [(100, True, 50), (8, True, 4)]


def test_a_middling_space_is_exhausted_where_prompts_are_not_equally_likely():
    test = draw_test_set(component(), 2, 20000, seed=0)
    assert set(prompts_of(test.examples)) == sums(2, 10)
    assert len(test.examples) == 9900
    assert test.exhausted
    assert test.held_out == 4950


def test_a_test_set_below_the_smallest_length_is_refused():
    with pytest.raises(TaskError, match=r"mqar.*length 2 "):
        draw_test_set(component("mqar", (3, 5)), 2, 10, seed=0)


# Hashes


@pytest.mark.parametrize("task", ["reverse_add", "reverse", "cot_multiply"])
def test_padding_does_not_change_a_hash(task):
    rows = np.random.default_rng(0).integers(1, 12, size=300)
    prompts = get_task(task).sample(np.random.default_rng(1), rows, 300).prompt
    expected = prompt_hashes(prompts)
    assert expected.shape == (300,)
    assert expected.dtype == np.uint64
    for extra in (1, 5, 300):
        assert np.array_equal(prompt_hashes(np.pad(prompts, ((0, 0), (0, extra)))), expected)
    alone = [prompt_hashes(symbols.parse(text)[None])[0] for text in render(prompts)]
    assert np.array_equal(alone, expected)


@pytest.mark.parametrize("task", ["reverse_add", "no_carry", "reverse", "cot_multiply"])
def test_different_prompts_have_different_hashes(task):
    rows = np.random.default_rng(0).integers(1, 10, size=20000)
    prompts = get_task(task).sample(np.random.default_rng(1), rows, len(rows)).prompt
    hashes = prompt_hashes(prompts).tolist()
    assert len(set(hashes)) == len(set(render(prompts)))
    assert len(dict(zip(hashes, render(prompts), strict=True))) == len(set(render(prompts)))


def test_hashes_tell_the_order_of_symbols():
    texts = ["12+3=", "21+3=", "3+12=", "3+21=", "1+23=", "1+32=", "123+=", "13+2="]
    assert len(set(prompt_hashes(np.stack([symbols.parse(text) for text in texts])).tolist())) == len(texts)


def test_lengths_grow_in_a_curriculum_and_are_the_usual_ones_after_it():
    growing, (low, high) = 20, WIDE.components[0].lengths
    longest = []
    for step in range(30):
        drawn = draw_batch(WIDE, step, 400, 3, growing=growing)
        own = drawn.length[drawn.component == 0]
        longest.append(int(own.max()))
        assert own.min() >= low
        assert own.max() <= low + math.ceil(min((step + 1) / growing, 1) * (high - low))
    assert longest[0] < longest[growing // 2] < longest[growing - 1] <= high
    for step in (growing - 1, growing, 29):  # to the bit
        grown = draw_batch(WIDE, step, 40, 3, growing=growing)
        assert texts_of(grown) == texts_of(draw_batch(WIDE, step, 40, 3))
