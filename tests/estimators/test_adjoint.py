"""The adjoint of the last step of a training as the start of the next one's system."""

import dataclasses

import numpy as np
import pytest
import torch
from support.oracles.comparisons import refusal, relative
from support.problems.small_problems import sparse_problem

import pudle

#: Steps of a training, and their size.
STEPS, RATE = 6, 0.5


def trained(spec, *, kept):
    """Train the penalties of a logistic regression; return the iterations and the errors of each
    step, with the last adjoint as a start if `kept`.
    """
    problem = pudle.make_dataset("logistic(penalty=1.0, per_feature=True)").problem()
    estimator, algorithm = pudle.make_estimator(spec), pudle.make_algorithm("gradient_descent")
    exact, rows = pudle.make_estimator("analytic"), []
    for _ in range(STEPS):
        made = estimator.estimate(problem, algorithm, 30)
        expected = exact.estimate(problem, algorithm, 30).gradient
        rows.append((made.diagnostics["iterations"], relative(made.gradient, expected)))
        problem = dataclasses.replace(problem, theta=problem.theta - RATE * made.gradient)
        if kept:
            estimator = dataclasses.replace(estimator, adjoint=made.adjoint)
    return np.array(rows[1:]).T


def test_conjugate_gradients_need_fewer_iterations_for_the_same_residual():
    spec = "conjugate_gradient(rtol=1e-3)"
    (cold, errors), (warm, others) = (trained(spec, kept=kept) for kept in (False, True))
    assert warm.sum() < 0.7 * cold.sum()
    assert max(*errors, *others) < 1e-2


@pytest.mark.parametrize("damping", [1.0, 0.7])
def test_as_many_terms_of_a_series_are_more_accurate(damping):
    spec = f"fixed_point(terms=5, damping={damping})"
    (_, cold), (_, warm) = (trained(spec, kept=kept) for kept in (False, True))
    assert (warm < cold / 2).all()


@pytest.mark.parametrize("spec", ["conjugate_gradient", "fixed_point(terms=3)"])
def test_the_solution_stays_where_it_is_and_another_shape_is_refused(spec, loss):
    problem, algorithm = sparse_problem(loss, n=4), pudle.Ista()
    made = pudle.make_estimator(spec.replace("3", "3000")).estimate(problem, algorithm, 300)
    again = dataclasses.replace(pudle.make_estimator(spec), adjoint=made.adjoint)
    result = again.estimate(problem, algorithm, 300)
    assert relative(result.gradient, made.gradient) < 1e-9
    if spec == "conjugate_gradient":
        assert result.diagnostics["iterations"] < 0.5 * made.diagnostics["iterations"]
    wrong = dataclasses.replace(again, adjoint=torch.ones(2, 3).double())
    text = refusal(lambda: wrong.estimate(problem, algorithm, 3))
    assert "adjoint has shape (2, 3): codes here have shape" in text
