"""Every estimator on every other problem: it reaches the certified reference."""

import functools

import pytest
import torch
from support.estimators.estimator_specs import (
    BUILT_IN,
    CONVERGED_DEPTH,
    DEPTHS,
    FLOORS,
    LIMIT_SPECS,
    NAMES,
    estimate_or_skip,
)
from support.oracles import tolerances
from support.oracles.comparisons import relative
from support.problems.convolutions import supervised
from support.problems.small_problems import elastic_net, penalty_selection

import pudle

PROBLEMS = {
    "convolutional, with targets": lambda: supervised("reconstruction", nonnegative=True),
    "elastic-lasso": elastic_net,
    "weights": lambda: penalty_selection(True),
}


@functools.cache
def reference_of(which):
    return pudle.reference(PROBLEMS[which]())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("which", PROBLEMS)
def test_reaches_the_reference_at_convergence(which, name):
    problem, reference = PROBLEMS[which](), reference_of(which)
    assert reference.status == "certified", reference.reason
    # Other packages' estimators may not know restarts.
    algorithm, depth = pudle.Ista(), 500
    if name in BUILT_IN:
        algorithm, depth = pudle.Fista(restart=True), DEPTHS.get(name, CONVERGED_DEPTH)
    mine = estimate_or_skip(name, problem, algorithm, depth)
    gradient = mine.gradient
    assert gradient.shape == problem.theta.shape and gradient.dtype == torch.float64
    error = relative(gradient, reference.gradient)
    loss = getattr(problem, "loss", None)
    kind = pudle.list_estimators()[name]
    claimed = [loss] if kind.consistent_for is None else kind.consistent_for
    if "standard_error" in mine.diagnostics:
        distance = float((gradient - reference.gradient).norm())
        assert distance < 5 * mine.diagnostics["standard_error"]
    elif kind.computes == "stochastic":
        pytest.skip("one draw tells nothing of the mean, which `pudle check` tests")
    elif name in FLOORS:
        assert error < FLOORS[name] and (loss == "lasso" or error > tolerances.CONVERGED)
    elif name not in LIMIT_SPECS and loss not in claimed:
        # An error stays where those of other losses are claimed to vanish.
        assert 0.01 * bool(claimed) < error < 10
    else:
        quotient = name == "finite_difference"
        limit = tolerances.DIFFERENCE_QUOTIENT if quotient else tolerances.CONVERGED
        assert error < limit, (
            f"after {depth} layers: if it converges more slowly, give it more in `DEPTHS` of"
            " tests/support/estimators/estimator_specs.py"
        )
