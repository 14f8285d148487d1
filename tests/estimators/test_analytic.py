"""The implicit function theorem at codes that have not converged, even after a single layer."""

import math

import numpy as np
import pytest
import torch
from examples import arrays_of

import pudle


def test_more_active_atoms_than_dimensions(loss, dtype):
    """At depth 1 the active Gram matrices are singular: the gradient is finite, and the diagnostics
    report them.
    """
    problem = pudle.make_dataset("sparse_gaussian(n_samples=200, penalty=0.02)").problem(
        loss, dtype=dtype
    )
    estimate = pudle.make_estimator("analytic").estimate(problem, pudle.Ista(), 1)
    sizes = (estimate.codes != 0).sum(1)
    overfull = int((sizes > 50).sum())
    assert overfull > 100
    assert torch.isfinite(estimate.gradient).all()
    assert estimate.gradient.abs().max() < 1e4, "a plain solve returns 1e13 here"
    assert estimate.diagnostics["condition_number"] == math.inf
    assert estimate.diagnostics["singular"] >= overfull


def test_condition_number_is_the_worst_over_samples(problem):
    _, d = arrays_of(problem)
    estimate = pudle.make_estimator("analytic").estimate(problem, pudle.Ista(), 2000)
    worst = max(
        np.linalg.cond(d[:, support].T @ d[:, support])
        for support in (np.flatnonzero(codes) for codes in estimate.codes.numpy())
        if len(support)
    )
    assert estimate.diagnostics["condition_number"] == pytest.approx(worst, rel=1e-8)
