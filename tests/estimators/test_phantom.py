"""The phantom gradient by unrolling, against its formula in numpy."""

import pytest
from support.estimators.estimator_specs import on
from support.oracles import in_numpy, tolerances
from support.oracles.comparisons import relative

import pudle
from pudle.conformance.specimens import named_specimen

#: Its codes converge to rounding within 600 layers, and the reconstruction loss keeps its
#: derivative in them.
SPECIMEN = named_specimen("square", "reconstruction")
FORM = in_numpy.form_of(SPECIMEN)


def estimate(spec, depth):
    return on(SPECIMEN, spec, depth).gradient.numpy()


def slope_at(codes):
    """Return the derivative of the mean reconstruction loss in the codes."""
    return (codes @ FORM.theta.T - FORM.observations) @ FORM.theta / len(codes)


def layer(codes, theta):
    """Return one plain layer from some codes at some dictionary."""
    return FORM.run(theta, range(1), pudle.algorithms.State(codes, codes)).codes


@pytest.mark.parametrize("count, damping", [(1, 0.5), (4, 0.7), (3, 1.0)])
def test_unrolling_is_the_derivative_of_the_damped_layers(count, damping):
    """At depth 5, where the supports still change along the damped layers."""
    codes = FORM.codes(5)

    def contracted(theta):
        at = codes
        for _ in range(count):
            at = damping * layer(at, theta) + (1 - damping) * at
        return (at * slope_at(codes)).sum()

    expected = FORM.unrolled(5, 0) + in_numpy.derivative(contracted, FORM.theta)
    actual = estimate(f"phantom(steps={count}, damping={damping})", 5)
    assert relative(actual, expected) < tolerances.COMPLEX_STEP
