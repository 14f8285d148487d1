"""A claimed modulus against the smallest curvature, where Lanczos's method does not find it."""

import dataclasses

import numpy as np
import pytest
import torch

import pudle
from pudle.measuring.results.score import ReferenceRow
from pudle.problems import strongly_convex
from pudle.references.strongly_convex import REFUTED
from pudle.references.strongly_convex import _refutation as refutation


def quadratic(size, condition, factor, certified=True):
    """Return a quadratic problem with a known spectrum, in the basis of a Householder reflection,
    whose modulus is `factor` times the smallest curvature.
    """
    random = np.random.default_rng([size, 48])
    curvatures = torch.tensor(np.geomspace(1 / condition, 1, size))
    normal = torch.tensor(random.standard_normal(size))
    normal = normal / normal.norm()
    theta = torch.tensor(random.standard_normal(size))

    def objective(state, theta):
        rotated = state - 2 * (normal @ state) * normal
        return (curvatures * rotated.square()).sum() / 2 - (state * theta).sum()

    def constants(state, theta, adjoint, radius):
        terms = float(state.norm() + theta.norm())
        return pudle.Constants(1, 0, 0, 0, 1, terms, outer_terms=1)

    return pudle.StronglyConvex(
        theta=theta,
        objective=objective,
        loss=lambda state, theta: state.sum() / size,
        initial=torch.zeros(size).double(),
        modulus=lambda theta: factor / condition,
        constants=constants if certified else None,
    )


@pytest.mark.parametrize("factor", [1.01, 100, 1e4, 1e6])
@pytest.mark.parametrize("size, condition", [(257, 1e6), (257, 1e3), (600, 1e7)])
def test_a_modulus_that_is_too_large_is_refuted_above_256_unknowns(size, condition, factor):
    problem = quadratic(size, condition, factor)
    codes = torch.zeros(1, size).double()
    smallest = problem.extreme_curvature(codes, largest=False)
    assert smallest == pytest.approx(1 / condition, rel=1e-5)
    too_large = (factor - 1) / condition > REFUTED
    assert ("above the curvature" in refutation(problem, codes, smallest)) == too_large
    right = dataclasses.replace(problem, modulus=lambda theta: 1 / condition)
    assert not refutation(right, codes, smallest)


def test_nothing_is_certified_with_a_modulus_that_is_too_large():
    reference = pudle.reference(quadratic(257, 1e4, 100))
    assert reference.status == "uncertified"
    assert "is above the curvature 0.0001 at the minimizer" in reference.reason


def test_the_smallest_curvature_of_a_ridge_is_an_eigenvalue():
    random = np.random.default_rng(7)
    features = random.standard_normal((310, 300)) * np.geomspace(1, 1e-3, 300)
    rows, right = torch.tensor(features), torch.tensor(random.standard_normal(310))
    penalty = torch.tensor(1e-6).double()

    def objective(weights, penalty):
        fit = (rows @ weights - right).square().mean() / 2
        return fit + penalty * weights.square().sum() / 2

    problem = pudle.StronglyConvex(
        penalty,
        objective,
        lambda weights, penalty: weights.square().sum(),
        torch.zeros(300).double(),
        modulus=float,
    )
    codes = torch.zeros(1, 300).double()
    expected = np.linalg.eigvalsh(features.T @ features / 310)[0] + 1e-6
    smallest = problem.extreme_curvature(codes, largest=False)
    assert smallest == pytest.approx(expected, rel=1e-5)


@pytest.fixture
def no_matrix(monkeypatch):
    """Make no matrix where Lanczos's method fails, as above 4,000 unknowns."""
    monkeypatch.setattr(strongly_convex, "MAX_HESSIAN", 256)


def test_what_does_not_converge_is_no_number_and_no_certificate(no_matrix):
    reference = pudle.reference(quadratic(257, 1e4, 1.0))
    assert reference.status == "limit"
    assert reference.certificate.smallest_eigenvalue is None
    row = ReferenceRow.of(reference, seed=0, step=1.0)
    assert row.modulus_unchecked and row.rho is None


def test_a_largest_curvature_that_is_unknown_is_refused(no_matrix, monkeypatch):
    monkeypatch.setattr(strongly_convex, "_lanczos", lambda system, largest: None)
    with pytest.raises(pudle.UnsupportedProblem, match="give it by constants="):
        pudle.reference(quadratic(257, 1e2, 1.0, certified=False))
