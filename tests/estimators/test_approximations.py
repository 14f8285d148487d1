"""The approximations on fixed points: closed forms of a linear step."""

import numpy as np
import pytest
import torch
from support.oracles import tolerances
from support.oracles.comparisons import relative

import pudle

SIZE = 5
random = np.random.default_rng([0, 4104])
MIXING = random.standard_normal((SIZE, SIZE))
#: Symmetric and not, both with a spectral radius of 0.6.
SYMMETRIC = 0.6 * (MIXING + MIXING.T) / np.abs(np.linalg.eigvalsh(MIXING + MIXING.T)).max()
GENERAL = 0.6 * MIXING / np.abs(np.linalg.eigvals(MIXING)).max()
FORCING, TARGET = random.standard_normal((SIZE, SIZE)), random.standard_normal(SIZE)
THETA = random.standard_normal(SIZE)


def linear(matrix):
    """Return the fixed point of ``z -> A z + B theta``, the loss ``1/2 |z - y|^2 + theta . z``."""
    a, b, y = (torch.tensor(array) for array in (matrix, FORCING, TARGET))
    return pudle.FixedPoint(
        theta=torch.tensor(THETA),
        step=lambda state, theta: a @ state + b @ theta,
        loss=lambda state, theta: 0.5 * (state - y).square().sum() + theta @ state,
        initial=torch.zeros(SIZE, dtype=torch.float64),
    )


def state(matrix, depth):
    codes = np.zeros(SIZE)
    for _ in range(depth):
        codes = matrix @ codes + FORCING @ THETA
    return codes


def gradient(spec, matrix, depth):
    return pudle.make_estimator(spec).estimate(linear(matrix), pudle.Iteration(), depth).gradient


@pytest.mark.parametrize("matrix", [SYMMETRIC, GENERAL], ids=["symmetric", "general"])
@pytest.mark.parametrize(
    "spec", ["phantom(steps=4, damping=0.7)", "phantom_neumann(terms=4, damping=0.7)"]
)
def test_both_phantom_gradients_are_the_damped_series(spec, matrix):
    """A linear step has one Jacobian, so that both forms are the same at any depth."""
    codes = state(matrix, 3)
    damped, term, total = 0.7 * matrix + 0.3 * np.eye(SIZE), codes - TARGET + THETA, 0.0
    for _ in range(4):
        total, term = total + 0.7 * term, damped.T @ term
    assert relative(gradient(spec, matrix, 3), codes + FORCING.T @ total) < tolerances.CLOSED_FORM


def test_drmad_is_backpropagation_through_a_linear_step():
    """Neither Jacobian of this step depends on the point at which it is taken."""
    codes, slope, total = state(GENERAL, 9), state(GENERAL, 9) - TARGET + THETA, np.zeros(SIZE)
    for _ in range(9):
        total, slope = total + FORCING.T @ slope, GENERAL.T @ slope
    assert relative(gradient("drmad", GENERAL, 9), codes + total) < tolerances.CLOSED_FORM


def test_nystrom_at_full_rank_is_the_solve_of_a_symmetric_system():
    codes = state(SYMMETRIC, 4)
    solution = np.linalg.solve(np.eye(SIZE) - SYMMETRIC, codes - TARGET + THETA)
    estimate = gradient("nystrom(rank=5, regularization=1e-9)", SYMMETRIC, 4)
    assert relative(estimate, codes + FORCING.T @ solution) < 1e-8
