"""The order of candidates, and how sure it is."""

import itertools

import numpy as np
import pytest

from hf_lgt.analysis.ranking import Measured, rank
from hf_lgt.analysis.relatedness import SCORES, Relatedness


def measured(**by_candidate):
    """What short runs said: a score a seed of each candidate."""
    return [
        Measured(name, seed, f"{name}/seed-{seed}", (1, 2), (3,), Relatedness(scores(value), (), (), ()))
        for name, values in by_candidate.items()
        for seed, value in enumerate(values)
    ]


def scores(value):
    """The one that is asked for; all others would give another order."""
    return {name: value if name == "cka" else 0.0 for name in SCORES}


def shares(*values):
    """Share of all draws of seeds in which each has the best mean, by going through them."""
    table = np.array(values)
    n = table.shape[1]
    first = np.zeros(len(values))
    for draw in itertools.product(range(n), repeat=n):
        means = table[:, draw].mean(axis=1).round(12)
        first += (means == means.max()) / (means == means.max()).sum()
    return first / n**n


def test_candidates_are_in_the_order_of_their_means():
    places = rank(measured(low=[0.1, 0.9], high=[0.8, 0.6], least=[-1.0, 0.0]), "cka")
    assert [place.candidate for place in places] == ["high", "low", "least"]
    assert [place.mean for place in places] == pytest.approx([0.7, 0.5, -0.5])
    assert [place.by_seed for place in places] == [(0.8, 0.6), (0.1, 0.9), (-1.0, 0.0)]


def test_how_sure_the_first_place_is():
    values = {"a": [0.5, 0.1, 0.4], "b": [0.2, 0.3, 0.3], "c": [0.0, 0.6, 0.0], "d": [-0.1, -0.2, -0.3]}
    places = {place.candidate: place for place in rank(measured(**values), "cka")}
    wanted = dict(zip(values, shares(*values.values()), strict=True))
    assert min(wanted[name] for name in "abc") > 0.05
    assert {name: place.first for name, place in places.items()} == pytest.approx(wanted, abs=0.02)
    assert sum(place.first for place in places.values()) == pytest.approx(1)
    assert places["d"].first == 0.0


def test_who_is_best_on_every_seed_comes_first_in_every_draw():
    best, other = rank(measured(other=[0.1, 0.7, 0.3], best=[0.2, 0.8, 0.4]), "cka")
    assert (best.candidate, best.first, other.first) == ("best", 1.0, 0.0)
    (alone,) = rank(measured(alone=[0.3, -0.1]), "cka")
    assert alone.first == 1.0


def test_seeds_are_drawn_together_for_all():
    # the ranges overlap, yet on every seed the first is a little better
    first, _ = rank(measured(a=[0.1, 0.5, 0.9], b=[0.09, 0.49, 0.89]), "cka")
    assert first.first == 1.0


def test_equal_candidates_share_the_first_place():
    same = [0.3, 0.1, 0.4]
    places = rank(measured(a=same, b=same, c=[0.0, 0.0, 0.0], d=same), "cka")
    assert [place.candidate for place in places] == ["a", "b", "d", "c"]
    assert [place.first for place in places] == pytest.approx([1 / 3] * 3 + [0])
    assert [place.first for place in rank(measured(a=[0.2], b=[0.2]), "cka")] == [0.5, 0.5]


def test_a_candidate_without_a_score_on_some_seed_is_left_out():
    places = rank(measured(a=[0.1, 0.2], b=[9.0, None], c=[0.3, 0.1]), "cka")
    assert [place.candidate for place in places] == ["c", "a"]
    assert sum(place.first for place in places) == pytest.approx(1)
    assert rank(measured(a=[None, None], b=[None, 1.0]), "cka") == []
    assert rank([], "cka") == []


def test_the_ranking_is_by_the_score_that_is_asked_for():
    found = measured(a=[0.1, 0.2], b=[0.3, 0.1])
    assert [place.mean for place in rank(found, "gradient")] == [0.0, 0.0]


def test_a_ranking_is_the_same_every_time():
    values = {"a": [0.5, 0.1, 0.4], "b": [0.2, 0.3, 0.3]}
    places = rank(measured(**values), "cka")
    assert 0 < places[1].first < places[0].first < 1
    assert rank(measured(**values), "cka") == places
    # whatever the order in which candidates were given
    assert rank(measured(**dict(reversed(values.items()))), "cka") == places
