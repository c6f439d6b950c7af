import dataclasses
from statistics import fmean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_lgt import EvalRecord, effective_length, gain, generalization_gap, normalized_gap, recovered_fraction
from hf_lgt.evaluation.measures import FOLLOWED, LEAST_ROOM, Auxiliaries, Errors, summarize

SHARES = st.floats(0, 1)


def step_curve(length, to):
    """Right up to a length, wrong beyond: no extrapolation at all."""
    return {n: float(n <= length) for n in range(1, to + 1)}


def record(task, length, share, **more):
    return EvalRecord(10, task, "target", length, 100, share, share, share, share, **more)


def records_of(**curves):
    """Records of tasks with these curves."""
    return [record(task, n, share) for task, own in curves.items() for n, share in own.items()]


def summary(records, target, *auxiliaries, smallest=1):
    return summarize(records, target, Auxiliaries.of(records, auxiliaries), smallest)


# ------------------------------------------------------------ gain, recovered fraction, effective length


def test_the_gain_is_taken_over_the_target_alone():
    assert gain(0.75, 0.25) == 0.5
    assert gain(0.25, 0.75) == -0.5
    assert gain(None, 0.5) is None
    assert gain(0.5, None) is None


def test_the_recovered_fraction_is_the_gain_as_a_share_of_what_long_training_gains():
    assert recovered_fraction(0.5, 0.25, 0.75) == 0.5
    assert recovered_fraction(0.75, 0.25, 0.75) == 1.0
    assert recovered_fraction(0.25, 0.25, 0.75) == 0.0
    assert recovered_fraction(0.0, 0.25, 0.75) == -0.5
    assert recovered_fraction(1.0, 0.25, 0.75) == 1.5


@pytest.mark.parametrize(("alone", "long"), [(0.5, 0.699), (0.5, 0.5), (0.5, 0.25)])
def test_where_long_training_gains_too_little_no_fraction_is_recovered(alone, long):
    assert recovered_fraction(1.0, alone, long) is None
    assert recovered_fraction(1.0, 0.0, LEAST_ROOM) == pytest.approx(5)


@pytest.mark.parametrize("unknown", range(3))
def test_the_recovered_fraction_needs_all_three(unknown):
    values = [0.5, 0.25, 0.75]
    values[unknown] = None
    assert recovered_fraction(*values) is None


def test_the_effective_length_ends_at_the_first_length_below_the_level():
    own = {1: 1.0, 2: 0.9, 3: 0.89, 4: 1.0}
    assert effective_length(own, 0.9) == 2
    assert effective_length(own, 0.89) == 4
    assert effective_length(dict(reversed(own.items())), 0.9) == 2
    assert effective_length({1: 0.4, 2: 1.0}, 0.5) == 0
    assert effective_length({}, 0.5) == 0
    # of every fourth length the longest evaluated one
    assert effective_length({4: 1.0, 8: 1.0, 12: 0.0}, 0.5) == 8


# ------------------------------------------------------------ the paper's gap


@pytest.mark.parametrize(("short", "long", "printed"), [(32, 256, 0.87), (8, 32, 0.74), (16, 64, 0.67)])
def test_without_transfer_the_gap_is_near_what_the_paper_prints(short, long, printed):
    gap = generalization_gap(step_curve(short, long), step_curve(long, long), up_to=long)
    assert gap == pytest.approx(1 - short / long)
    assert gap == pytest.approx(printed, abs=0.09)
    assert normalized_gap(gap, short, long) == pytest.approx(1)


def test_full_transfer_has_no_gap():
    gap = generalization_gap(step_curve(16, 20), step_curve(16, 20), up_to=16)
    assert gap == 0
    assert normalized_gap(gap, 8, 16) == 0


def test_the_gap_is_symmetric_and_ends_at_up_to():
    a, b = {1: 1.0, 2: 0.5, 3: 0.0}, {1: 0.5, 2: 1.0, 3: 1.0}
    assert generalization_gap(a, b, up_to=2) == generalization_gap(b, a, up_to=2) == 0.5


def test_a_curve_that_ends_early_is_refused():
    with pytest.raises(ValueError, match="up to length 16; they reach 12"):
        generalization_gap(step_curve(8, 12), step_curve(16, 20), up_to=16)
    with pytest.raises(ValueError, match="reach 0"):
        generalization_gap({}, step_curve(16, 20), up_to=16)


def test_a_curve_that_starts_late_is_refused_and_an_even_grid_is_not():
    short, long = step_curve(8, 16), step_curve(16, 16)
    late = [{n: c[n] for n in range(9, 17)} for c in (short, long)]
    with pytest.raises(ValueError, match="from length 1; they start at 9"):
        generalization_gap(*late, up_to=16)
    assert generalization_gap(*late, up_to=16, smallest=9) == 1
    grid = [{n: c[n] for n in (1, 6, 11, 16)} for c in (short, long)]
    assert generalization_gap(*grid, up_to=16) == 0.5


def test_equal_training_lengths_have_no_normalised_gap():
    with pytest.raises(ValueError, match="up to length 8"):
        normalized_gap(0.1, 8, 8)


# ------------------------------------------------------------ the auxiliaries


def test_each_auxiliary_is_judged_on_its_own_training_lengths():
    records = records_of(t=step_curve(4, 4), a=step_curve(2, 4), b=dict.fromkeys(range(1, 5), 0.8))
    found = summary(records, ("t", 1), ("a", 2), ("b", 4))
    assert found.auxiliaries == pytest.approx({"a": 1.0, "b": 0.8})
    assert found.auxiliary_length == 4


def test_auxiliaries_have_their_mean_curve_and_those_not_evaluated_no_mean():
    records = [*records_of(a={1: 1.0, 2: 0.5}), *records_of(b={1: 0.5, 2: 0.5, 9: 1.0})]
    found = Auxiliaries.of(records, [("a", 2), ("b", 0), ("c", 3)])
    assert found.curve == {1: 0.75, 2: 0.5}
    assert found.means == {"a": 0.75}
    assert found.longest == 3
    assert Auxiliaries.of(records, []) == Auxiliaries({}, {}, {})
    assert Auxiliaries.of(records, []).longest == 0


# ------------------------------------------------------------ the summary


def test_a_summary_measures_against_the_mean_of_the_auxiliaries():
    records = records_of(
        t=step_curve(2, 4), a=dict.fromkeys(range(1, 5), 1.0), b={1: 1.0, 2: 1.0, 3: 1.0, 4: 0.8}
    )
    found = summary(records, ("t", 2), ("a", 4), ("b", 4))
    assert found.gap == pytest.approx((0 + 0 + 1 + 0.9) / 4)
    assert found.normalized_gap == pytest.approx(0.475 / 0.5)
    assert found.auxiliaries == pytest.approx({"a": 1.0, "b": 3.8 / 4})
    assert found.gap_reason is None
    assert (found.reach, found.effective_length_90, found.effective_length_50) == (0.0, 2, 2)
    same = summary(records, ("t", 4), ("a", 4))
    assert (same.gap, same.normalized_gap, same.reach) == (0.5, None, None)


def test_each_cause_of_no_gap_is_given():
    good, short = dict.fromkeys(range(1, 5), 1.0), dict.fromkeys(range(1, 4), 1.0)

    def reason(target, *auxiliaries, **curves):
        found = summary(records_of(**curves), target, *auxiliaries)
        assert (found.gap, found.normalized_gap) == (None, None)
        return found.gap_reason

    assert reason(("t", 2), t=good) == "there are no auxiliaries"
    assert reason(("t", 2), ("a", 4), t=good) == "the run with the auxiliaries is not finished"
    assert reason(("t", 2), ("a", 4), t=good, a=dict.fromkeys(range(1, 5), 0.949)) == (
        "exact match on own lengths is below 0.95: a 0.949"
    )
    # one that is poor is enough, whatever the mean; one that was not evaluated is not known
    low = reason(("t", 2), ("a", 4), ("b", 4), ("c", 4), t=good, a=good, b=step_curve(2, 4))
    assert low == "exact match on own lengths is below 0.95: b 0.500, c unknown"
    longer = reason(("t", 4), ("a", 2), t=step_curve(2, 4), a=good)
    assert longer == "exact match on own lengths is below 0.95: the target, trained longer, 0.500"
    unknown = reason(("t", 4), ("a", 2), t={9: 1.0}, a=good)
    assert unknown == "exact match on own lengths is below 0.95: the target, trained longer, unknown"
    assert reason(("t", 2), ("a", 4), t=short, a=short) == (
        "the gap needs both curves up to length 4; they reach 3"
    )
    late = dict.fromkeys(range(2, 5), 1.0)
    assert reason(("t", 2), ("a", 4), t=late, a=late) == (
        "the gap needs both curves from length 1; they start at 2"
    )
    assert summary(records_of(t=late, a=late), ("t", 2), ("a", 4), smallest=2).gap == 0


def test_auxiliaries_at_the_least_level_have_a_gap():
    records = records_of(t=step_curve(2, 4), a=dict.fromkeys(range(1, 5), FOLLOWED))
    assert summary(records, ("t", 2), ("a", 4)).gap == pytest.approx((0.05 + 0.05 + 0.95 + 0.95) / 4)


@pytest.mark.parametrize("scores", [(0.0, 0.0), (0.01, 0.49), (0.5, 0.5), (0.94, 0.94)])
def test_two_curves_that_fail_alike_have_no_gap(scores):
    """An untrained run would have one of 0, as if its target followed."""
    curves = {task: dict.fromkeys(range(1, 5), score) for task, score in zip("ta", scores, strict=True)}
    found = summary(records_of(**curves), ("t", 2), ("a", 4))
    assert (found.gap, found.normalized_gap) == (None, None)
    assert found.gap_reason.startswith("exact match on own lengths is below 0.95: a 0.")


@st.composite
def failing_targets(draw):
    """Curves of a target that is wrong everywhere in the transfer region, of auxiliaries, and lengths."""
    short = draw(st.integers(1, 6))
    long = draw(st.integers(short + 1, 12))
    within = draw(st.lists(SHARES, min_size=short, max_size=short))
    target = {n: within[n - 1] if n <= short else 0.0 for n in range(1, long + 1)}
    curves = {"t": target}
    for name in draw(st.sampled_from(["a", "ab"])):
        shares = draw(st.lists(SHARES, min_size=long, max_size=long))
        curves[name] = dict(enumerate(shares, 1))
    return short, long, curves


@given(failing=failing_targets(), alone=SHARES, long_reach=SHARES)
@settings(derandomize=True, deadline=None, max_examples=200)
def test_a_target_that_fails_everywhere_never_has_gain_or_a_small_gap(failing, alone, long_reach):
    short, long, curves = failing
    auxiliaries = [(name, long) for name in curves if name != "t"]
    found = summary(records_of(**curves), ("t", short), *auxiliaries)
    assert found.reach == 0
    assert gain(found.reach, alone) <= 0
    recovered = recovered_fraction(found.reach, alone, long_reach)
    assert recovered is None or recovered <= 0
    assert found.effective_length_50 <= short
    learned = all(mean >= FOLLOWED for mean in found.auxiliaries.values())
    assert (found.gap is not None) == learned
    assert (found.gap_reason is None) == learned
    if learned:
        # what is missing in the transfer region is at least what the auxiliaries have there
        above = fmean(fmean(curves[name].values()) for name, _ in auxiliaries)
        assert found.gap >= above - short / long - 1e-9


def test_errors_are_shares_of_all_answers_in_the_transfer_region():
    # lengths 3 and 4 are the transfer region; 1 and 5 do not count
    records = [
        record("t", 1, 0.0, stopped_early=100, ran_on=0),
        record("t", 3, 0.5, stopped_early=30, ran_on=10),
        record("t", 4, 0.0, stopped_early=50, ran_on=0),
        record("t", 5, 0.0, stopped_early=0, ran_on=100),
        *records_of(a=dict.fromkeys(range(1, 6), 1.0)),
    ]
    found = summary(records, ("t", 2), ("a", 4)).errors
    assert dataclasses.astuple(found) == pytest.approx((0.4, 0.05, 0.3))
    assert found.stopped_early + found.ran_on + found.content == pytest.approx(1 - 0.25)


def test_errors_that_were_not_counted_are_not_known():
    counted = record("t", 3, 0.5, stopped_early=50, ran_on=0)
    auxiliary = records_of(a=dict.fromkeys(range(1, 6), 1.0))
    assert summary([counted, *auxiliary], ("t", 2), ("a", 4)).errors == Errors(0.5, 0.0, 0.0)
    for other in (record("t", 4, 0.5), record("t", 4, 0.5, stopped_early=1), record("t", 4, 0.5, ran_on=1)):
        assert summary([counted, other, *auxiliary], ("t", 2), ("a", 4)).errors is None
    # nothing of the transfer region was evaluated, or there is none
    assert summary([dataclasses.replace(counted, length=2)], ("t", 2), ("a", 4)).errors is None
    assert summary([counted], ("t", 3)).errors is None
