"""The contract that every registered task fulfils, whoever wrote it."""

import doctest
import inspect
import re
import sys

import numpy as np
import pytest

from data_builders import TaskError, get_task, list_tasks, render, symbols
from data_builders.symbols import BOS, EOS, FIRST_NODE, FIRST_TAG, PAD

EXAMPLES = 40
EXTRA_LENGTHS = (0, 1, 2, 5, 12)

every_task = pytest.mark.parametrize("name", list_tasks())
every_length = pytest.mark.parametrize("extra", EXTRA_LENGTHS)


def draw(name, length, n=EXAMPLES, seed=0, **options):
    return get_task(name).sample(np.random.default_rng(seed), length, n, **options)


def length_of(prompt):
    body = prompt.removesuffix("=")
    if "?" in body:
        return body.count(";")  # one list of neighbours a maze node
    if "[" in body:
        return body.count("[")  # one number a letter
    body = body.rpartition(":")[2]  # after what is asked
    if "*" in body:
        return len(body.split("*")[0])
    return max(len(operand) for operand in re.split("[-+]", body))  # a string is its only operand


def assert_same(one, other):
    assert np.array_equal(one.prompt, other.prompt)
    assert np.array_equal(one.target, other.target)
    assert np.array_equal(one.loss_mask, other.loss_mask)
    assert one.scores_eos == other.scores_eos


def test_the_tasks_of_each_family_are_registered():
    families = ("arithmetic", "strings", "letters", "counting")
    assert {family: set(list_tasks(family)) for family in families} == {
        "arithmetic": {
            "reverse_add", "no_carry", "carry_only", "reverse_subtract", "cot_multiply", "copy_first_op",
            "binary_add",
        },
        "strings": {
            "string_copy", "capitalize", "reverse", "capitalize_reverse", "mqar", "repeat_copy",
            "first_letter", "last_letter", "selective_copy", "reverse_hints",
        },
        "letters": {"unique_copy", "sort", "next_larger", "induction", "anti_induction"},
        "counting": {"parity", "parity_scratchpad", "modular_sum", "majority", "count_char", "dyck_close"},
    }  # fmt: skip


@every_task
def test_a_prediction_has_its_source(name):
    theory = get_task(name).theory
    assert theory.predicted in ("yes", "no", "open")
    assert theory.predicted == "open" or "arXiv " in theory.source


@every_task
@every_length
def test_arrays_have_their_types_and_shapes(name, extra):
    drawn = draw(name, get_task(name).min_length + extra)
    assert drawn.prompt.dtype == drawn.target.dtype == np.int16
    assert drawn.loss_mask.dtype == np.bool_
    assert drawn.prompt.ndim == drawn.target.ndim == 2
    assert drawn.target.shape == drawn.loss_mask.shape
    assert len(drawn) == len(drawn.prompt) == len(drawn.target) == EXAMPLES


@every_task
@every_length
def test_padding_is_on_the_right_only(name, extra):
    length = get_task(name).min_length + extra
    for drawn in (draw(name, length), draw(name, np.arange(length, length + EXAMPLES) % 7 + length)):
        for codes in (drawn.prompt, drawn.target):
            text = codes != PAD
            assert (text[:, :-1] >= text[:, 1:]).all()
            assert text[:, 0].all()


@every_task
@every_length
def test_codes_are_characters_and_nodes_only(name, extra):
    drawn = draw(name, get_task(name).min_length + extra)
    for codes in (drawn.prompt, drawn.target):
        assert not np.isin(codes, (BOS, EOS)).any()
        assert not ((codes >= FIRST_TAG) & (codes <= FIRST_NODE)).any()


@every_task
@every_length
def test_text_parses_back_to_the_codes(name, extra):
    drawn = draw(name, get_task(name).min_length + extra)
    assert drawn.text() == list(zip(render(drawn.prompt), render(drawn.target), strict=True))
    for codes in (drawn.prompt, drawn.target):
        for row, text in zip(codes, render(codes), strict=True):
            assert np.array_equal(symbols.parse(text), row[row != PAD])


@every_task
@every_length
def test_prompts_end_with_an_equals_sign_and_contain_one(name, extra):
    for prompt, target in draw(name, get_task(name).min_length + extra).text():
        assert prompt.endswith("=")
        assert prompt.count("=") == 1
        assert target


@every_task
@every_length
def test_loss_counts_text_only_and_some_of_every_target(name, extra):
    drawn = draw(name, get_task(name).min_length + extra)
    assert not (drawn.loss_mask & (drawn.target == PAD)).any()
    assert drawn.loss_mask.any(axis=1).all()


@every_task
@every_length
def test_width_is_a_bound_that_the_seed_does_not_change(name, extra):
    length = get_task(name).min_length + extra
    shapes = {
        (drawn.prompt.shape[1], drawn.target.shape[1])
        for seed in range(6)
        for drawn in (draw(name, length, 1, seed), draw(name, length, 3, seed), draw(name, length, 50, seed))
    }
    assert len(shapes) == 1


@every_task
def test_width_grows_with_length(name):
    smallest = get_task(name).min_length
    drawn = [draw(name, smallest + extra, 5) for extra in range(15)]
    prompts, targets = ([d.prompt.shape[1] for d in drawn], [d.target.shape[1] for d in drawn])
    assert prompts == sorted(prompts)
    assert targets == sorted(targets)
    assert prompts[-1] > prompts[0]
    assert targets[-1] > targets[0] or targets[0] == 1  # an answer of one symbol, whatever the length


@every_task
def test_width_for_several_lengths_is_that_of_the_longest(name):
    low = get_task(name).min_length
    rows = np.arange(low, low + 10)
    mixed, longest = draw(name, rows, 10), draw(name, low + 9, 10)
    assert mixed.prompt.shape == longest.prompt.shape
    assert mixed.target.shape == longest.target.shape


@every_task
@every_length
def test_all_examples_have_the_asked_length(name, extra):
    length = get_task(name).min_length + extra
    assert {length_of(prompt) for prompt, _ in draw(name, length).text()} == {length}


@every_task
def test_each_example_has_its_own_asked_length(name):
    low = get_task(name).min_length
    rows = np.random.default_rng(0).integers(low, low + 12, size=EXAMPLES)
    before = rows.copy()
    assert [length_of(prompt) for prompt, _ in draw(name, rows).text()] == rows.tolist()
    assert np.array_equal(rows, before)


@every_task
def test_an_array_of_equal_lengths_is_the_one_length(name):
    length = get_task(name).min_length + 4
    assert_same(draw(name, length), draw(name, np.full(EXAMPLES, length)))


@every_task
@every_length
def test_same_generator_same_arrays(name, extra):
    length = get_task(name).min_length + extra
    assert_same(draw(name, length, seed=3), draw(name, length, seed=3))


@every_task
def test_other_generator_other_arrays(name):
    length = get_task(name).min_length + 12
    assert draw(name, length, seed=3).text() != draw(name, length, seed=4).text()


@every_task
def test_the_generator_is_the_only_source_of_chance(name):
    length = get_task(name).min_length + 5
    np.random.seed(0)
    before = np.random.get_state()[1].copy()
    one = draw(name, length)
    assert np.array_equal(before, np.random.get_state()[1])
    np.random.seed(1)
    assert_same(one, draw(name, length))


@every_task
def test_no_examples(name):
    smallest = get_task(name).min_length
    for length in (smallest, smallest + 6, np.empty(0, dtype=np.int64)):
        drawn = draw(name, length, 0)
        assert len(drawn) == len(drawn.target) == len(drawn.loss_mask) == 0
        assert drawn.prompt.dtype == drawn.target.dtype == np.int16
        assert drawn.text() == []


@every_task
def test_one_below_the_smallest_length_is_refused(name):
    smallest = get_task(name).min_length
    assert smallest == get_task(name).smallest_length({})
    assert len(draw(name, smallest, 1)) == 1
    for length in (smallest - 1, np.array([smallest + 3, smallest - 1])):
        with pytest.raises(TaskError) as error:
            draw(name, length, 2)
        assert name in str(error.value)
        assert f"length {smallest - 1} " in str(error.value)


@every_task
def test_unknown_options_are_refused_and_named(name):
    with pytest.raises(TaskError) as error:
        draw(name, get_task(name).min_length, no_such_option=1)
    assert name in str(error.value)
    assert "no_such_option" in str(error.value)
    with pytest.raises(TaskError, match="no_such_option"):
        get_task(name).smallest_length({"no_such_option": 1})


@every_task
def test_values_that_no_option_admits_are_refused_and_named(name):
    task = get_task(name)
    assert task.options
    for option in task.options:
        for bad in (-1, 2.5, "!", [], object()):
            with pytest.raises(TaskError) as error:
                draw(name, task.min_length, **{option: bad})
            assert name in str(error.value)
            assert option in str(error.value)


@every_task
def test_defaults_are_admitted_and_change_nothing(name):
    task = get_task(name)
    defaults = {key: option.default for key, option in task.options.items()}
    assert task.option_faults(defaults) == []
    assert task.resolve({}) == task.resolve(defaults) == defaults
    assert_same(draw(name, task.min_length + 3), draw(name, task.min_length + 3, **defaults))


@every_task
def test_options_and_lengths_are_explained(name):
    task = get_task(name)
    assert task.length_unit.strip()
    assert all(option.doc.strip() for option in task.options.values())


@every_task
def test_the_docstring_has_a_summary_and_an_example_that_holds(name):
    rule = get_task(name).rule
    summary = get_task(name).summary
    assert summary.strip()
    assert inspect.getdoc(rule).startswith(summary)
    assert ">>>" not in summary
    found = doctest.DocTestFinder(recurse=False).find(rule, name, globs=vars(sys.modules[rule.__module__]))
    examples = [test for test in found if test.examples]
    assert examples
    runner = doctest.DocTestRunner(verbose=False, optionflags=doctest.NORMALIZE_WHITESPACE)
    assert all(runner.run(test).failed == 0 for test in examples)


@every_task
def test_every_task_has_a_tag_of_its_own(name):
    code = symbols.tag_code(name)
    assert FIRST_TAG <= code < FIRST_NODE
    assert symbols.text_of(code) == f"<{name}>"
    assert [other for other in list_tasks() if symbols.tag_code(other) == code] == [name]
