"""Algorithms for smooth problems: their layers and derivatives against recursions in numpy."""

import numpy as np
import pytest
from support.oracles.comparisons import relative
from support.oracles.in_numpy import Quadratic, derivative

import pudle

PROBLEM = pudle.make_dataset("quadratic(n_samples=40, n_inner=6, n_outer=3, kappa=8)").problem()
FORM = Quadratic(PROBLEM)


def codes_at(moved, layers, step, momentum):
    """Return the codes for a theta that has moved."""
    z = point = 0 * FORM.a + 0 * moved[0]
    for _ in range(layers):
        after = point - step * (FORM.A @ point + FORM.C @ moved + FORM.a)
        z, point = after, after + momentum * (after - z)
    return z


def loss_at(moved, *rest):
    z, theta = codes_at(moved, *rest), PROBLEM.theta.numpy() + moved
    return z @ FORM.B @ z / 2 + (FORM.D @ moved + FORM.b) @ z + theta @ FORM.E @ theta / 2


@pytest.mark.parametrize("share", [None, 1.4])
@pytest.mark.parametrize("cls", [pudle.GradientDescent, pudle.Accelerated])
def test_layers_and_their_derivative(cls, share):
    step = (share or 1.0) / np.linalg.eigvalsh(FORM.A)[-1]
    algorithm = cls(step=share and step)
    root = np.sqrt(step * PROBLEM.curvature)
    momentum = (1 - root) / (1 + root) if cls is pudle.Accelerated else 0.0
    made = pudle.make_estimator("backprop").estimate(PROBLEM, algorithm, 9)
    assert relative(made.codes[0], codes_at(np.zeros(3), 9, step, momentum)) < 1e-12
    expected = derivative(lambda moved: loss_at(moved, 9, step, momentum), np.zeros(3))
    assert relative(made.gradient, expected) < 1e-12


def test_newton_solves_a_quadratic_problem_and_says_when_it_has():
    analytic, solver = pudle.make_estimator("analytic"), pudle.NewtonCg()
    first, last = analytic.sweep(PROBLEM, solver, [1, 6])
    assert first.diagnostics["unfinished"] == 1 and last.diagnostics["unfinished"] == 0
    assert relative(last.codes[0], FORM.minimizer()) < 1e-14
    assert relative(last.gradient, FORM.gradient()) < 1e-13
