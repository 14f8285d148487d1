"""The registered estimators with example options, and what tests do with an estimate."""

from __future__ import annotations

import pudle
from pudle.conformance.checks import Subject
from pudle.conformance.specimens import Specimen

NAMES = sorted(pudle.list_estimators())
#: Options for estimators that need some, or that cost much by default; all others are made by their
#: bare name.
EXAMPLE_SPECS = {
    "spsa": "spsa(samples=10)",
    "pes": "pes(samples=3, window=3)",
    "truncated": "truncated(window=5)",
    "fixed_point": "fixed_point(terms=20)",
}
#: Options for estimators that reach what they claim in the limit of an option.
LIMIT_SPECS = EXAMPLE_SPECS | {
    "fixed_point": "fixed_point(terms=1000)",
    "conjugate_gradient": "conjugate_gradient(iterations=100, rtol=1e-15)",
    "phantom": "phantom(steps=1000, damping=1.0)",
    "nystrom": "nystrom(rank=1000, regularization=1e-8)",
}
#: Depth of tests that need the codes to be on their way, neither at the start nor converged.
DEPTH = 30
#: The least relative distance of two gradients that a test calls different, such as those of
#: windows one layer apart.
VISIBLE = 1e-4


def estimate(
    spec: str, problem: pudle.Problem, algorithm: pudle.Algorithm, depth: int = DEPTH
) -> pudle.Estimate:
    """Make the estimator of a spec and estimate."""
    return pudle.make_estimator(spec).estimate(problem, algorithm, depth)


def on(specimen: Specimen, spec: str, depth: int, **changes) -> pudle.Estimate:
    """Make the estimator of a spec and estimate on a specimen of the checks."""
    return Subject(pudle.make_estimator(spec), specimen).estimate(depth, **changes)


def at_minimizer(problem: pudle.SparseCoding) -> tuple[pudle.Reference, pudle.Ista]:
    """Return the certified reference, and an algorithm that starts at its codes and stays."""
    reference = pudle.reference(problem)
    assert reference.status == "certified"
    return reference, pudle.Ista(initial=reference.codes)
