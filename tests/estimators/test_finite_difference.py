"""Central differences: their claim, kinks and budget."""

import torch
from support.estimators.estimator_specs import estimate
from support.oracles.comparisons import relative
from support.oracles.tolerances import DIFFERENCE_QUOTIENT

import pudle
from pudle import streams


def test_random_directions_give_a_scaled_projection(problem):
    estimator = pudle.make_estimator("finite_difference(directions=10, seed=3)")
    assert estimator.computes == "stochastic" and type(estimator).computes == "unrolled"
    actual = estimator.estimate(problem, pudle.Ista(), 30).gradient.reshape(-1)
    expected = estimate("backprop", problem, pudle.Ista()).gradient.reshape(-1)
    random, count = streams.generator(3, "estimator finite_difference"), expected.numel()
    basis = torch.linalg.qr(torch.as_tensor(random.standard_normal((count, 10)))).Q
    projection = count / 10 * basis @ (basis.T @ expected)
    assert relative(actual, projection) < DIFFERENCE_QUOTIENT


def test_more_directions_than_coordinates_use_all_coordinates(ridge):
    actual, every = (
        estimate(spec, ridge, pudle.Ista()) for spec in ("numerical(directions=5)", "numerical")
    )
    assert torch.equal(actual.gradient, every.gradient)
    assert actual.diagnostics["directions"] == 1
