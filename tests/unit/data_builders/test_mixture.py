"""Components and mixtures: every wrong field is named, and named at once."""

import numpy as np
import pytest

from data_builders import Component, Mixture, TaskError, get_task
from data_builders.mixture import component_faults


def fields_of(*, task="mqar", role="target", lengths=(3, 9), weight=1.0, options=None):
    return [field for field, _ in component_faults(task, role, lengths, weight, options or {})]


def test_a_component_keeps_what_it_is_given():
    part = Component("mqar", "auxiliary", [4, 9], 2.5, {"queries": 2})
    assert (part.task, part.role, part.lengths, part.weight) == ("mqar", "auxiliary", (4, 9), 2.5)
    assert part.options == {"queries": 2}
    assert part.definition is get_task("mqar")


def test_defaults_are_weight_one_and_no_options():
    part = Component("reverse", "target", (1, 1))
    assert (part.weight, dict(part.options)) == (1.0, {})
    assert part == Component("reverse", "target", (1, 1))


def test_components_with_the_same_task_and_resolved_options_have_one_key():
    plain = Component("reverse_add", "target", (1, 5))
    explicit = Component("reverse_add", "auxiliary", (7, 9), 3.0, {"operands": "independent", "base": 10})
    assert plain.key == explicit.key == get_task("reverse_add").key({})
    others = [
        Component("reverse_add", "target", (1, 5), options={"base": 9}),
        Component("no_carry", "target", (1, 5)),
    ]
    assert len({part.key for part in (plain, *others)}) == 3


@pytest.mark.parametrize(
    ("wrong", "fields"),
    [
        ({}, []),
        ({"role": "helper"}, ["role"]),
        ({"role": "Target"}, ["role"]),
        ({"weight": 0}, ["weight"]),
        ({"weight": -1.0}, ["weight"]),
        ({"weight": float("nan")}, ["weight"]),
        ({"weight": float("inf")}, ["weight"]),
        ({"lengths": (9, 3)}, ["lengths"]),
        ({"lengths": (5,)}, ["lengths"]),
        ({"lengths": ()}, ["lengths"]),
        ({"lengths": (3, 4, 5)}, ["lengths"]),
        ({"lengths": (2, 9)}, ["lengths"]),
        ({"lengths": (3, 3)}, []),
        ({"task": "mqra"}, ["task"]),
        ({"options": {"alphabet": "AB"}}, ["options"]),
        ({"options": {"alphabet": "AB", "quers": 2, "query_width": 0}}, ["options"] * 3),
        ({"options": {"query_width": 3}}, ["lengths"]),
        ({"role": "helper", "weight": -1, "lengths": (9, 3)}, ["lengths", "role", "weight"]),
        (
            {"role": "helper", "weight": -1, "lengths": (9, 3), "options": {"quers": 1}},
            ["lengths", "options", "role", "weight"],
        ),
        (
            {"role": "helper", "weight": -1, "lengths": (9, 3), "task": "mqra"},
            ["lengths", "role", "task", "weight"],
        ),
        ({"role": "helper", "weight": 0, "lengths": (2, 3)}, ["lengths", "role", "weight"]),
    ],
)
def test_every_wrong_field_is_named(wrong, fields):
    assert sorted(fields_of(**wrong)) == fields
    given = {"task": "mqar", "role": "target", "lengths": (3, 9), "weight": 1.0, "options": {}} | wrong
    if not fields:
        Component(**given)
        return
    with pytest.raises(TaskError) as error:
        Component(**given)
    for field in fields:
        assert f"{field}: " in str(error.value)


def test_messages_say_what_is_wrong_and_what_would_do():
    with pytest.raises(TaskError) as error:
        Component("revers_add", "helper", (5, 2), -1.0, {"base": 99})
    for piece in ("'helper'", "'target'", "'auxiliary'", "[5, 2]", "-1.0", "did you mean 'reverse_add'?"):
        assert piece in str(error.value)
    with pytest.raises(TaskError) as error:
        Component("reverse_add", "target", (1, 2), options={"bse": 3, "operands": "same"})
    for piece in ("did you mean 'base'?", "'operands'", "'same'", "'equal'"):
        assert piece in str(error.value)


def test_a_length_below_the_smallest_names_the_task_and_its_smallest():
    with pytest.raises(TaskError, match=r"lengths: 3 is below 5.*mqar"):
        Component("mqar", "target", (3, 9), options={"query_width": 4})
    with pytest.raises(TaskError, match=r"lengths: 0 is below 1.*reverse_add"):
        Component("reverse_add", "target", (0, 9))


def test_a_mixture_needs_a_component():
    with pytest.raises(TaskError, match="empty"):
        Mixture([])


def test_a_mixture_needs_a_target():
    with pytest.raises(TaskError, match="target"):
        Mixture([Component("reverse_add", "auxiliary", (1, 5))])


def test_a_mixture_keeps_its_components_in_order():
    parts = [
        Component("no_carry", "auxiliary", (1, 5)),
        Component("reverse_add", "target", (1, 5)),
        Component("carry_only", "auxiliary", (1, 5)),
    ]
    mixture = Mixture(parts)
    parts.clear()
    assert [part.task for part in mixture.components] == ["no_carry", "reverse_add", "carry_only"]
    assert [part.task for part in mixture.with_role("auxiliary")] == ["no_carry", "carry_only"]
    assert [part.task for part in mixture.with_role("target")] == ["reverse_add"]


def test_shares_are_the_weights_over_their_sum():
    weights = (1, 2.5, 0.5)
    tasks = ("reverse", "capitalize", "string_copy")
    mixture = Mixture([Component(t, "target", (1, 5), w) for t, w in zip(tasks, weights, strict=True)])
    assert mixture.shares.dtype == np.float64
    assert mixture.shares.tolist() == [0.25, 0.625, 0.125]
    assert Mixture([Component("reverse", "target", (1, 5), 1e-9)]).shares.tolist() == [1.0]


def test_components_and_mixtures_do_not_change():
    part = Component("reverse", "target", (1, 5))
    with pytest.raises(AttributeError):
        part.weight = 2.0
    with pytest.raises(AttributeError):
        Mixture([part]).components = ()
