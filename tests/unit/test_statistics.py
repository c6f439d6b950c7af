import numpy as np
import pytest
from scipy import stats

from hf_lgt.evaluation.statistics import bootstrap_interval, paired_difference, spearman


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
