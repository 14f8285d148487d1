"""The registered estimators with example options, and what tests do with an estimate."""

import pytest

import pudle
from pudle.bench.cases import PEERS
from pudle.conformance.checks import Subject

NAMES = sorted(pudle.list_estimators())
#: Options for estimators that need some, or that cost much by default; all others are made by their
#: bare name.
EXAMPLE_SPECS = {
    "spsa": "spsa(samples=10)",
    "pes": "pes(samples=3, window=3)",
    "truncated": "truncated(window=5)",
    "fixed_point": "fixed_point(terms=20)",
}
#: Options for estimators that reach what they claim in the limit of an option, on small problems.
LIMIT_SPECS = {
    "truncated": "truncated(window=3000)",
    "fixed_point": "fixed_point(terms=1500)",
    "conjugate_gradient": "conjugate_gradient(iterations=300, rtol=1e-15)",
    "spsa": "spsa(samples=50, scale=1e-4)",
    "pes": "pes(samples=50, window=20, scale=1e-4)",
    "phantom": "phantom(steps=1500, damping=1.0)",
    "nystrom": "nystrom(rank=1000, regularization=1e-8)",
}
#: Numbers of layers after which an estimator has reached the exact gradient of every problem, where
#: `CONVERGED_DEPTH` are too few, or more than needed and slow.
DEPTHS = {"spsa": 50, "pes": 50, "finite_difference": 100}
CONVERGED_DEPTH = 200
#: Largest errors, on losses that keep their derivative in the codes, of approximations that nothing
#: makes exact; one that is below `tolerances.CONVERGED` fails too, because it needs no entry. Here
#: the share of 1/T by which DrMAD's line is off, and the regularization of
#: `LIMIT_SPECS` times a condition number.
FLOORS = {"drmad": 0.1, "nystrom": 1e-6}
#: Estimators that treat every problem.
BUILT_IN = {*NAMES} - {*PEERS, "a_posteriori", "first_order", "noodl"}
#: Depth of tests that need the codes to be on their way, neither at the start nor converged.
DEPTH = 30
#: The least relative distance of two gradients that a test calls different, such as those of
#: windows one layer apart.
VISIBLE = 1e-4


def estimate(spec, problem, algorithm, depth=DEPTH):
    """Make the estimator of a spec and estimate."""
    return pudle.make_estimator(spec).estimate(problem, algorithm, depth)


def estimate_or_skip(name, problem, algorithm, depth):
    """Estimate in the limit of an option, or skip if the estimator refuses this problem, which it
    must do in one line that says why.
    """
    try:
        return estimate(LIMIT_SPECS.get(name, name), problem, algorithm, depth)
    except pudle.UnsupportedProblem as refused:
        assert "\n" not in str(refused) and len(str(refused).split()) >= 5
        assert name not in BUILT_IN, "a built-in estimator treats all of these"
        pytest.skip(str(refused))


def on(specimen, spec, depth):
    """Make the estimator of a spec and estimate on a specimen of the checks."""
    return Subject(pudle.make_estimator(spec), specimen).estimate(depth)


def at_minimizer(problem):
    """Return the certified reference, and an algorithm that starts at its codes and stays."""
    reference = pudle.reference(problem)
    assert reference.status == "certified"
    return reference, pudle.Ista(initial=reference.codes)
