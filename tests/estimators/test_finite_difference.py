"""Central differences: their claim, accuracy, kinks and budget."""

from __future__ import annotations

import pytest
import torch
from estimator_specs import estimate, relative
from examples import ridge_problem, sparse_problem
from tolerances import DIFFERENCE_QUOTIENT

import pudle
from pudle import streams


def test_equals_the_unrolled_derivative(problem, algorithm):
    actual, expected = (
        estimate(spec, problem, algorithm, 10).gradient
        for spec in ("finite_difference", "backprop")
    )
    assert relative(actual, expected) < DIFFERENCE_QUOTIENT


def test_random_directions_give_a_scaled_projection(problem):
    actual = estimate(
        "finite_difference(directions=10, seed=3)", problem, pudle.Ista()
    ).gradient.reshape(-1)
    expected = estimate("backprop", problem, pudle.Ista()).gradient.reshape(-1)
    draws = streams.generator(3, "estimator finite_difference").standard_normal(
        (expected.numel(), 10)
    )
    basis = torch.linalg.qr(torch.as_tensor(draws)).Q
    assert (
        relative(actual, expected.numel() / 10 * basis @ (basis.T @ expected)) < DIFFERENCE_QUOTIENT
    )


def test_claim_depends_on_the_directions():
    assert pudle.make_estimator("finite_difference").computes == "unrolled"
    assert pudle.make_estimator("finite_difference(directions=10)").computes == "stochastic"
    assert pudle.list_estimators()["finite_difference"].computes == "unrolled"


def test_more_directions_than_coordinates_use_all_coordinates(ridge):
    actual, all_of_them = (
        estimate(spec, ridge, pudle.Ista()) for spec in ("numerical(directions=5)", "numerical")
    )
    assert torch.equal(actual.gradient, all_of_them.gradient)
    assert actual.diagnostics["directions"] == 1


def test_asymmetry_reports_kinks(ridge):
    """One atom, one observation exactly at the threshold: slopes 0 and -x^2 on either side, half
    their distance off.
    """
    threshold = 0.2
    kinked = pudle.SparseCoding(
        observations=torch.tensor([[threshold]], dtype=torch.float64),
        dictionary=torch.ones(1, 1, dtype=torch.float64),
        penalty=threshold,
        loss="reconstruction",
    )
    actual = estimate("finite_difference", kinked, pudle.Ista(), 1)
    assert actual.diagnostics["asymmetry"] == pytest.approx(threshold**2 / 2, rel=1e-3)
    assert float(actual.gradient) == pytest.approx(-(threshold**2) / 2, rel=1e-3)
    assert estimate("finite_difference", ridge, pudle.Ista()).diagnostics["asymmetry"] < 1e-5


def test_too_many_evaluations_are_refused():
    with pytest.raises(pudle.UnsupportedProblem) as refusal:
        estimate("finite_difference(max_evaluations=101)", sparse_problem(), pudle.Ista())
    assert (
        str(refusal.value)
        == "finite_difference needs 433 loss evaluations for 216 directions of theta, above"
        " max_evaluations=101: raise that, give directions=50 or fewer for the projection on"
        " random ones, or use backprop, which computes the same without them"
    )
    accepted = estimate(
        "finite_difference(max_evaluations=101, directions=50)", sparse_problem(), pudle.Ista(), 2
    )
    assert accepted.diagnostics["directions"] == 50
    assert (
        estimate(
            "finite_difference(max_evaluations=3)", ridge_problem(), pudle.Ista(), 2
        ).gradient.shape
        == ()
    )
