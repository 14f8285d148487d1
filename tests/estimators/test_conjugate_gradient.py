"""Conjugate gradients on the active set: convergence, diagnostics, singular systems."""

import pytest
import torch
from support.estimators.estimator_specs import estimate
from support.oracles.comparisons import relative
from support.problems.convolutions import replaced
from support.problems.small_problems import sparse_problem

import pudle

#: Conjugate gradients and an eigendecomposition, on active systems of condition numbers below 1e3.
SOLVED = 1e-10


class Matrixless(pudle.SparseCoding):
    """Sparse coding that offers no matrix and no solver."""

    @property
    def gram(self):
        raise AssertionError("the Gram matrix was asked for")

    def solve_active(self, codes, right_hand_side):
        raise AssertionError("the exact solver was asked for")


@pytest.mark.parametrize("algorithm", [pudle.Ista(), pudle.Fista()], ids=["ista", "fista"])
def test_converges_to_analytic_without_a_matrix(problem, algorithm):
    matrixless = replaced(problem, Matrixless)
    expected = estimate("analytic", problem, algorithm, 200).gradient
    results = [
        estimate(f"conjugate_gradient(iterations={count})", matrixless, algorithm, 200)
        for count in (1, 2, 100)
    ]
    errors = [relative(result.gradient, expected) for result in results]
    assert errors[0] > errors[1] > errors[2] and errors[2] < SOLVED
    _, stopped, done = (result.diagnostics for result in results)
    assert (stopped["iterations"], done["unconverged"]) == (2, 0)
    assert stopped["unconverged"] > 0 and stopped["largest_relative_residual"] > 1e-3
    assert 1 < done["iterations"] < 30 and done["largest_relative_residual"] < SOLVED


def test_singular_systems_give_no_garbage():
    """With 18 atoms active in 12 dimensions and a right-hand side outside the range there is no
    solution.
    """
    problem = sparse_problem("lasso", penalty=1e-4)
    actual = estimate("conjugate_gradient(iterations=1000)", problem, pudle.Ista(), 1)
    exact = estimate("analytic", problem, pudle.Ista(), 1)
    assert exact.diagnostics["singular"] > 0
    assert torch.isfinite(actual.gradient).all()
    assert actual.diagnostics["unconverged"] > 0
    assert actual.diagnostics["iterations"] < 100, "a sample without curvature stops"
    # A sound iterate is not much larger than the minimum-norm solution; an unguarded one is off by
    # powers of ten.
    assert actual.gradient.norm() < 2 * exact.gradient.norm()
