"""Windows of the last layers: many from one backward pass, and of a single layer."""

from __future__ import annotations

import numpy as np
import oracles
import pytest
import tolerances
import torch
from estimator_specs import VISIBLE, relative
from examples import PENALTY, arrays_of, directions, sparse_problem

import pudle
from pudle.estimators.truncated import Truncated

DEPTH = 12


def test_windows_of_one_backward_pass_equal_single_windows(algorithm, problem):
    swept = dict(Truncated.sweep_windows(problem, algorithm, DEPTH, [5, 1, 5, 12, 100]))
    assert list(swept) == [1, 5, 12, 100]
    for window, estimate in swept.items():
        alone = Truncated(window=window).estimate(problem, algorithm, DEPTH)
        assert relative(estimate.gradient, alone.gradient) < tolerances.SAME_ARITHMETIC
        assert torch.equal(estimate.codes, alone.codes)
        work = {"layers": DEPTH, "layers_differentiated": min(window, DEPTH)}
        assert estimate.diagnostics == alone.diagnostics == work


@pytest.mark.parametrize("window", [1, 7, DEPTH])
def test_a_window_is_the_derivative_of_a_program_with_frozen_first_layers(
    algorithm, problem, window
):
    x, d = arrays_of(problem)
    gradient = Truncated(window=window).estimate(problem, algorithm, DEPTH).gradient.numpy()
    step, accelerated = 1 / oracles.lipschitz_constant(d), algorithm.name == "fista"
    options = {"accelerated": accelerated, "window": window, "frozen": d}

    def value(at):
        return oracles.unrolled_loss(x, at, PENALTY, problem.loss, step, DEPTH, **options)

    for direction in directions(d.shape):
        error = (gradient * direction).sum() - oracles.complex_step(value, d, direction)
        assert abs(error) < tolerances.COMPLEX_STEP * np.linalg.norm(gradient)


@pytest.mark.parametrize("windows", [[0], [3, -1], [1.5]], ids=str)
def test_impossible_windows_are_refused(problem, windows):
    with pytest.raises(pudle.InvalidArgument, match="windows=.*>= 1"):
        list(Truncated.sweep_windows(problem, pudle.Ista(), 4, windows))


def test_floor_falls_with_the_window():
    """On the reconstruction loss the error has a floor, about the contraction factor to the power
    of the window.
    """
    problem = sparse_problem("reconstruction")
    reference = pudle.reference(problem)
    floors = [
        pudle.score(estimate, reference).relative_error
        for _, estimate in Truncated.sweep_windows(problem, pudle.Ista(), 2000, [1, 10, 30, 100])
    ]
    assert (np.diff(floors) < 0).all()
    assert floors[0] > 0.1 and floors[-1] < 0.1 * floors[0]


def test_one_step_is_a_window_of_one(problem, algorithm):
    one_step, window, direct = (
        pudle.make_estimator(spec).estimate(problem, algorithm, 30).gradient
        for spec in ("one_step", "truncated(window=1)", "alternating")
    )
    assert relative(one_step, window) < tolerances.SAME_ARITHMETIC
    assert relative(one_step, direct) > VISIBLE
