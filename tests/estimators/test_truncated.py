"""Windows of the last layers: many from one backward pass, beyond the depth, and of a single layer."""

from __future__ import annotations

import numpy as np
import oracles
import pytest
import tolerances
import torch
from estimator_specs import VISIBLE, relative
from examples import PENALTY, arrays_of, directions, ridge_problem, sparse_problem

import pudle
from pudle import names
from pudle.estimators.truncated import Truncated

DEPTH = 12
WINDOWS = [1, 2, 5, 11, 12, 13, 100]


@pytest.mark.parametrize(
    "make",
    [lambda loss: sparse_problem(loss), lambda loss: ridge_problem()],
    ids=["sparse", "ridge"],
)
def test_windows_of_one_backward_pass_equal_single_windows(algorithm, loss, make):
    problem = make(loss)
    swept = list(Truncated.sweep_windows(problem, algorithm, DEPTH, WINDOWS))
    assert [window for window, _ in swept] == WINDOWS
    for window, estimate in swept:
        alone = Truncated(window=window).estimate(problem, algorithm, DEPTH)
        assert relative(estimate.gradient, alone.gradient) < tolerances.SAME_ARITHMETIC
        assert relative(estimate.codes, alone.codes) < tolerances.SAME_ARITHMETIC
        assert estimate.diagnostics == alone.diagnostics
        assert not estimate.gradient.requires_grad and not estimate.codes.requires_grad


def test_sweep_of_windows_against_differences(algorithm, problem):
    """The estimate is the derivative of a program whose first layers use a frozen dictionary."""
    x, d = arrays_of(problem)
    step = 1 / oracles.lipschitz_constant(d)
    for window, estimate in Truncated.sweep_windows(problem, algorithm, DEPTH, [1, 3, 7, DEPTH]):

        def value(at, window=window):
            return oracles.unrolled_loss(
                x,
                at,
                PENALTY,
                problem.loss,
                step,
                DEPTH,
                accelerated=algorithm.name == "fista",
                window=window,
                frozen=d,
            )

        size = float(torch.linalg.norm(estimate.gradient))
        for direction in directions(d.shape):
            actual = float((estimate.gradient.numpy() * direction).sum())
            assert (
                abs(actual - oracles.complex_step(value, d, direction))
                < tolerances.COMPLEX_STEP * size
            )


def test_windows_are_sorted_and_unique(algorithm, problem):
    windows = [window for window, _ in Truncated.sweep_windows(problem, algorithm, 4, [3, 1, 3, 2])]
    assert windows == [1, 2, 3]


@pytest.mark.parametrize("window", [DEPTH, DEPTH + 1, 10 * DEPTH])
def test_window_of_the_depth_or_more_is_backprop(algorithm, problem, window):
    full = pudle.make_estimator("backprop").estimate(problem, algorithm, DEPTH)
    estimate = Truncated(window=window).estimate(problem, algorithm, DEPTH)
    assert relative(estimate.gradient, full.gradient) < tolerances.SAME_ARITHMETIC
    assert torch.equal(estimate.codes, full.codes)


@pytest.mark.parametrize("window, differentiated", [(1, 1), (5, 5), (DEPTH, DEPTH), (50, DEPTH)])
def test_diagnostics_say_how_many_layers_were_differentiated(
    algorithm, problem, window, differentiated
):
    """A window above the depth stays in the estimator's options; the diagnostics report what was
    differentiated.
    """
    estimator = Truncated(window=window)
    estimate = estimator.estimate(problem, algorithm, DEPTH)
    assert estimate.diagnostics["layers"] == DEPTH
    assert estimate.diagnostics["layers_differentiated"] == differentiated
    assert estimator.window == window and names.text(estimator) == f"truncated(window={window})"


def test_neighboring_windows_differ():
    """On the reconstruction loss one layer more or less is visible, so that an off-by-one window is
    found.
    """
    problem = sparse_problem("reconstruction")
    estimates = [
        estimate for _, estimate in Truncated.sweep_windows(problem, pudle.Ista(), 40, range(1, 21))
    ]
    for shorter, longer in zip(estimates, estimates[1:], strict=False):
        assert relative(shorter.gradient, longer.gradient) > 1e-4


def test_sweep_equals_single_depths(algorithm, problem):
    """The windows reach the first layer at small depths and do not at large ones."""
    for depth, estimate in zip(
        [3, 5, 9, 20], Truncated(window=5).sweep(problem, algorithm, [3, 5, 9, 20]), strict=True
    ):
        alone = Truncated(window=5).estimate(problem, algorithm, depth)
        assert relative(estimate.gradient, alone.gradient) < tolerances.SAME_ARITHMETIC
        assert torch.equal(estimate.codes, alone.codes)


def test_depth_zero_has_no_layers_to_differentiate(algorithm, problem):
    swept = list(Truncated.sweep_windows(problem, algorithm, 0, [1, 5]))
    for _, estimate in swept:
        assert not estimate.gradient.any()
        assert estimate.diagnostics["layers_differentiated"] == 0


@pytest.mark.parametrize("windows", [[0], [3, -1], [1.5]], ids=str)
def test_impossible_windows_are_refused(problem, windows):
    with pytest.raises(pudle.InvalidArgument, match="windows=.*: give a whole number >= 1"):
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


@pytest.mark.parametrize("depth", [1, 30])
def test_one_step_is_a_window_of_one(problem, algorithm, depth):
    one_step, window, direct = (
        pudle.make_estimator(spec).estimate(problem, algorithm, depth).gradient
        for spec in ("one_step", "truncated(window=1)", "alternating")
    )
    assert relative(one_step, window) < tolerances.SAME_ARITHMETIC
    assert relative(one_step, direct) > VISIBLE
