"""How well scores predict the gain that was measured."""

import itertools
from statistics import fmean

import numpy as np
import pytest

from hf_lgt.analysis.prediction import CHOSEN, Choice, Pair, judge
from hf_lgt.evaluation.statistics import spearman, spearman_interval

MEASURED = {
    ("a", "b"): 0.9, ("a", "c"): 0.5, ("a", "d"): 0.1,
    ("b", "a"): 0.3, ("b", "c"): 0.8, ("b", "d"): 0.2,
    ("c", "a"): 0.0, ("c", "b"): 0.4, ("c", "d"): 0.7,
}  # fmt: skip


def pairs_of(scores, measured=MEASURED):
    """Pairs on which scores are functions of measured gain and names."""
    found = []
    for (target, other), value in measured.items():
        said = {name: score(value, target, other) for name, score in scores.items()}
        found.append(Pair(target, other, (value - 0.1, value + 0.1), said))
    return found


def noise(seed):
    """A score that has nothing to do with what was measured."""
    drawn = dict(zip(MEASURED, np.random.default_rng(seed).permutation(len(MEASURED)), strict=True))
    return lambda value, target, other: float(drawn[target, other])


def within(pairs, score, keep):
    own = [pair for pair in pairs if keep(pair.target) and pair.scores[score] is not None]
    return spearman([pair.scores[score] for pair in own], [pair.mean for pair in own])


def slow_p(pairs, score):
    """Share of all orders of candidates within their targets that are as far from 0."""
    by_target = {t: [p for p in pairs if p.target == t] for t in dict.fromkeys(p.target for p in pairs)}
    values = [p.scores[score] for own in by_target.values() for p in own]
    found = []
    for orders in itertools.product(*(itertools.permutations(own) for own in by_target.values())):
        found.append(spearman(values, [p.mean for own in orders for p in own]))
    as_it_is = spearman(values, [p.mean for own in by_target.values() for p in own])
    return fmean(abs(rho) >= abs(as_it_is) - 1e-9 for rho in found), len(found)


def test_a_perfect_score():
    pairs = pairs_of({"same": lambda value, *_: value**3})
    found, chosen = judge(pairs, ["same"])
    assert (found.score, found.pairs, found.rho, found.interval) == ("same", 9, 1.0, (1.0, 1.0))
    assert (found.hits, found.within_mean) == (3, 1.0)
    assert set(found.without.values()) == set(found.within.values()) == {1.0}
    assert found.p == 1 / 6**3  # of 216 orders this one alone is as good, and none as bad
    assert [choice.gain for choice in found.choices] == pytest.approx([0.9, 0.8, 0.7])
    assert (chosen.score, chosen.hits) == (CHOSEN, 3)


def test_a_score_that_is_wrong_throughout():
    found, _ = judge(pairs_of({"wrong": lambda value, *_: -value}), ["wrong"])
    assert (found.rho, found.hits, found.within_mean) == (-1.0, 0, -1.0)
    assert found.p == 1 / 6**3
    assert [choice.taken for choice in found.choices] == ["d", "d", "a"]


def test_a_constant_score_says_nothing():
    found = judge(pairs_of({"flat": lambda *_: 0.3}), ["flat"])
    (flat,) = (own for own in found if own.score == "flat")
    assert (flat.pairs, flat.rho, flat.interval, flat.p, flat.within_mean) == (9, None, None, None, None)
    assert flat.without == flat.within == dict.fromkeys("abc")
    assert [own.score for own in found] == ["flat"]  # it is not chosen either


@pytest.mark.parametrize("seed", range(3))
def test_every_number_is_that_of_the_pairs_it_is_said_of(seed):
    pairs = pairs_of({"noise": noise(seed)})
    found, *_ = judge(pairs, ["noise"])
    assert found.rho == within(pairs, "noise", lambda t: True)
    assert found.without == {own: within(pairs, "noise", lambda t, own=own: t != own) for own in "abc"}
    assert found.within == {own: within(pairs, "noise", lambda t, own=own: t == own) for own in "abc"}
    assert len(set(found.without.values())) > 1
    assert found.within_mean == pytest.approx(fmean(found.within.values()))
    columns = zip(*((pair.scores["noise"], pair.mean, pair.target) for pair in pairs), strict=True)
    assert found.interval == spearman_interval(*columns)
    assert (found.p, 216) == (pytest.approx(slow_p(pairs, "noise")[0]), slow_p(pairs, "noise")[1])
    assert 1 / 216 < found.p < 1


def test_p_counts_only_orders_within_a_target():
    measured = {("a", "b"): 0.9, ("a", "c"): 0.8, ("b", "a"): 0.1, ("b", "c"): 0.2}
    pairs = pairs_of({"target": lambda value, target, _: float(target == "a") + value / 10}, measured)
    found, *_ = judge(pairs, ["target"])
    # the targets alone give much of the correlation: four orders, of which the best is as it is
    assert found.rho == 1.0
    assert (found.p, slow_p(pairs, "target")) == (0.25, (0.25, 4))


def test_p_of_too_many_orders_is_of_draws_and_the_same_every_time():
    # 4 targets of 4 candidates have 331776 orders
    names = [(t, other) for t in "abcd" for other in "vwxy"]
    rng = np.random.default_rng(0)
    measured = dict(zip(names, rng.random(16), strict=True))
    blurred = dict(zip(names, rng.normal(0, 0.7, 16), strict=True))
    scores = {"good": lambda value, *_: value, "blurred": lambda value, *who: value + blurred[who]}
    good, middle, _ = judge(pairs_of(scores, measured), list(scores))
    assert 0 < good.p <= 2e-4  # what was observed is one of the draws
    assert 0.01 < middle.p < 0.5
    assert judge(pairs_of(scores, measured), ["blurred"])[0].p == middle.p
    values, data = [p.scores["blurred"] for p in pairs_of(scores, measured)], [*measured.values()]
    rng = np.random.default_rng(1)
    drawn = [spearman(values, np.concatenate([rng.permutation(data[i : i + 4]) for i in range(0, 16, 4)]))
             for _ in range(2000)]  # fmt: skip
    assert middle.p == pytest.approx(np.mean(np.abs(drawn) >= abs(middle.rho)), abs=0.03)


def test_what_comes_of_a_choice():
    second_best = {"a": "c", "b": "c", "c": "b"}
    pairs = pairs_of({"some": lambda value, target, other: float(second_best[target] == other)})
    found, *_ = judge(pairs, ["some"])
    assert found.choices == (
        Choice("a", "c", pytest.approx(0.5), pytest.approx(0.9), pytest.approx(0.5)),
        Choice("b", "c", pytest.approx(0.8), pytest.approx(0.8), pytest.approx(1.3 / 3)),
        Choice("c", "b", pytest.approx(0.4), pytest.approx(0.7), pytest.approx(1.1 / 3)),
    )
    assert found.hits == 1


def test_pairs_without_a_score_are_left_out():
    scores = {"some": lambda value, target, other: None if (target, other) == ("b", "c") else value}
    pairs = pairs_of(scores)
    found, *_ = judge(pairs, ["some"])
    assert (found.pairs, found.rho) == (8, 1.0)
    assert found.within == {"a": 1.0, "b": None, "c": 1.0}  # two candidates are no order to speak of
    assert found.choices[1] == Choice("b", "a", *map(pytest.approx, (0.3, 0.3, 0.25)))
    nothing, *_ = judge(pairs_of({"none": lambda *_: None}), ["none"])
    assert (nothing.pairs, nothing.rho, nothing.p, nothing.choices) == (0, None, None, ())


# ---------------------------------------------------------------------------------- the chosen one


def by_target(**right):
    """A score that is right for some targets, and backwards for the others."""
    return lambda value, target, _: value * right.get(target, 1)


def test_the_score_that_is_chosen_is_the_best_on_the_other_targets():
    # for a the first score is best on the others, for b and c the second
    scores = {"first": by_target(a=-1), "second": by_target(b=-1, c=1)}
    pairs = pairs_of(scores)
    first, second, chosen = judge(pairs, list(scores))
    assert first.within == {"a": -1.0, "b": 1.0, "c": 1.0}
    assert second.within == {"a": 1.0, "b": -1.0, "c": 1.0}
    # a: 1 against 0 on b and c; b: 0 against 1 on a and c; c: 0 of both, the first named is taken
    assert chosen.within == {"a": -1.0, "b": -1.0, "c": 1.0}
    assert [choice.taken for choice in chosen.choices] == ["d", "d", "d"]
    assert chosen.choices == (first.choices[0], second.choices[1], first.choices[2])
    assert (chosen.hits, chosen.within_mean) == (1, pytest.approx(-1 / 3))
    assert (chosen.rho, chosen.interval, chosen.p, chosen.without) == (None, None, None, {})


def test_what_is_chosen_for_a_target_does_not_hang_on_the_target_itself():
    noises = {"first": noise(1), "second": noise(2), "third": noise(3)}
    *found, chosen = judge(pairs_of(noises), list(noises))
    best = {}
    for target in "abc":
        changed = {key: -value if key[0] == target else value for key, value in MEASURED.items()}
        again = judge(pairs_of(noises, changed), list(noises))[-1]
        own = max(found, key=lambda own: fmean(v for t, v in own.within.items() if t != target))
        assert chosen.within[target] == own.within[target]
        assert again.within[target] == -own.within[target]
        best[target] = own.score
        (taken,), (other,) = ([c.taken for c in own.choices if c.target == target] for own in (chosen, again))
        assert taken == other
    assert len(set(best.values())) > 1


def test_with_one_target_there_is_nothing_to_choose_by():
    pairs = [pair for pair in pairs_of({"same": lambda value, *_: value}) if pair.target == "a"]
    (found,) = judge(pairs, ["same"])
    assert (found.score, found.rho, found.interval, found.without) == ("same", 1.0, None, {"a": None})
