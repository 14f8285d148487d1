"""F2SA-p on a quadratic problem, where minimizers and quotients are known in closed form."""

import dataclasses

import numpy as np
import pytest
from support.oracles.comparisons import relative
from support.oracles.in_numpy import Quadratic

import pudle

PROBLEM = pudle.make_dataset("quadratic(n_inner=6, n_outer=3, kappa=1)").problem()
#: Layers after which rounding is all that is left.
SOLVED = 60


FORM = Quadratic(PROBLEM)
EXACT = FORM.gradient()
#: Weights of the quotients as textbooks list them, by order.
STENCILS = {
    1: {0: -1, 1: 1},
    2: {-1: -1 / 2, 1: 1 / 2},
    3: {0: -11 / 6, 1: 3, 2: -3 / 2, 3: 1 / 3},
    4: {-2: 1 / 12, -1: -2 / 3, 1: 2 / 3, 2: -1 / 12},
}


def gradient(depth=SOLVED, algorithm="gradient_descent", **options):
    made = pudle.list_estimators()["first_order"](**options)
    return made.estimate(PROBLEM, pudle.make_algorithm(algorithm), depth).gradient.numpy()


@pytest.mark.parametrize("order", STENCILS)
def test_the_quotient_is_that_of_the_minimizers(order):
    nu, algorithm = 0.05, ("gradient_descent", "newton_cg")[order % 2]
    quotient = sum(w * FORM.C.T @ FORM.minimizer(j * nu) for j, w in STENCILS[order].items()) / nu
    mine = gradient(algorithm=algorithm, nu=nu, order=order)
    assert relative(mine, FORM.gradient(quotient)) < 1e-11


@pytest.mark.parametrize("order", STENCILS)
def test_the_error_falls_with_the_power_of_nu_that_is_its_order(order):
    errors = [relative(gradient(nu=nu, order=order), EXACT) for nu in (0.02, 0.01)]
    assert np.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.15)


def test_rounding_is_divided_by_nu():
    errors = [relative(gradient(nu=nu, order=4), EXACT) for nu in (1e-6, 1e-10)]
    assert errors[0] < 1e-8 < errors[1] < 1e-3


@pytest.mark.parametrize("scale", [1e-12, 1e-3, 1.0, 1e3])
def test_a_loss_in_units_for_which_nu_is_far_too_large_or_too_small_is_flagged(scale):
    """What is off by more than a percent says so; nu in proportion to the units mends it."""
    problem = pudle.make_dataset("logistic").problem()
    scaled = dataclasses.replace(
        problem, loss=lambda state, theta: scale * problem.loss(state, theta), constants=None
    )
    exact = scale * pudle.reference(problem).gradient.numpy()

    def estimate(nu):
        estimator = pudle.list_estimators()["first_order"](nu=nu)
        return estimator.estimate(scaled, pudle.make_algorithm("newton_cg"), 20)

    at_default = estimate(1e-3)
    error = relative(at_default.gradient.numpy(), exact)
    assert at_default.diagnostics.get("unfinished") == (1 if scale in (1e-12, 1e3) else 0)
    assert (error > 0.01) == (scale in (1e-12, 1e3))
    in_proportion = estimate(1e-3 / scale)
    assert in_proportion.diagnostics["unfinished"] == 0
    assert relative(in_proportion.gradient.numpy(), exact) < 1e-4


def test_curvature_that_a_negative_nu_takes_away_must_be_there():
    most = PROBLEM.curvature / np.linalg.norm(FORM.B, 2)
    for order, reach in ((2, 1), (4, 2)):
        gradient(3, nu=0.99 * most / reach, order=order)
        with pytest.raises(pudle.UnsupportedProblem, match=r"needs more curvature .+ give nu < "):
            gradient(3, nu=1.01 * most / reach, order=order)
    gradient(3, nu=10 * most, order=1)
