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
    "pes": "pes(samples=50, window=20, scale=1e-4)",
    "phantom": "phantom(steps=1500, damping=1.0)",
    "nystrom": "nystrom(rank=1000, regularization=1e-8)",
}

#: Specs for a finite depth.
FINITE_SPECS = {"truncated": "truncated(window=3)", "fixed_point": "fixed_point(terms=4)"}
FINITE_SPECS |= {"spsa": "spsa(samples=20)", "pes": "pes(samples=20, window=3)"}

#: Largest errors, on losses that keep their derivative in the codes, of approximations that nothing
#: makes exact: the share of 1/T by which DrMAD's line is off, and the regularization of
#: `LIMIT_SPECS` times a condition number.
FLOORS = {"drmad": 0.1, "nystrom": 1e-6}

#: Estimators that treat every problem.
BUILT_IN = (
    *(
        "alternating",
        "analytic",
        "backprop",
        "checkpointed",
        "conjugate_gradient",
        "drmad",
        "finite_difference",
    ),
    *("fixed_point", "forward", "nystrom", "one_step", "pes", "phantom", "spsa", "truncated"),
)

#: Estimators with random directions that depend on the shape of theta.
RANDOM = ("pes", "spsa")

#: Estimators whose estimate is not a random vector.
VECTORS = [name for name in NAMES if name not in RANDOM]

#: Estimators that evaluate difference quotients.
QUOTIENTS = ("pes", "spsa", "finite_difference")


def estimate(name: str, specs: dict[str, str], problem, algorithm, depth: int) -> pudle.Estimate:
    """Estimate, or skip if the estimator refuses this problem, which it must do in one line that
    says why.
    """
    try:
        return pudle.make_estimator(specs.get(name, name)).estimate(problem, algorithm, depth)
    except pudle.UnsupportedProblem as refused:
        assert "\n" not in str(refused) and len(str(refused).split()) >= 5
        assert name not in BUILT_IN, "a built-in estimator treats all of these"
        pytest.skip(str(refused))
