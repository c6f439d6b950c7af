import numpy as np
import pytest
from scipy import stats

from data_builders.sampling import stream
from hf_lgt.evaluation.metrics import wilson_interval
from hf_lgt.evaluation.statistics import (
    holm,
    least_p,
    mean_interval,
    paired_difference,
    permutation_test,
    seeds_for_rate_width,
    seeds_for_width,
    spearman,
    student_interval,
)
from hf_lgt.experiments.verdicts import RULED_OUT


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


def test_the_interval_of_the_mean_is_that_of_its_formula():
    """With 1.5 pseudo-observations at each end there are 6, of mean 0.5 and sum of squares 2 / 4 + 3 / 4."""
    half = stats.norm.ppf(0.975) * np.sqrt(1.25 / 5 / 6)
    assert mean_interval([0.0, 0.5, 1.0]) == pytest.approx((0.5 - half, 0.5 + half), abs=1e-12)
    half = stats.norm.ppf(0.95) * np.sqrt(1.25 / 5 / 6)
    assert mean_interval([0.0, 0.5, 1.0], level=0.9) == pytest.approx((0.5 - half, 0.5 + half), abs=1e-12)


@pytest.mark.parametrize("n", range(2, 41))
def test_intervals_of_outcomes_that_are_0_or_1_cover_92_percent_with_any_number_of_seeds(n):
    """Exactly, not simulated: there are n + 1 samples, each with its binomial probability."""
    p = np.arange(1, 1000)[:, None] / 1000
    ends = np.array([mean_interval([1.0] * k + [0.0] * (n - k)) for k in range(n + 1)])
    covers = (ends[:, 0] <= p) & (p <= ends[:, 1])
    assert (stats.binom.pmf(np.arange(n + 1), n, p) * covers).sum(axis=1).min() >= 0.92


def _clusters(rng, shape, low, high, share):
    """Seeds near one of two values, the upper one with this probability; and the mean of all."""
    values = np.where(rng.random(shape) < share, high, low)
    return rng.beta(100 * values, 100 * (1 - values)), share * high + (1 - share) * low


@pytest.mark.parametrize("n", [5, 8])
@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
@pytest.mark.parametrize(("low", "high"), [(0.02, 0.6), (0.35, 0.95), (0.02, 0.98)])
def test_intervals_of_bimodal_outcomes_cover_as_they_say(low, high, share, n):
    values, mean = _clusters(stream(0, "clusters", n), (1000, n), low, high, share)
    ends = np.array([mean_interval(own) for own in values.tolist()])
    covered = ((ends[:, 0] <= mean) & (mean <= ends[:, 1])).mean()
    assert covered >= 0.92


def _pairs(case, rng, shape):
    """Both arms of many experiments, from 0 to 1, and the mean of their difference."""
    if case == "bimodal against none":
        values, mean = _clusters(rng, shape, 0.02, 0.6, 0.5)
        return values, rng.beta(1, 40, shape), mean - 1 / 41
    if case == "bimodal against bimodal":
        (first, a), (second, b) = (_clusters(rng, shape, 0.02, 0.98, share) for share in (0.8, 0.4))
        return first, second, a - b
    if case == "a seed decides both":
        lucky = rng.random(shape) < 0.5
        first = rng.beta(*np.where(lucky, [[[90]], [[10]]], [[[30]], [[70]]]))
        return first, rng.beta(*np.where(lucky, [[[60]], [[40]]], [[[10]], [[90]]])), 0.6 - 0.35
    if case == "a seed is good for one alone":
        lucky = rng.random(shape) < 0.5
        first = rng.beta(*np.where(lucky, [[[90]], [[10]]], [[[10]], [[90]]]))
        return first, rng.beta(*np.where(lucky, [[[10]], [[90]]], [[[60]], [[40]]])), 0.5 - 0.35
    assert case == "none against none"
    return rng.beta(1, 40, shape), rng.beta(1, 40, shape), 0.0


CASES = [
    "bimodal against none", "bimodal against bimodal", "a seed decides both", "a seed is good for one alone",
    "none against none",
]  # fmt: skip


@pytest.mark.parametrize("n", [5, 8])
@pytest.mark.parametrize("case", CASES)
def test_intervals_of_paired_differences_cover_as_they_say(case, n):
    first, second, mean = _pairs(case, stream(0, "pairs", case, n), (1000, n))
    found = [paired_difference(*both) for both in zip(first.tolist(), second.tolist(), strict=True)]
    ends = np.array([interval for _, interval in found])
    assert ((ends[:, 0] <= mean) & (mean <= ends[:, 1])).mean() >= 0.92
    # and are narrower than that of the differences, which knows only that they are from -1 to 1; but for arms
    # that both fail on every seed
    plain = np.array([mean_interval(own, bounds=(-1, 1)) for own in (first - second).tolist()])
    ratio = np.diff(ends).mean() / np.diff(plain).mean()
    assert ratio < (1.06 if case == "none against none" else 0.98)


def test_intervals_keep_within_the_bounds_and_hold_the_mean():
    rng = stream(0, "bounds")
    for n in range(2, 30):
        for values in (rng.random(n), np.zeros(n), np.ones(n), (rng.random(n) < 0.5) * 1.0):
            low, high = mean_interval(values.tolist())
            assert 0 <= low <= values.mean() <= high <= 1
            mirrored = mean_interval((1 - values).tolist())
            assert mirrored == pytest.approx((1 - high, 1 - low), abs=1e-12)
            of_differences = mean_interval((2 * values - 1).tolist(), bounds=(-1, 1))
            assert of_differences == pytest.approx((2 * low - 1, 2 * high - 1), abs=1e-12)


def test_the_interval_narrows_with_seeds_and_with_their_spread():
    def width(values):
        low, high = mean_interval(values)
        return high - low

    assert width([0.5] * 5) > width([0.5] * 8) > width([0.5] * 50)
    assert width([0.0, 1.0] * 4) > width([0.3, 0.7] * 4) > width([0.5] * 8)
    assert width([0.98] * 8) < 0.4


def test_one_value_has_all_between_the_bounds():
    assert mean_interval([0.7]) == (0.0, 1.0)
    assert mean_interval([0.7], bounds=(-1, 1)) == (-1.0, 1.0)


@pytest.mark.parametrize(
    ("values", "options", "told"),
    [
        ([], {}, "at least one value"),
        ([0.5, 1.1], {}, r"1\.1 is not between the bounds 0\.0 and 1\.0"),
        ([0.5, -0.1], {}, r"-0\.1 is not between"),
        ([0.5, float("nan")], {}, "nan is not between"),
        ([0.5, 0.6], {"bounds": (1.0, 0.0)}, "finite and in order"),
        ([0.5, 0.6], {"bounds": (0.0, float("inf"))}, "finite and in order"),
        ([0.5, 0.6], {"level": 1.0}, "between 0 and 1; it is 1"),
    ],
)
def test_what_has_no_interval_is_refused(values, options, told):
    with pytest.raises(ValueError, match=told):
        mean_interval(values, **options)


def test_a_mean_that_rounding_puts_outside_the_bounds_is_taken():
    assert mean_interval([1 + 1e-15, 1.0]) == pytest.approx(mean_interval([1.0, 1.0]))


def test_student_s_interval_is_scipy_s():
    values = [0.02, 0.05, 0.03, 0.06]
    expected = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert student_interval(values) == pytest.approx((expected.low, expected.high))
    with pytest.raises(ValueError, match="at least two values; there are 1"):
        student_interval([0.1])


def test_the_paired_interval_is_that_computed_by_hand():
    """Of 0, .5, 1 the interval of the mean is .5 -+ h, of three times .5 it is .5 -+ k; see above."""
    z = stats.norm.ppf(0.975)
    h, k = z * np.sqrt(1.25 / 5 / 6), z * np.sqrt(0.75 / 5 / 6)
    values = [0.0, 0.5, 1.0]

    def half(second):
        difference, (low, high) = paired_difference(values, second)
        assert difference == 0
        assert low == pytest.approx(-high, abs=1e-12)
        return high

    assert half([0.5] * 3) == pytest.approx(np.hypot(h, k))
    # a correlation of 1 counts 3 / 6, so of 2 h^2 - 2 r h^2 with r = 1 / 2 one h is left; of -1 three are
    assert half(values) == pytest.approx(h)
    assert half(values[::-1]) == pytest.approx(h * np.sqrt(3))


def test_the_ends_of_the_paired_interval_take_those_ends_of_both_that_are_on_their_side():
    first, second = [0.9, 1.0, 0.95, 0.2], [0.1, 0.05, 0.3, 0.0]
    (a1, a2), (b1, b2) = mean_interval(first), mean_interval(second)
    a, b = np.mean(first), np.mean(second)
    r = np.corrcoef(first, second)[0, 1] * 4 / 7
    difference, (low, high) = paired_difference(first, second)
    assert difference == pytest.approx(a - b)
    assert difference - low == pytest.approx(
        np.sqrt((a - a1) ** 2 + (b2 - b) ** 2 - 2 * r * (a - a1) * (b2 - b))
    )
    assert high - difference == pytest.approx(
        np.sqrt((a2 - a) ** 2 + (b - b1) ** 2 - 2 * r * (a2 - a) * (b - b1))
    )
    mirrored, (other_low, other_high) = paired_difference(second, first)
    assert (mirrored, other_low, other_high) == pytest.approx((-difference, -high, -low))


def test_the_paired_interval_narrows_where_seeds_agree_and_widens_with_its_level():
    rng = np.random.default_rng(0)
    shared = rng.random(20) / 2
    first, second = shared + rng.uniform(0.25, 0.35, 20), shared
    mean, (low, high) = paired_difference(first.tolist(), second.tolist())
    assert mean == pytest.approx((first - second).mean())
    _, wider = paired_difference(first.tolist(), second.tolist(), level=0.99)
    assert wider[0] < low < mean < high < wider[1]
    # what both have of a seed is taken out: in another order, the same numbers are less sure
    _, other = paired_difference(first.tolist(), second[::-1].tolist())
    assert high - low < other[1] - other[0]


def test_of_eight_seeds_that_all_fail_with_and_without_the_paired_interval_is_wider():
    """What verdicts call ruled out is above it: see `hf_lgt.experiments.verdicts.RULED_OUT`."""
    _, (low, high) = paired_difference([0.0] * 8, [0.0] * 8)
    assert (low, high) == pytest.approx((-0.34906, 0.34906), abs=1e-5)
    assert high / mean_interval([0.0] * 8, bounds=(-1, 1))[1] == pytest.approx(1.08, abs=0.005)
    assert high < RULED_OUT


def test_the_paired_interval_keeps_within_its_bounds_and_holds_the_mean():
    rng = stream(0, "bounds of pairs")
    for n in range(1, 20):
        for first, second in ((rng.random(n), rng.random(n)), (np.ones(n), np.zeros(n)), (np.zeros(n),) * 2):
            difference, (low, high) = paired_difference(first.tolist(), second.tolist())
            assert -1 <= low <= difference <= high <= 1


@pytest.mark.parametrize(("first", "second"), [([0.5, -0.1], [0.5, 0.5]), ([0.5, 0.5], [1.5, 0.0])])
def test_a_paired_interval_is_of_what_is_from_0_to_1(first, second):
    with pytest.raises(ValueError, match="is not between the bounds"):
        paired_difference(first, second)


def test_adjusted_p_values_are_those_computed_by_hand():
    # in order .005 x 4, .01 x 3, .03 x 2, .04 x 1, the last raised to the one before it
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.0625, 0.0625, 0.0625]) == pytest.approx([0.1875] * 3)
    assert holm([0.6, 0.4]) == pytest.approx([0.8, 0.8])
    assert holm([0.9, 0.5, 0.7]) == [1.0, 1.0, 1.0]
    assert holm([0.2]) == [0.2]
    assert holm([]) == []


@pytest.mark.parametrize("seed", range(5))
def test_adjusted_p_values_keep_their_order_and_are_between_bonferroni_s_and_their_own(seed):
    p = stream(seed, "p-values").random(7) ** 3
    adjusted = np.array(holm(p.tolist()))
    assert (np.diff(adjusted[np.argsort(p)]) >= 0).all()
    assert (p <= adjusted).all()
    assert (adjusted <= np.minimum(1, 7 * p)).all()
    assert holm(p[::-1].tolist()) == adjusted[::-1].tolist()


@pytest.mark.parametrize("p", [-0.1, 1.5, float("nan")])
def test_what_is_no_p_value_is_not_adjusted(p):
    with pytest.raises(ValueError, match="from 0 to 1"):
        holm([0.5, p])


@pytest.mark.parametrize("n", [1, 2, 5, 8])
def test_no_permutation_test_is_below_the_least_p(n):
    assert least_p(n) == 2 / 2**n == permutation_test([1.0] * n, [0.0] * n)
    with pytest.raises(ValueError, match="at least one seed; there are 0"):
        least_p(0)


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
