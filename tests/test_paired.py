"""Times measured in turns: what is told apart, and how often in error."""

import itertools

import numpy as np
import pytest
from scipy import stats

from pudle import paired


def test_the_test_is_student_s_where_nothing_is_cut_and_published_where_something_is():
    draws = np.random.default_rng(0).lognormal(0, 0.1, (2, 4))
    draws[0] *= 1.1
    expected = stats.ttest_rel(*np.log(draws))
    ratio = paired.compare(*draws)
    beyond = stats.ttest_1samp(np.log(draws[0] / draws[1]), np.log(paired.LEAST))
    assert ratio.p_value == pytest.approx(beyond.pvalue)
    low, high = np.exp(expected.confidence_interval(0.95))
    assert (ratio.low, ratio.high) == (pytest.approx(low), pytest.approx(high))
    # Of ten rounds, six are left: scipy's intervals of trimmed means.
    draws = np.random.default_rng(1).lognormal(0, 0.1, (2, 10))
    interval = stats.mstats.trimmed_mean_ci(np.log(draws[0] / draws[1]), (0.2, 0.2))
    ratio = paired.compare(*draws)
    assert [ratio.low, ratio.high] == pytest.approx(np.exp(interval).tolist(), rel=0.01)


@pytest.mark.parametrize("rounds", [3, 10, 20])
@pytest.mark.parametrize("tail", [2, 30], ids=["disturbed", "quiet"])
def test_equal_times_are_rarely_told_apart_and_slower_ones_are(rounds, tail):
    """On a machine whose speed drifts by a factor, with noise of 5 % that other work disturbs."""
    draw = np.random.default_rng([rounds, tail])
    drift = np.exp(np.cumsum(draw.normal(0, 0.3, (2000, rounds)), axis=1))
    times = [drift * np.exp(0.03 * draw.standard_t(tail, (2000, rounds))) for _ in "ab"]
    told = paired.compare_many(*times).p_value <= paired.SIGNIFICANCE
    assert told.mean() <= paired.SIGNIFICANCE
    if rounds >= 10:
        slower = paired.compare_many(1.3 * times[0], times[1])
        assert ((slower.p_value <= paired.SIGNIFICANCE) & (slower.value > 1)).mean() >= 0.9


def test_too_few_rounds_tell_nothing():
    assert paired.compare([1.0], [2.0]).p_value == 1.0 == paired.compare([1.0, 1], [1, 1.0]).p_value
    assert np.isnan(paired.compare([], []).value) and paired.compare([2.0], [1.0]).value == 2.0
    assert paired.compare([2.0, 2.0], [1.0, 1.0]).p_value == 0.0
    # What the place of its memory may do to a program is no difference, however sure.
    assert paired.compare([1.02, 1.02], [1.0, 1.0]).p_value == 1.0


def test_of_many_comparisons_few_differences_are_none():
    p_values = np.random.default_rng(0).uniform(size=1000)
    limit = paired.critical(np.r_[p_values, np.zeros(1000)])
    adjusted = stats.false_discovery_control(np.r_[p_values, np.zeros(1000)])
    assert ((p_values <= limit) == (adjusted[:1000] <= paired.SIGNIFICANCE)).all()
    assert paired.critical([]) == paired.SIGNIFICANCE
    assert paired.critical([0.5] * 100) == pytest.approx(paired.SIGNIFICANCE / 100)


def test_nobody_always_follows_the_same():
    """In many rounds each comes after each other about equally often."""
    follows = np.zeros((4, 4))
    for turn in range(300):
        order = paired.order(turn, 4)
        assert sorted(order) == [0, 1, 2, 3]
        for pair in itertools.pairwise(order):
            follows[pair] += 1
    others = follows[~np.eye(4, dtype=bool)]
    assert others.min() > 0.7 * others.mean()
    assert [paired.order(turn, 2)[0] for turn in range(20)].count(0) == 10
