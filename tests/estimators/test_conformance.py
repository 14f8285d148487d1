"""The contract of every registered estimator, built-in or plug-in. Only options name an estimator
here.

The checks themselves are those of `pudle check`. The tests add requirements on registered
estimators, and comparisons that are too slow or too special for that command.
"""

from __future__ import annotations

import functools
import re

import numpy as np
import oracles
import pytest
import tolerances
from estimator_specs import EXAMPLE_SPECS, LIMIT_SPECS, NAMES
from examples import PENALTY, arrays_of, directions, sparse_problem

import pudle
from pudle import conformance, names

#: Specs of the same classes with options that change what is claimed.
VARIANTS = (
    "finite_difference(directions=15)",
    "checkpointed(segments=5)",
    "truncated(window=1)",
    "fixed_point(terms=1)",
)
#: What estimators that claim to be approximate compute in the limit of an option, by `LIMIT_SPECS`.
LIMITS = {"fixed_point": "implicit", "phantom": "exact"}
#: The checks that no other test of an estimator repeats; of the others each takes every seventh
#: estimator, and all are nightly.
TELLING = {"description", "no_mutation"}

SPECS = [EXAMPLE_SPECS.get(name, name) for name in NAMES]
CLAIMS = {name: LIMITS.get(name, cls.computes) for name, cls in pudle.list_estimators().items()}


def checked() -> list:
    """Return every estimator with every check; most are nightly, because all take minutes."""
    cases = []
    for row, spec in enumerate((*SPECS, *VARIANTS)):
        for column, check in enumerate(conformance.CHECKS):
            nightly = check not in TELLING and (row + column) % 7
            cases.append(pytest.param(spec, check, marks=[pytest.mark.nightly] if nightly else []))
    return cases


@pytest.mark.parametrize(("spec", "check"), checked())
def test_check(spec, check):
    records = conformance.check(pudle.make_estimator(spec), names=(check,))
    failed = [record for record in records if record.status == "failed"]
    assert not failed, f"{len(failed)} of {len(records)} failed, the first being {failed[0]}"


@pytest.mark.parametrize("spec", SPECS)
def test_it_describes_itself(spec):
    estimator = pudle.make_estimator(spec)
    cls = type(estimator)
    # Authors, title, and where and when it was published.
    reference = re.compile(r"[A-Z][a-z].+, .+,? (\d{4}|arXiv \d{4}\.\d{5})")
    assert cls.references and all(reference.fullmatch(text) for text in cls.references)
    assert (cls.__doc__ or "").strip()
    arguments = names.text(estimator).removeprefix(estimator.name)
    for alias in cls.aliases:
        assert pudle.make_estimator(alias + arguments) == estimator


# --- claims, against central differences of exact minimizers and closed forms


def estimate(name, problem, algorithm, depth) -> pudle.Estimate:
    """Return the estimate at the limit of an option, or skip what the estimator refuses."""
    try:
        estimator = pudle.make_estimator(LIMIT_SPECS.get(name, name))
        return estimator.estimate(problem, algorithm, depth)
    except pudle.UnsupportedProblem as refusal:
        pytest.skip(str(refusal))


@functools.cache
def at_minimizers(loss: str) -> tuple:
    """Return a problem, its exact codes, and directional derivatives of the loss at them."""
    problem = sparse_problem(loss)
    x, d = arrays_of(problem)
    exact = oracles.exact_codes(x, d, PENALTY)
    signs = np.sign(exact).astype(float)

    def value(at):
        return oracles.exact_loss(x, at, PENALTY, loss, signs)

    slopes = [
        (each, float(oracles.central_difference(value, d, each))) for each in directions(d.shape)
    ]
    return problem, exact, slopes


@pytest.mark.parametrize("name", [name for name in NAMES if CLAIMS[name] in ("implicit", "exact")])
def test_implicit_claim_at_converged_codes(name, loss):
    """At the minimizer the implicit function theorem gives the gradient of the exact minimizer's
    loss.
    """
    problem, exact, slopes = at_minimizers(loss)
    result = estimate(name, problem, pudle.Ista(), 3000)
    assert np.abs(result.codes.numpy() - exact).max() < tolerances.CONVERGED
    gradient = result.gradient.numpy()
    for direction, slope in slopes:
        error = abs((gradient * direction).sum() - slope)
        assert error < tolerances.CENTRAL_DIFFERENCES * np.linalg.norm(gradient)


@pytest.mark.parametrize(
    "name", [name for name in NAMES if CLAIMS[name] not in ("stochastic", "approximate")]
)
@pytest.mark.parametrize("depth", [1, 7, 60])
@pytest.mark.parametrize("fraction", [0.4, 1.7], ids="step={}/L".format)
def test_claim_on_ridge(name, ridge, depth, fraction):
    """Ridge regression has a closed form at every depth and for every claim."""
    x, d, c = (each.numpy() for each in (ridge.observations, ridge.dictionary, ridge.weights))
    step = fraction / (oracles.lipschitz_constant(d) + ridge.strength)
    oracle = oracles.RidgeOracle(x, d, ridge.strength, c, step)
    result = estimate(name, ridge, pudle.Ista(step=step), depth)
    codes = oracle.codes(depth)
    error = np.linalg.norm(result.codes.numpy() - codes)
    assert error < tolerances.CLOSED_FORM * np.linalg.norm(codes)
    expected = {
        "direct": lambda: 0.0,
        "unrolled": lambda: oracle.unrolled(depth),
        "truncated": lambda: oracle.truncated(depth, result.diagnostics["layers_differentiated"]),
        "implicit": lambda: oracle.implicit(depth),
        "exact": oracle.exact,
    }[CLAIMS[name]]()
    quotient = "evaluations" in result.diagnostics
    tolerance = tolerances.DIFFERENCE_QUOTIENT if quotient else tolerances.CLOSED_FORM
    assert abs(float(result.gradient) - expected) < tolerance * abs(oracle.exact())
