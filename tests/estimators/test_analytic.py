"""The implicit function theorem at codes that have not converged, even after a single layer."""

from __future__ import annotations

import math

import numpy as np
import oracles
import pytest
import tolerances
import torch
from examples import PENALTY, arrays_of, sparse_problem

import pudle


def formula(x, d, z, loss):
    """Return ``partial_D loss - [(D z - x) v^T + D v z^T]`` with a minimum-norm v, computed sample
    by sample.
    """
    residual = z @ d.T - x
    code_gradient = residual @ d + (PENALTY * np.sign(z) if loss == "lasso" else 0)
    direct = residual.T @ z
    for i, codes in enumerate(z):
        support = np.flatnonzero(codes)
        v = np.zeros_like(codes)
        gram = d[:, support].T @ d[:, support]
        v[support] = np.linalg.pinv(gram, rcond=1e-12, hermitian=True) @ code_gradient[i, support]
        direct = direct - np.outer(residual[i], v) - np.outer(d @ v, codes)
    return direct / len(x)


@pytest.mark.parametrize("depth", [1, 12, 400])
def test_formula_at_any_depth(loss, depth):
    problem = sparse_problem(loss)
    x, d = arrays_of(problem)
    estimate = pudle.make_estimator("analytic").estimate(problem, pudle.Ista(), depth)
    codes, _, _ = oracles.unroll(x, d, PENALTY, 1 / oracles.lipschitz_constant(d), depth)
    expected = formula(x, d, codes, loss)
    # Supports of early layers are badly conditioned: the two solves agree to rounding times that.
    condition = estimate.diagnostics["condition_number"]
    condition = condition if math.isfinite(condition) else 1e4
    error = np.linalg.norm(estimate.gradient.numpy() - expected) / np.linalg.norm(expected)
    assert error < tolerances.SAME_ARITHMETIC * max(1.0, condition)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
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


def test_wrong_supports_show_as_large_errors():
    """At small depth the support is wrong and the score shows it: no error is replaced by zero."""
    problem = pudle.make_dataset("sparse_gaussian(n_samples=200)").problem("lasso")
    reference = pudle.reference(problem)
    early, late = (
        pudle.score(estimate, reference)
        for estimate in pudle.make_estimator("analytic").sweep(
            problem, pudle.Ista(step=0.2), [5, 400]
        )
    )
    assert early.status == "ok" and early.relative_error > 1
    assert late.relative_error < 1e-6


def test_condition_number_is_the_worst_over_samples(problem):
    _, d = arrays_of(problem)
    estimate = pudle.make_estimator("analytic").estimate(problem, pudle.Ista(), 2000)
    worst = max(
        np.linalg.cond(d[:, support].T @ d[:, support])
        for support in (np.flatnonzero(codes) for codes in estimate.codes.numpy())
        if len(support)
    )
    assert estimate.diagnostics["condition_number"] == pytest.approx(worst, rel=1e-8)
