"""Aliases, refused options, and the count of layers in the diagnostics."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from estimator_specs import estimate
from examples import sparse_problem

import pudle

#: Names in the literature.
ALIASES = {
    "alternating": ("g_dec", "g1", "danskin", "envelope"),
    "analytic": ("implicit", "g3", "ift", "aid"),
    "backprop": ("g_ae", "g2", "automatic", "unrolled", "itd", "ddl"),
    "truncated(window=3)": ("k_rmd(window=3)", "tbptt(window=3)"),
    "one_step": ("jfb", "jacobian_free"),
    "fixed_point(terms=3)": ("neumann(terms=3)", "aid_fp(terms=3)"),
    "conjugate_gradient": ("aid_cg",),
    "forward": ("piggyback", "iterdiff"),
    "checkpointed": ("recursive_checkpointing",),
    "finite_difference": ("numerical",),
    "spsa": ("es", "antithetic", "zero_order"),
}


@pytest.mark.parametrize("spec", ALIASES)
def test_aliases_resolve(spec):
    for alias in ALIASES[spec]:
        assert pudle.make_estimator(alias) == pudle.make_estimator(spec)


@pytest.mark.parametrize(
    "spec, text",
    [
        ("truncated(window=0)", "window=0 is too small: give a whole number >= 1"),
        ("fixed_point(terms=0)", "terms=0 is too small: give a whole number >= 1"),
        ("conjugate_gradient(iterations=0)", "iterations=0 is too small: give a whole number >= 1"),
        ("conjugate_gradient(rtol=0)", "rtol=0 is out of range: give a number > 0"),
        (
            "forward(max_jacobian_entries=0)",
            "max_jacobian_entries=0 is too small: give a whole number >= 1",
        ),
        ("checkpointed(segments=0)", "segments=0 is too small: give a whole number >= 1"),
        ("finite_difference(step=-1)", "step=-1 is out of range: give a number > 0"),
        (
            "finite_difference(max_evaluations=2)",
            "max_evaluations=2 is too small: give a whole number >= 3",
        ),
        ("finite_difference(directions=0)", "directions=0 is too small: give a whole number >= 1"),
        ("spsa(samples=0)", "samples=0 is too small: give a whole number >= 1"),
        ("spsa(scale=0.0)", "scale=0.0 is out of range: give a number > 0"),
        ("spsa(seed=-1)", "seed=-1 is too small: give a whole number >= 0"),
    ],
)
def test_useless_options_are_refused(spec, text):
    with pytest.raises(pudle.SpecError) as failure:
        pudle.make_estimator(spec)
    assert str(failure.value) == f"spec {spec!r}: {text}"


@dataclass(frozen=True, eq=False, kw_only=True)
class Counting(pudle.SparseCoding):
    """Sparse coding that records every proximal map: one per layer."""

    calls: list = field(default_factory=list)

    def prox(self, values, step, thresholding, iteration):
        self.calls.append(iteration)
        return super().prox(values, step, thresholding, iteration)


@pytest.mark.parametrize(
    "spec",
    [
        *(
            "one_step",
            "fixed_point(terms=9)",
            "conjugate_gradient",
            "forward",
            "checkpointed",
            "finite_difference",
        ),
        *("finite_difference(directions=3)", "spsa(samples=3)"),
    ],
)
def test_layers_are_counted_right(spec, algorithm):
    plain = sparse_problem()
    problem = Counting(
        observations=plain.observations, dictionary=plain.dictionary, penalty=plain.penalty
    )
    assert estimate(spec, problem, algorithm, 7).diagnostics["layers"] == len(problem.calls)
