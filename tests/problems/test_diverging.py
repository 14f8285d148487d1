"""Layers that diverge on a smooth problem: what comes of them is said, and no error of torch is
raised.
"""

import pytest
import torch

import pudle


@pytest.fixture
def problem():
    """Its curvature at the start, from which the step follows, is far below that on the way."""
    return pudle.StronglyConvex(
        theta=torch.tensor([2.0, -3.0], dtype=torch.float64),
        objective=lambda z, theta: (z**4 / 4 + 0.025 * z**2 - theta * z).sum(),
        loss=lambda z, theta: (z**2).sum() / 2,
        initial=torch.zeros(2, dtype=torch.float64),
        modulus=lambda theta: 0.05,
    )


@pytest.mark.parametrize("algorithm", ["gradient_descent", "accelerated"])
@pytest.mark.parametrize(
    "estimator",
    ["analytic", "backprop", "conjugate_gradient", "first_order", "a_posteriori", "polished"],
)
def test_a_state_that_diverged_gives_a_score_that_says_so(problem, estimator, algorithm):
    reference = pudle.reference(problem)
    assert reference.status == "limit"
    estimate = pudle.make_estimator(estimator).estimate(
        problem, pudle.make_algorithm(algorithm), depth=50
    )
    score = pudle.score(estimate, reference)
    assert score.status == "diverged" and "NaN or infinite" in score.reason


def test_the_solver_needs_no_step(problem):
    estimate = pudle.make_estimator("analytic").estimate(problem, pudle.NewtonCg(), depth=50)
    assert pudle.score(estimate, pudle.reference(problem)).relative_error < 1e-8
