"""What implicit differentiation says of its systems."""

import numpy as np
import pytest
from support.problems.small_problems import arrays_of

import pudle


def test_condition_number_is_the_worst_over_samples(problem):
    _, d = arrays_of(problem)
    estimate = pudle.make_estimator("analytic").estimate(problem, pudle.Ista(), 2000)
    worst = max(
        np.linalg.cond(d[:, support].T @ d[:, support])
        for support in (np.flatnonzero(codes) for codes in estimate.codes.numpy())
        if len(support)
    )
    assert estimate.diagnostics["condition_number"] == pytest.approx(worst, rel=1e-8)
