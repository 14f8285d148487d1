"""Thresholding rules: their values."""

import numpy as np
import pytest
import torch

from pudle import names
from pudle.algorithms.thresholding import Decaying, Hard, Soft


def expected(rule, values, threshold, iteration, nonnegative):
    """The values that a rule returns, computed entry by entry."""

    def one(value):
        size = value if nonnegative else abs(value)
        if isinstance(rule, Hard):
            return (
                value if size > (threshold if rule.threshold is None else rule.threshold) else 0.0
            )
        at = threshold * rule.decay**iteration if isinstance(rule, Decaying) else threshold
        return 0.0 if size <= at else value - at if value > 0 else value + at

    return np.vectorize(one)(values)


RULES = [Soft(), Decaying(decay=0.8), Hard(), Hard(threshold=0.3)]


@pytest.mark.parametrize("rule", RULES, ids=names.text)
@pytest.mark.parametrize("nonnegative", [False, True])
@pytest.mark.parametrize("iteration", [0, 3])
def test_values_entry_by_entry(rule, nonnegative, iteration):
    values = np.random.default_rng(5).standard_normal((20, 30))
    # Both rules drop an entry that is exactly at the threshold.
    values[0, :4] = 0.25, -0.25, 0.3, 0.0
    mine = rule(torch.tensor(values), 0.25, iteration, nonnegative)
    assert np.abs(mine.numpy() - expected(rule, values, 0.25, iteration, nonnegative)).max() < 1e-15
