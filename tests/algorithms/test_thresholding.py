"""Thresholding rules: their values and slopes, their specs, and the bias of the codes that they
leave.
"""

import numpy as np
import pytest
import torch

import pudle
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


@pytest.mark.parametrize("seed", [0, 1])
def test_decaying_and_hard_come_closer_to_the_generating_codes_than_soft(seed):
    """As in the paper: enough dimensions that the rules find the support of five active atoms."""
    spec = "sparse_gaussian(n_samples=50, n_features=200, n_components=300, perturbation=0.0025"
    problem = pudle.make_dataset(f"{spec}, seed={seed})").problem()
    soft, decaying, hard = (
        float(
            (pudle.Ista(0.2, rule).run(problem, 100).codes - problem.generating_codes)
            .norm(dim=1)
            .mean()
        )
        for rule in ("soft", "decaying(decay=0.98)", "hard(threshold=0.1)")
    )
    assert decaying < soft / 4
    assert hard < soft / 15
