"""A gradient to a required accuracy: met or `unfinished`, after few more layers than needed."""

import dataclasses
import functools
import math
from collections import Counter
from dataclasses import dataclass

import numpy as np
import pytest
from support.oracles.comparisons import relative

import pudle

SPECS = (
    "quadratic(n_samples=60, n_inner=10, n_outer=4, kappa=2, seed={seed})",
    "logistic(penalty=1.0, seed={seed})",
    "logistic(penalty=1.0, per_feature=True, seed={seed})",
    "hyper_cleaning(n_samples=60, n_validation=40, seed={seed})",
)
ERRORS = tuple(10.0**-power for power in range(1, 7))
#: All of them, and those of every run.
SEEDS, FEW = range(10), range(1)


@functools.cache
def case(spec, seed):
    made = pudle.make_dataset(spec.format(seed=seed)).problem()
    return made, pudle.reference(made)


def estimate(error, problem, algorithm="gradient_descent", depth=3000):
    made = pudle.make_estimator(f"a_posteriori(error={error})")
    return made.estimate(problem, pudle.make_algorithm(algorithm), depth)


def late(spec, seed, algorithm="gradient_descent"):
    """Return for each error whether `analytic` meets it after so few layers that those of
    `a_posteriori` are more than 1.3 times as many.
    """
    problem, reference = case(spec, seed)
    assert reference.status == "certified"
    made = [estimate(error, problem, algorithm) for error in ERRORS]
    for error, mine in zip(ERRORS, made, strict=True):
        assert mine.diagnostics["unfinished"] == 0
        assert relative(mine.gradient, reference.gradient) <= error
    few = [math.ceil(mine.diagnostics["layers"] / 1.3) - 1 for mine in made]
    analytic = pudle.make_estimator("analytic")
    swept = analytic.sweep(problem, pudle.make_algorithm(algorithm), few)
    found = [relative(each.gradient, reference.gradient) for each in swept]
    return [mine <= error for mine, error in zip(found, ERRORS, strict=True)]


@pytest.mark.parametrize("spec", SPECS)
def test_every_error_is_met_after_few_more_layers_than_needed(spec):
    assert np.mean([late(spec, seed) for seed in FEW]) <= 0.5


@pytest.mark.nightly
def test_every_error_is_met_on_many_seeds():
    assert np.mean([late(spec, seed) for spec in SPECS for seed in SEEDS]) <= 0.5


@pytest.mark.parametrize("algorithm", ["accelerated", "newton_cg"])
def test_every_error_is_met_by_other_algorithms(algorithm):
    late(SPECS[0], 0, algorithm)


@dataclass(frozen=True)
class Counting(pudle.GradientDescent):
    """Gradient descent that counts its layers."""

    counted = Counter()

    def advance(self, problem, state, step):
        self.counted.update(layers=1)
        return super().advance(problem, state, step)


def test_a_cap_ends_it_unfinished_at_the_gradient_of_analytic_and_caps_share_a_run():
    problem, _ = case(SPECS[0], 0)
    made, caps = pudle.make_estimator("a_posteriori(error=1e-6)"), [500, 7, 0, 500]
    Counting.counted.clear()
    swept = dict(zip(caps, made.sweep(problem, Counting(), caps), strict=True))
    needed = swept[500].diagnostics["layers"]
    assert 7 < needed < 500 and Counting.counted["layers"] == needed
    for cap, each in swept.items():
        alone = made.estimate(problem, pudle.GradientDescent(), cap)
        assert relative(each.gradient, alone.gradient) == 0
        assert alone.diagnostics == each.diagnostics
        reached = min(cap, needed)
        assert each.diagnostics["unfinished"] == (cap < needed)
        analytic = pudle.make_estimator("analytic").estimate(problem, Counting(), int(reached))
        assert relative(each.gradient, analytic.gradient) < 1e-12


def test_a_state_that_stays_where_it_is_does_not_end_the_run():
    problem, _ = case(SPECS[1], 0)
    hopeless = dataclasses.replace(problem, modulus=lambda theta: 1e-14)
    assert estimate(1e-3, hopeless).diagnostics["unfinished"] == 1
