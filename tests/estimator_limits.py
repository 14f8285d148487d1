"""Specs of the estimators for small problems, and a helper that skips what an estimator refuses."""

from __future__ import annotations

import pytest
from estimator_specs import NAMES

import pudle

#: Specs with which the estimators reach their limits on small problems.
LIMIT_SPECS = {
    "truncated": "truncated(window=3000)",
    "fixed_point": "fixed_point(terms=1500)",
    "conjugate_gradient": "conjugate_gradient(iterations=300, rtol=1e-15)",
    "spsa": "spsa(samples=50, scale=1e-4)",
}

#: Specs for a finite depth.
FINITE_SPECS = {"truncated": "truncated(window=3)", "fixed_point": "fixed_point(terms=4)", "spsa": "spsa(samples=20)"}

#: Estimators that treat every problem.
BUILT_IN = (
    *("alternating", "analytic", "backprop", "checkpointed", "conjugate_gradient", "finite_difference", "fixed_point"),
    *("forward", "one_step", "spsa", "truncated"),
)

#: Estimators with random directions that depend on the shape of theta.
RANDOM = ("spsa",)

#: Estimators whose estimate is not a random vector.
VECTORS = [name for name in NAMES if name not in RANDOM]

#: Estimators that evaluate difference quotients.
QUOTIENTS = ("spsa", "finite_difference")


def estimate(name: str, specs: dict[str, str], problem, algorithm, depth: int) -> pudle.Estimate:
    """Estimate, or skip if the estimator refuses this problem, which it must do in one line that says why."""
    try:
        return pudle.make_estimator(specs.get(name, name)).estimate(problem, algorithm, depth)
    except pudle.UnsupportedProblem as refused:
        assert "\n" not in str(refused) and len(str(refused).split()) >= 5
        assert name not in BUILT_IN, "a built-in estimator treats all of these"
        pytest.skip(str(refused))
