"""Conjugate gradients on the active set: convergence, diagnostics, singular systems."""

from __future__ import annotations

import torch
from estimator_specs import estimate, relative
from examples import sparse_problem

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


def test_converges_to_analytic(problem, algorithm):
    expected = estimate("analytic", problem, algorithm, 200).gradient
    errors = [
        relative(
            estimate(f"conjugate_gradient(iterations={count})", problem, algorithm, 200).gradient,
            expected,
        )
        for count in (1, 2, 100)
    ]
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < SOLVED


def test_needs_no_matrix(problem):
    fields = {
        name: getattr(problem, name) for name in ("observations", "dictionary", "penalty", "loss")
    }
    actual = estimate("conjugate_gradient", Matrixless(**fields), pudle.Ista(), 200)
    assert (
        relative(actual.gradient, estimate("analytic", problem, pudle.Ista(), 200).gradient)
        < SOLVED
    )


def test_diagnostics_report_the_progress(problem):
    diagnostics = estimate("conjugate_gradient", problem, pudle.Ista(), 200).diagnostics
    assert 1 < diagnostics["iterations"] < 30
    assert diagnostics["unconverged"] == 0
    assert diagnostics["largest_relative_residual"] < SOLVED
    stopped = estimate("conjugate_gradient(iterations=2)", problem, pudle.Ista(), 200).diagnostics
    assert stopped["iterations"] == 2
    assert stopped["unconverged"] > 0
    assert stopped["largest_relative_residual"] > 1e-3


def test_singular_systems_give_no_garbage():
    """With 18 atoms active in 12 dimensions and a right-hand side outside the range there is no
    solution.
    """
    problem = sparse_problem("lasso", penalty=1e-4)
    actual = estimate("conjugate_gradient(iterations=1000)", problem, pudle.Ista(), 1)
    assert estimate("analytic", problem, pudle.Ista(), 1).diagnostics["singular"] > 0
    assert torch.isfinite(actual.gradient).all()
    assert actual.diagnostics["unconverged"] > 0
    assert actual.diagnostics["iterations"] < 100, "a sample without curvature stops"
    # A sound iterate is not much larger than the minimum-norm solution; an unguarded one is off by
    # powers of ten.
    assert (
        actual.gradient.norm() < 2 * estimate("analytic", problem, pudle.Ista(), 1).gradient.norm()
    )
