"""The registry: names, options, collisions and what its messages say."""

import json

import numpy as np
import pytest

from data_builders import Sample, TaskError, get_task, list_tasks, register_task, render, symbols
from data_builders.registry import Family, Option, one_of, unknown, whole_number
from data_builders.tasks import arithmetic
from hf_lgt import ConfigError, load_config
from tests.conftest import ROOT


def draw_zeros(rng, lengths, *, letter, times):
    return [letter * times * length for length in lengths]


FAMILY = Family(
    "testing",
    "letters",
    draw_zeros,
    {
        "letter": Option("a", "what to repeat", one_of("a", "b")),
        "times": Option(1, "how often", whole_number(1, 3)),
    },
    min_length=lambda options: options["times"],
)


def echo_task(name="echo_of_a_test", module=__name__, repeats=1):
    def rule(texts):
        """The text itself."""
        rows = [symbols.parse(text) for text in texts]
        width = max(map(len, rows), default=1)
        codes = np.array([np.pad(row, (0, width - len(row))) for row in rows], dtype=np.int16)
        return Sample(codes, np.tile(codes, repeats))

    rule.__name__ = rule.__qualname__ = name
    rule.__module__ = module
    return rule


# Names


@pytest.mark.parametrize(
    ("misspelt", "meant"),
    [
        ("revers_add", "reverse_add"),
        ("reverse_substract", "reverse_subtract"),
        ("carryonly", "carry_only"),
        ("string_cpy", "string_copy"),
        ("mqra", "mqar"),
        ("capitalise", "capitalize"),
        ("Reverse_Add", "reverse_add"),
    ],
)
def test_a_misspelt_task_brings_the_closest_name(misspelt, meant):
    with pytest.raises(TaskError) as error:
        get_task(misspelt)
    assert repr(misspelt) in str(error.value)
    assert f"did you mean {meant!r}?" in str(error.value)
    assert all(name in str(error.value) for name in list_tasks())


@pytest.mark.parametrize("name", ["zzzzzz", "", "42"])
def test_a_name_like_no_other_brings_the_known_ones_alone(name):
    with pytest.raises(TaskError) as error:
        get_task(name)
    assert "did you mean" not in str(error.value)
    assert "reverse_add" in str(error.value)


@pytest.mark.parametrize(
    ("task", "misspelt", "meant"),
    [("reverse_add", "bse", "base"), ("mqar", "query", "queries"), ("reverse", "alphabt", "alphabet")],
)
def test_a_misspelt_option_brings_the_closest_name(task, misspelt, meant):
    with pytest.raises(TaskError) as error:
        get_task(task).resolve({misspelt: 3})
    for piece in (task, repr(misspelt), f"did you mean {meant!r}?"):
        assert piece in str(error.value)


def test_nothing_known_is_said_so():
    assert "known: none" in unknown("option", "x", [])


def test_errors_about_tasks_are_value_errors():
    assert issubclass(TaskError, ValueError)


def test_get_task_gives_every_listed_task():
    assert len(set(list_tasks())) == len(list_tasks())
    for name in list_tasks():
        assert get_task(name).name == name
    assert get_task("reverse_add").rule is arithmetic.reverse_add
    assert [get_task(n).family for n in ("reverse_add", "cot_multiply", "mqar")] == [
        "arithmetic", "arithmetic", "strings",
    ]  # fmt: skip


def test_families_share_out_the_tasks():
    families = {get_task(name).family for name in list_tasks()}
    assert {"arithmetic", "strings"} <= families
    assert sorted(name for family in families for name in list_tasks(family)) == sorted(list_tasks())
    assert list_tasks("no_such_family") == []


# Registering


def test_a_decorated_function_is_a_task(own_registry):
    rule = echo_task()
    before = list_tasks()
    assert register_task(FAMILY)(rule) is rule
    assert list_tasks() == [*before, "echo_of_a_test"]
    assert list_tasks("testing") == ["echo_of_a_test"]
    task = get_task("echo_of_a_test")
    assert (task.family, task.length_unit, task.summary) == ("testing", "letters", "The text itself.")
    assert dict(task.options) == dict(FAMILY.options)
    assert symbols.text_of(symbols.tag_code("echo_of_a_test")) == "<echo_of_a_test>"
    drawn = task.sample(np.random.default_rng(0), np.array([2, 3]), 2, letter="b", times=2)
    assert render(drawn.prompt) == ["bbbb", "bbbbbb"]
    assert render(task(["ab", "b"]).target) == ["ab", "b"]


def test_what_a_test_registers_is_gone_after_it():
    assert "echo_of_a_test" not in list_tasks()
    assert "<echo_of_a_test>" not in symbols.base_symbols()


def test_a_taken_name_is_refused_and_the_first_task_stays(own_registry):
    first = echo_task()
    register_task(FAMILY)(first)
    with pytest.raises(ValueError, match=f"'echo_of_a_test'.*{__name__}"):
        register_task(FAMILY)(echo_task(module="somewhere.else"))
    assert get_task("echo_of_a_test").rule is first


def test_a_built_in_name_is_refused(own_registry):
    with pytest.raises(ValueError, match=r"'reverse_add'.*data_builders\.tasks\.arithmetic"):
        register_task(FAMILY)(echo_task("reverse_add"))
    assert get_task("reverse_add").rule is arithmetic.reverse_add


def test_a_reloaded_function_replaces_itself_and_keeps_its_tag(own_registry):
    register_task(FAMILY)(echo_task())
    code, names, again = symbols.tag_code("echo_of_a_test"), list_tasks(), echo_task()
    register_task(FAMILY)(again)
    assert list_tasks() == names
    assert get_task("echo_of_a_test").rule is again
    assert symbols.tag_code("echo_of_a_test") == code


def test_a_config_is_checked_by_the_task_that_has_the_name_now(own_registry):
    def config():
        mixture = "[{task: echo_of_a_test, role: target, lengths: [1, 4]}]"
        changes = [f"mixture={mixture}", "eval.lengths=[1, 4]", "model.max_positions=16"]
        return load_config(ROOT / "recipes/demo/transfer.yaml", changes)

    register_task(FAMILY)(echo_task())
    assert config().mixture[0].task == "echo_of_a_test"
    register_task(FAMILY)(echo_task(repeats=4))
    with pytest.raises(ConfigError, match="length 4 of echo_of_a_test takes at least 23 tokens"):
        config()


# Options


def test_resolve_fills_in_the_defaults(own_registry):
    register_task(FAMILY)(echo_task())
    task = get_task("echo_of_a_test")
    assert task.resolve({}) == {"letter": "a", "times": 1}
    assert task.resolve({"times": 3}) == {"letter": "a", "times": 3}


def test_all_faults_come_in_one_message(own_registry):
    register_task(FAMILY)(echo_task())
    task = get_task("echo_of_a_test")
    wrong = {"letter": "c", "tims": 2, "times": 4}
    assert len(task.option_faults(wrong)) == 3
    with pytest.raises(TaskError) as error:
        task.resolve(wrong)
    for piece in ("echo_of_a_test", "'letter'", "'c'", "'a', 'b'", "'tims'", "'times'", "1 to 3"):
        assert piece in str(error.value)
    assert task.option_faults({"letter": "b", "times": 3}) == []


def test_the_smallest_length_follows_the_options(own_registry):
    register_task(FAMILY)(echo_task())
    task = get_task("echo_of_a_test")
    assert (task.min_length, task.smallest_length({"times": 3})) == (1, 3)
    with pytest.raises(TaskError, match=r"echo_of_a_test.*length 2 .*3"):
        task.sample(np.random.default_rng(0), np.array([3, 2]), 2, times=3)


def test_families_without_a_smallest_length_start_at_one(own_registry):
    register_task(Family("plain", "letters", lambda rng, lengths: ["a" * n for n in lengths], {}))(
        echo_task()
    )
    assert get_task("echo_of_a_test").min_length == 1


def test_a_key_is_the_same_for_the_same_resolved_options():
    add = get_task("reverse_add")
    assert add.key({}) == add.key({"base": 10}) == add.key({"operands": "independent", "base": 10})
    assert add.key({"base": 3, "operands": "equal"}) == add.key({"operands": "equal", "base": 3})
    keys = [add.key({}), add.key({"base": 9}), add.key({"operands": "equal"}), get_task("no_carry").key({})]
    assert len(set(keys)) == 4
    assert json.loads(add.key({}).removeprefix("reverse_add ")) == {"base": 10, "operands": "independent"}


@pytest.mark.parametrize(
    ("check", "fine", "wrong"),
    [
        (whole_number(2, 10), [2, 3, 10], [1, 11, 0, -2, 2.0, "3", None, True, [3]]),
        (whole_number(1), [1, 2, 10**9], [0, -1, 1.0, "1", None, True]),
        (one_of("a", 1), ["a", 1], ["b", "", 1.0, True, None, 2, ["a"]]),
    ],
)
def test_checks_admit_what_they_say(check, fine, wrong):
    assert [check(value) for value in fine] == [None] * len(fine)
    assert all(check(value) for value in wrong)
