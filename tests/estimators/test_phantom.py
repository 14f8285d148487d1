"""Both forms of the phantom gradient: their formulas in numpy, and the gradients that they become
in a limit.
"""

from __future__ import annotations

import numpy as np
import pytest
import tolerances
from comparisons import relative

import pudle
from pudle.conformance.oracles import complex_step, derivative, soft
from pudle.conformance.specimens import Specimen

#: Its codes converge to rounding within 600 layers, and the reconstruction loss keeps its
#: derivative in them.
SPECIMEN = Specimen("square", "reconstruction")
CONVERGED = 600


def estimate(spec: str, depth: int) -> np.ndarray:
    return SPECIMEN.estimate(pudle.make_estimator(spec), depth).gradient.numpy()


def slope_at(codes: np.ndarray) -> np.ndarray:
    """Return the derivative of the mean reconstruction loss in the codes."""
    dictionary, _, _ = SPECIMEN.model.parts(SPECIMEN.model.theta)
    return (codes @ dictionary.T - SPECIMEN.model.observations) @ dictionary / len(codes)


def layer(codes: np.ndarray, theta: np.ndarray) -> np.ndarray:
    """Return one plain layer from some codes at some dictionary."""
    model, step = SPECIMEN.model, SPECIMEN.layers.step
    dictionary, penalty, _ = model.parts(theta)
    return soft(
        codes - step * (codes @ dictionary.T - model.observations) @ dictionary, step * penalty
    )


@pytest.mark.parametrize("steps, damping", [(1, 0.5), (4, 0.7), (3, 1.0)])
def test_unrolling_is_the_derivative_of_the_damped_layers(steps, damping):
    """At depth 5, where the supports still change along the damped layers."""
    codes = SPECIMEN.codes(5)

    def contracted(theta: np.ndarray) -> complex:
        at = codes
        for _ in range(steps):
            at = damping * layer(at, theta) + (1 - damping) * at
        return (at * slope_at(codes)).sum()

    expected = SPECIMEN.direct(5) + derivative(contracted, SPECIMEN.model.theta)
    assert (
        relative(estimate(f"phantom(steps={steps}, damping={damping})", 5), expected)
        < tolerances.COMPLEX_STEP
    )


@pytest.mark.parametrize("terms, damping", [(1, 0.5), (4, 0.7), (3, 1.0)])
def test_neumann_form_is_the_damped_series(terms, damping):
    """The Jacobian of a layer is applied by a step into the complex plane, transposed through the
    adjoint's symmetry.
    """
    codes, model = SPECIMEN.codes(5), SPECIMEN.model
    dictionary, _, _ = model.parts(model.theta)
    contraction = np.eye(len(dictionary.T)) - SPECIMEN.layers.step * dictionary.T @ dictionary
    mask = layer(codes, model.theta) != 0
    total = term = slope_at(codes)
    for _ in range(terms - 1):
        term = damping * (mask * term) @ contraction + (1 - damping) * term
        total = total + term
    series = derivative(lambda theta: (layer(codes, theta) * damping * total).sum(), model.theta)
    actual = estimate(f"phantom_neumann(terms={terms}, damping={damping})", 5)
    assert relative(actual, SPECIMEN.direct(5) + series) < tolerances.COMPLEX_STEP


@pytest.mark.parametrize(
    "spec", ["phantom(steps={}, damping=1.0)", "fixed_point(terms={}, damping=1.0)"]
)
@pytest.mark.parametrize("count", [1, 6, 30])
def test_without_damping_both_are_the_last_layers_at_converged_codes(spec, count):
    window = SPECIMEN.unrolled(CONVERGED, count)
    assert relative(estimate(spec.format(count), CONVERGED), window) < tolerances.CONVERGED
    other = SPECIMEN.unrolled(CONVERGED, count + 1)
    assert relative(other, window) > 100 * tolerances.CONVERGED, "one layer more or less shows"


@pytest.mark.parametrize("damping", [0.3, 0.8])
def test_both_forms_agree_at_converged_codes_and_tend_to_the_implicit_gradient(damping):
    implicit, errors = SPECIMEN.implicit(CONVERGED), []
    for count in (5, 50, 1500):
        unrolled = estimate(f"phantom(steps={count}, damping={damping})", CONVERGED)
        series = estimate(f"fixed_point(terms={count}, damping={damping})", CONVERGED)
        assert relative(unrolled, series) < tolerances.CONVERGED
        errors.append(relative(unrolled, implicit))
    assert errors[0] > errors[1] > 1e-4 and errors[2] < tolerances.CONVERGED


@pytest.mark.parametrize("spec", ["phantom(damping={})", "fixed_point(terms=2, damping={})"])
def test_a_damping_outside_its_range_is_refused(spec):
    for damping, text in (
        ("0", "out of range"),
        ("1.5", "damping=1.5 is above 1: give a number in (0, 1]"),
    ):
        with pytest.raises(pudle.SpecError, match=text.replace("(", r"\(").replace("]", r"\]")):
            pudle.make_estimator(spec.format(damping))


def test_the_layer_of_the_oracle_is_that_of_the_package():
    theta = SPECIMEN.model.theta
    assert relative(layer(SPECIMEN.codes(4), theta), SPECIMEN.codes(5)) < tolerances.SAME_ARITHMETIC
    assert complex_step(lambda at: layer(SPECIMEN.codes(4), at).sum(), theta, theta) != 0
