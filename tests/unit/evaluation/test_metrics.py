import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from hf_lgt.evaluation.metrics import exact_match, score_tokens, stopping_errors, wilson_interval


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_interval_is_scipys(case):
    successes, n = case
    expected = binomtest(successes, n).proportion_ci(method="wilson")
    low, high = wilson_interval(successes, n)
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert 0 <= low <= successes / n <= high <= 1


def test_wilson_interval_is_exact_at_the_ends():
    assert wilson_interval(0, 10)[0] == 0.0
    assert wilson_interval(10, 10)[1] == 1.0


@pytest.mark.parametrize(("successes", "n"), [(0, 0), (3, 2), (-1, 2)])
def test_wilson_interval_refuses_impossible_counts(successes, n):
    with pytest.raises(ValueError, match=f"{successes} successes of {n}"):
        wilson_interval(successes, n)


def test_only_scored_tokens_count():
    predicted = np.array([[1, 2, 3], [1, 2, 9], [9, 2, 3]])
    reference = np.array([[1, 2, 3], [1, 2, 3], [1, 2, 3]])
    scored = np.array([[True, True, True], [True, True, True], [False, True, True]])
    exact, right, total = score_tokens(predicted, reference, scored)
    assert exact.tolist() == [True, False, True]
    assert right.tolist() == [3, 2, 2]
    assert total.tolist() == [3, 3, 2]


def test_the_first_wrong_token_says_whether_an_answer_stops_at_the_wrong_place():
    end, ignored = 9, -100
    reference = np.array([[1, 2, 3, 9]] * 5 + [[1, 9, ignored, ignored]])
    predicted = np.array(
        [
            [1, 2, 3, 9],  # right
            [1, 9, 5, 5],  # stops early
            [1, 5, 9, 5],  # wrong before it stops early
            [1, 2, 3, 5],  # runs on
            [5, 2, 3, 5],  # wrong before it runs on
            [1, 9, 9, 9],  # right, what does not count aside
        ]
    )
    early, ran_on = stopping_errors(predicted, reference, reference != ignored, end)
    assert early.tolist() == [False, True, False, False, False, False]
    assert ran_on.tolist() == [False, False, False, True, False, False]


def test_exact_match_is_the_share_of_equal_texts():
    assert exact_match(["ab", "ab", "a"], ["ab", "aB", "a"]) == pytest.approx(2 / 3)
    with pytest.raises(ValueError, match="0 predictions"):
        exact_match([], [])
    with pytest.raises(ValueError, match="1 predictions and 2 references"):
        exact_match(["a"], ["a", "b"])
