"""The contract of every registered estimator, built-in or plug-in. Only options name an estimator
here.

The checks themselves are those of `pudle check`. The tests add requirements on registered
estimators, and comparisons that are too slow or too special for that command.
"""

import numpy as np
import oracles
import pytest
import tolerances
from estimator_specs import EXAMPLE_SPECS, NAMES, estimate_or_skip

import pudle
from pudle import conformance
from pudle.bench.cases import PEERS

#: Specs of the same classes with options that change what is claimed.
VARIANTS = (
    "finite_difference(directions=15)",
    "checkpointed(segments=5)",
    "truncated(window=1)",
    "fixed_point(terms=1)",
)
#: What estimators that claim to be approximate compute in the limit of an option, by `LIMIT_SPECS`.
LIMITS = {"fixed_point": "implicit", "phantom": "exact", "polished": "exact"}
#: Checks that take seconds for each estimator, and the estimators for which every run of the tests
#: carries them out; of the others such a run takes a fifth,
#: and none of another library. All are nightly.
LONG = {"claim", "mean", "consistency", "samples", "approximation", "repeatable"}
ALWAYS = {"alternating"}

SPECS = [EXAMPLE_SPECS.get(name, name) for name in NAMES]
CLAIMS = {name: LIMITS.get(name, cls.computes) for name, cls in pudle.list_estimators().items()}


def checked():
    """Return every estimator with every check; most are nightly, because they take minutes."""
    cases = []
    for row, spec in enumerate((*SPECS, *VARIANTS)):
        for column, check in enumerate(conformance.CHECKS):
            seldom = spec in PEERS or check in LONG or (row + column) % 5
            nightly = spec not in ALWAYS and seldom
            cases.append(pytest.param(spec, check, marks=[pytest.mark.nightly] if nightly else []))
    return cases


@pytest.mark.parametrize("spec, check", checked())
def test_check(spec, check):
    records = conformance.check(pudle.make_estimator(spec), names=(check,))
    failed = [record for record in records if record.status == "failed"]
    assert not failed, f"{len(failed)} of {len(records)} failed, the first being {failed[0]}"


# --- claims, against central differences of exact minimizers and closed forms


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
    spec = "truncated(window=5)" if name == "truncated" else ""
    result = estimate_or_skip(name, ridge, pudle.Ista(step=step), depth, spec)
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
