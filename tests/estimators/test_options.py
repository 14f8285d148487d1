"""Refused options, and the count of layers in the diagnostics."""

from dataclasses import dataclass, field

import pytest
from estimator_specs import estimate
from examples import sparse_problem

import pudle


@pytest.mark.parametrize(
    "spec, text",
    [
        ("truncated(window=0)", "window=0 is too small: give a whole number >= 1"),
        ("conjugate_gradient(rtol=0)", "rtol=0 is out of range: give a number > 0"),
        ("spsa(seed=-1)", "seed=-1 is too small: give a whole number >= 0"),
        (
            "fixed_point(terms=2, damping=1.5)",
            "damping=1.5 is out of range: give a number > 0 and <= 1",
        ),
        ("jaxopt_implicit(solver='lu')", "solver='lu' is unknown: choose from normal_cg, cg"),
    ],
)
def test_useless_options_are_refused(spec, text):
    with pytest.raises(pudle.SpecError) as failure:
        pudle.make_estimator(spec)
    assert text in str(failure.value)


@dataclass(frozen=True, eq=False, kw_only=True)
class Counting(pudle.SparseCoding):
    """Sparse coding that records every proximal map: one per layer."""

    calls: list = field(default_factory=list)

    def prox(self, values, step, thresholding, iteration):
        self.calls.append(iteration)
        return super().prox(values, step, thresholding, iteration)


@pytest.mark.parametrize(
    "spec",
    """one_step fixed_point(terms=9) conjugate_gradient forward checkpointed finite_difference
    finite_difference(directions=3) spsa(samples=3)""".split(),
)
def test_layers_are_counted_right(spec, algorithm):
    plain = sparse_problem()
    problem = Counting(
        observations=plain.observations, dictionary=plain.dictionary, penalty=plain.penalty
    )
    assert estimate(spec, problem, algorithm, 7).diagnostics["layers"] == len(problem.calls)
