"""F2SA-p on a quadratic problem, where minimizers and quotients are known in closed form."""

import functools

import numpy as np
import pytest
import torch
from comparisons import relative

import pudle

RANDOM = np.random.default_rng(7)
#: g = z'Az/2 + theta'Cz and f = z'Bz/2 + theta'Dz + b'z, with theta as below.
A, B = (np.cov(RANDOM.standard_normal((6, 200))) for _ in range(2))
A += 2 * np.eye(6)
C, D = RANDOM.standard_normal((2, 3, 6))
OFFSET, THETA = RANDOM.standard_normal(6), RANDOM.standard_normal(3)
#: Layers after which rounding is all that is left.
SOLVED = 40


@functools.cache
def problem():
    """Return the problem in torch."""
    a, b, c, d, offset = map(torch.tensor, (A, B, C, D, OFFSET))
    known = pudle.problems.Constants(
        gradient=np.linalg.norm(A, 2),
        hessian=0,
        outer=np.linalg.norm(B, 2),
        cross=0,
        cross_norm=np.linalg.norm(C, 2),
        terms=1,
        outer_terms=1,
    )
    return pudle.StronglyConvex(
        torch.tensor(THETA),
        lambda z, theta: z @ a.to(z) @ z / 2 + theta @ c.to(z) @ z,
        lambda z, theta: z @ b.to(z) @ z / 2 + (theta @ d.to(z) + offset.to(z)) @ z,
        torch.zeros(6).double(),
        lambda _: np.linalg.eigvalsh(A)[0] * (1 - 1e-9),
        lambda *_: known,
    )


def minimizer(nu):
    return -np.linalg.solve(A + nu * B, C.T @ THETA + nu * (D.T @ THETA + OFFSET))


def exact():
    z = minimizer(0)
    return D @ z - C @ np.linalg.solve(A, B @ z + D.T @ THETA + OFFSET)


#: Weights of the quotients as textbooks list them, by order.
STENCILS = {
    1: {0: -1, 1: 1},
    2: {-1: -1 / 2, 1: 1 / 2},
    3: {0: -11 / 6, 1: 3, 2: -3 / 2, 3: 1 / 3},
    4: {-2: 1 / 12, -1: -2 / 3, 1: 2 / 3, 2: -1 / 12},
}


def gradient(depth=SOLVED, algorithm="gradient_descent", **options):
    made = pudle.list_estimators()["first_order"](**options)
    return made.estimate(problem(), pudle.make_algorithm(algorithm), depth).gradient.numpy()


@pytest.mark.parametrize("order", STENCILS)
def test_the_quotient_is_that_of_the_minimizers(order):
    nu, algorithm = 0.05, ("gradient_descent", "newton_cg")[order % 2]
    quotient = sum(w * C @ minimizer(j * nu) for j, w in STENCILS[order].items()) / nu
    mine = gradient(algorithm=algorithm, nu=nu, order=order)
    assert relative(mine, D @ minimizer(0) + quotient) < 1e-11


@pytest.mark.parametrize("order", STENCILS)
def test_the_error_falls_with_the_power_of_nu_that_is_its_order(order):
    errors = [relative(gradient(nu=nu, order=order), exact()) for nu in (0.04, 0.02)]
    assert np.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.15)


def test_rounding_is_divided_by_nu():
    errors = [relative(gradient(nu=nu, order=4), exact()) for nu in (1e-6, 1e-10)]
    assert errors[0] < 1e-8 < errors[1] < 1e-3


def test_curvature_that_a_negative_nu_takes_away_must_be_there():
    most = np.linalg.eigvalsh(A)[0] / np.linalg.norm(B, 2)
    for order, reach in ((2, 1), (4, 2)):
        gradient(3, nu=0.99 * most / reach, order=order)
        with pytest.raises(pudle.UnsupportedProblem, match=r"needs more curvature .+ give nu < "):
            gradient(3, nu=1.01 * most / reach, order=order)
    gradient(3, nu=10 * most, order=1)
