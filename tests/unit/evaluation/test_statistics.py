import numpy as np
import pytest
from scipy import stats

from hf_lgt.evaluation.metrics import wilson_interval
from hf_lgt.evaluation.statistics import (
    bootstrap_interval,
    paired_difference,
    permutation_test,
    seeds_for_rate_width,
    seeds_for_width,
    spearman,
)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("values", [4, 1000])
def test_the_rank_correlation_is_scipy_s(seed, values):
    """With few different values most are ties."""
    rng = np.random.default_rng(seed)
    x = rng.integers(0, values, 30).tolist()
    y = (np.asarray(x) + rng.integers(-values, values, 30)).tolist()
    assert spearman(x, y) == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)


def test_any_growth_is_a_correlation_of_one():
    assert spearman([1, 10, 1000], [0.1, 0.2, 0.9]) == 1.0
    assert spearman([1, 10, 1000], [0.9, 0.2, 0.1]) == -1.0


def test_a_constant_has_no_rank_correlation():
    assert spearman([1, 2, 3], [0.0, 0.0, 0.0]) is None
    assert spearman([7, 7], [0.0, 1.0]) is None
    assert spearman([], []) is None


@pytest.mark.parametrize(
    ("x", "y", "told"), [([1, 2], [1], "2 and 1"), ([1, 2], [1, float("nan")], "finite")]
)
def test_what_cannot_be_ranked_is_refused(x, y, told):
    with pytest.raises(ValueError, match=told):
        spearman(x, y)


def test_the_paired_interval_is_scipy_s_bootstrap_of_pairs():
    rng = np.random.default_rng(0)
    shared = rng.normal(0, 1, 20)
    first, second = shared + rng.normal(0.3, 0.05, 20), shared
    mean, (low, high) = paired_difference(first.tolist(), second.tolist())
    expected = stats.bootstrap(
        (first, second),
        lambda a, b, axis: (a - b).mean(axis=axis),
        paired=True,
        method="percentile",
    ).confidence_interval
    assert mean == pytest.approx((first - second).mean())
    assert (low, high) == pytest.approx((expected.low, expected.high), abs=0.002)
    # what both have of a seed is taken out, which two intervals apart would not do
    assert high - low < np.subtract(*bootstrap_interval(first.tolist())[::-1]) / 5


def test_pairs_need_as_many_of_each():
    with pytest.raises(ValueError, match="2 and 1"):
        paired_difference([1.0, 2.0], [1.0])
    with pytest.raises(ValueError, match="at least one"):
        paired_difference([], [])


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("n", [2, 5, 9])
def test_the_permutation_test_is_scipy_s_exact_one(seed, n):
    rng = np.random.default_rng(seed)
    first, second = rng.random(n), rng.random(n) * 0.7
    expected = stats.permutation_test(
        (first, second), lambda x, y, axis: np.mean(x - y, axis=axis), permutation_type="samples"
    )
    assert permutation_test(list(first), list(second)) == pytest.approx(expected.pvalue, abs=1e-12)


def test_a_sure_difference_has_the_least_p_that_so_few_seeds_allow():
    assert permutation_test([1.0] * 5, [0.0] * 5) == 2 / 2**5
    assert permutation_test([0.0] * 5, [1.0] * 5) == 2 / 2**5
    assert permutation_test([0.3] * 5, [0.3] * 5) == 1.0


def test_sums_that_differ_by_rounding_alone_count_as_equal():
    # .1 + .2 - .3 is not 0 in floating point, in whichever order it is summed
    assert permutation_test([0.1, 0.2, 0.3], [0.0, 0.0, 0.0]) == 2 / 2**3
    assert permutation_test([0.1, 0.2, -0.3], [0.0, 0.0, 0.0]) == 1.0


def test_with_many_seeds_changes_of_sign_are_drawn_the_same_every_time():
    rng = np.random.default_rng(0)
    first, second = rng.random(30), rng.random(30) + 0.2
    p = permutation_test(list(first), list(second))
    assert p == permutation_test(list(first), list(second))
    exact = stats.permutation_test(
        (first, second), lambda x, y, axis: np.mean(x - y, axis=axis), permutation_type="samples",
        n_resamples=99_999, rng=1,
    ).pvalue  # fmt: skip
    assert p == pytest.approx(exact, abs=0.003)
    assert permutation_test([1.0] * 40, [0.0] * 40) > 0


def test_as_many_seeds_as_the_width_takes():
    rng = np.random.default_rng(0)
    values = list(rng.normal(0.5, 0.2, 2000))
    n = seeds_for_width(values, 0.1)
    means = rng.choice(values, size=(4000, n)).mean(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    assert high - low == pytest.approx(0.1, abs=0.005)
    assert seeds_for_width(values, 0.1, level=0.99) > n
    assert seeds_for_width([0.5, 0.5, 0.5], 0.1) == 2
    assert seeds_for_width([0.5], 0.1) is None


@pytest.mark.parametrize(("successes", "n"), [(0, 5), (1, 5), (5, 5), (30, 60)])
@pytest.mark.parametrize("width", [0.1, 0.3, 0.7])
def test_as_many_seeds_as_a_rate_of_this_width_takes(successes, n, width):
    needed = seeds_for_rate_width(successes, n, width)

    def width_at(seeds):
        low, high = wilson_interval(successes / n * seeds, seeds)
        return high - low

    assert width_at(needed) <= width
    assert needed == 1 or width_at(needed - 1) > width


def test_a_width_that_takes_forever_has_no_number():
    assert seeds_for_rate_width(1, 2, 1e-9) is None
    assert seeds_for_rate_width(0, 0, 0.1) is None


def test_what_cannot_be_planned_or_tested_is_refused():
    for call in (lambda: seeds_for_width([1.0, 2.0], 0.0), lambda: seeds_for_rate_width(1, 2, -1.0)):
        with pytest.raises(ValueError, match="must be above 0"):
            call()
    with pytest.raises(ValueError, match="2 and 1"):
        permutation_test([1.0, 2.0], [1.0])
    with pytest.raises(ValueError, match="at least one"):
        permutation_test([], [])
