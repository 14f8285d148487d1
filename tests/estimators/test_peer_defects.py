"""Known defects of other libraries, each with the number that was measured, so that a repair
upstream is noticed.
"""

from __future__ import annotations

import dataclasses

import pytest
import tolerances
import torch
from comparisons import relative
from estimator_specs import at_minimizer
from examples import sparse_problem

import pudle
from pudle.algorithms.unrolling import direct_gradients

pytestmark = pytest.mark.nightly


def known_defect(what: str, measured: float, recorded: float, within: float, right: float) -> None:
    """Report a defect as an expected failure if it is still the recorded one.

    Parameters
    ----------
    what : str
        Library, version and defect.
    measured, recorded : float
        The number that shows the defect, now and when it was recorded.
    within : float
        Factor that the number may differ by.
    right : float
        The number without the defect, or its upper bound where the number is an error.
    """
    text = f"{what}: measured {measured:.3g}, recorded {recorded:.3g}, right {right:.3g}"
    if abs(measured) <= right * (1 + 1e-6):
        pytest.fail(f"{text}: fixed upstream: remove this test and the remarks in docstrings")
    assert recorded / within <= measured <= recorded * within, f"{text}: it has changed"
    pytest.xfail(text)


@pytest.mark.parametrize(
    ("spec", "recorded"),
    [
        # The system is not symmetric, and the solver does not warn: more iterations make it worse.
        ("jaxopt_implicit(solver='cg', iterations=100)", 0.17),
        ("jaxopt_implicit(solver='cg', iterations=5000)", 5.8),
        # It adds 1e-4 to squared residuals, even to small ones.
        ("torchdeq_implicit(solver='anderson')", 1.4e-3),
    ],
)
def test_solvers_stop_short_or_diverge_on_the_fixed_point(spec, recorded):
    problem = sparse_problem("reconstruction")
    reference, algorithm = at_minimizer(problem)
    gradient = pudle.make_estimator(spec).estimate(problem, algorithm, 1).gradient
    error = relative(gradient, reference.gradient)
    known_defect(f"jaxopt 0.8.5, torchdeq 0.1.0: error of {spec}", error, recorded, 5, 1e-6)


def test_torchdeq_broyden_is_not_a_number_where_samples_converge_apart():
    """Each sample alone is solved. Together, samples that have converged divide zero by zero until
    all have.
    """
    problem = sparse_problem("reconstruction", nonnegative=True)
    reference, algorithm = at_minimizer(problem)
    estimator = pudle.make_estimator("torchdeq_implicit(solver='broyden', iterations=100)")
    rows = slice(8, 9)
    one = {"observations": problem.observations[rows], "generating_codes": None}
    alone, start = dataclasses.replace(problem, **one), pudle.Ista(initial=reference.codes[rows])
    expected = pudle.make_estimator("analytic").estimate(alone, start, 1).gradient
    gradient = estimator.estimate(alone, start, 1).gradient
    assert relative(gradient, expected) < tolerances.PEER_SOLVE
    together = estimator.estimate(problem, algorithm, 1).gradient
    bad = float((~torch.isfinite(together)).double().mean())
    known_defect("torchdeq 0.1.0: share of NaN by Broyden's method", bad, 1.0, 2, 0.0)


def test_optimistix_lu_returns_garbage_on_singular_systems():
    """At depth one every atom is active. LU does not fail, and returns a gradient that is far too
    large.
    """
    problem, estimator = sparse_problem(), pudle.make_estimator("optimistix_implicit(solver='lu')")
    estimate = estimator.estimate(problem, pudle.Ista(), 1)
    direct, _ = direct_gradients(problem, estimate.codes)
    ratio = float(torch.linalg.norm(estimate.gradient) / torch.linalg.norm(direct))
    # Rounding decides how large: between 1e10 and 1e20 it is the same defect.
    known_defect("optimistix 0.1.0: size by LU over the direct part's", ratio, 1e15, 1e5, 100)
