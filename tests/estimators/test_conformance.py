"""The contract of every registered estimator, built-in or plug-in. Only options name an estimator
here.

The checks themselves are those of `pudle check`. The tests add requirements on registered
estimators, and comparisons that are too slow or too special for that command.
"""

from __future__ import annotations

import re

import numpy as np
import oracles
import pytest
import tolerances
from estimator_specs import EXAMPLE_SPECS, LIMIT_SPECS, NAMES
from examples import PENALTY, arrays_of, directions

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
#: Estimators whose accuracy is that of a difference quotient.
DIFFERENCE_QUOTIENTS = {"finite_difference", "spsa"}

#: Checks that take seconds for each estimator, and the estimators for which every run of the tests
#: carries them out.
LONG = {"claim", "window", "form", "mean", "consistency", "samples"}
ALWAYS = {"alternating", "analytic"}

SPECS = [EXAMPLE_SPECS.get(name, name) for name in NAMES]


def checked() -> list:
    """Return every estimator with every check; the nightly run alone has those that take minutes."""
    return [
        pytest.param(
            spec,
            check,
            marks=(
                [pytest.mark.nightly]
                if spec in VARIANTS or (check in LONG and spec not in ALWAYS)
                else []
            ),
        )
        for spec in [*SPECS, *VARIANTS]
        for check in conformance.CHECKS
    ]


IMPLICIT = [
    name for name in NAMES if name in LIMITS or pudle.list_estimators()[name].computes == "implicit"
]


def relative(actual, expected) -> float:
    """Return the distance over the norm of what is expected; the distance itself where that is
    zero.
    """
    actual, expected = np.asarray(actual), np.asarray(expected)
    size = np.linalg.norm(expected)
    return float(np.linalg.norm(actual - expected) / (size if size else 1))


def estimate(estimator, problem, algorithm, depth) -> pudle.Estimate:
    """Return the estimate, or skip where the estimator refuses this kind of problem."""
    try:
        return estimator.estimate(problem, algorithm, depth)
    except pudle.UnsupportedProblem as refusal:
        pytest.skip(str(refusal))


@pytest.fixture(params=SPECS)
def estimator(request) -> pudle.GradientEstimator:
    return pudle.make_estimator(request.param)


@pytest.fixture(params=NAMES)
def estimator_at_its_limit(request) -> pudle.GradientEstimator:
    return pudle.make_estimator(LIMIT_SPECS.get(request.param, request.param))


class TestConformance:
    """What an estimator must do on every problem it accepts."""

    @pytest.mark.parametrize(("spec", "check"), checked())
    def test_check(self, spec, check):
        records = conformance.check(pudle.make_estimator(spec), names=(check,))
        failed = [record for record in records if record.status == "failed"]
        assert not failed, f"{len(failed)} of {len(records)} failed, the first being {failed[0]}"

    def test_describes_itself(self, estimator):
        cls = type(estimator)
        assert pudle.list_estimators()[cls.name] is cls
        # Authors, title, and where and when it was published.
        reference = re.compile(r"[A-Z][a-z].+, .+,? (\d{4}|arXiv \d{4}\.\d{5})")
        assert cls.references and all(reference.fullmatch(text) for text in cls.references)
        assert (cls.__doc__ or "").strip()
        arguments = names.text(estimator).removeprefix(estimator.name)
        for alias in cls.aliases:
            assert pudle.make_estimator(alias + arguments) == estimator

    # --- its claim, against central differences of exact minimizers and closed forms

    @pytest.mark.parametrize("estimator_at_its_limit", IMPLICIT, indirect=True)
    def test_implicit_claim_at_converged_codes(self, estimator_at_its_limit, problem):
        """At the minimizer the implicit function theorem gives the gradient of the exact
        minimizer's loss.
        """
        estimator = estimator_at_its_limit
        x, d = arrays_of(problem)
        result = estimate(estimator, problem, pudle.Ista(), 3000)
        exact = oracles.exact_codes(x, d, PENALTY)
        assert np.abs(result.codes.numpy() - exact).max() < tolerances.CONVERGED
        signs = np.sign(exact).astype(float)
        gradient = result.gradient.numpy()
        for direction in directions(d.shape):
            expected = oracles.central_difference(
                lambda at: oracles.exact_loss(x, at, PENALTY, problem.loss, signs), d, direction
            )
            actual = float((gradient * direction).sum())
            assert abs(actual - float(expected)) < tolerances.CENTRAL_DIFFERENCES * np.linalg.norm(
                gradient
            )

    @pytest.mark.parametrize("depth", [1, 7, 60])
    @pytest.mark.parametrize("fraction", [0.4, 1.7], ids="step={}/L".format)
    def test_claim_on_ridge(self, estimator_at_its_limit, ridge, depth, fraction):
        """Ridge regression has a closed form at every depth and for every claim."""
        estimator = estimator_at_its_limit
        x, d, c = (
            tensor.numpy() for tensor in (ridge.observations, ridge.dictionary, ridge.weights)
        )
        step = fraction / (oracles.lipschitz_constant(d) + ridge.strength)
        oracle = oracles.RidgeOracle(x, d, ridge.strength, c, step)
        claim = LIMITS.get(estimator.name, estimator.computes)
        if claim in ("stochastic", "approximate"):
            pytest.skip(
                "neither a random vector nor an approximation has a closed form: see the"
                " estimator's own tests"
            )
        result = estimate(estimator, ridge, pudle.Ista(step=step), depth)
        assert relative(result.codes, oracle.codes(depth)) < tolerances.CLOSED_FORM
        expected = {
            "direct": lambda: 0.0,
            "unrolled": lambda: oracle.unrolled(depth),
            "truncated": lambda: oracle.truncated(
                depth, result.diagnostics["layers_differentiated"]
            ),
            "implicit": lambda: oracle.implicit(depth),
            "exact": oracle.exact,
        }[claim]()
        quotient = estimator.name in DIFFERENCE_QUOTIENTS
        tolerance = tolerances.DIFFERENCE_QUOTIENT if quotient else tolerances.CLOSED_FORM
        assert abs(float(result.gradient) - expected) < tolerance * abs(oracle.exact())
