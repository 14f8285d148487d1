"""DrMAD: its derivative on the line in numpy, and a problem whose codes do move on a line."""

import dataclasses

import numpy as np
import pytest
from support.estimators.estimator_specs import VISIBLE, on
from support.oracles import tolerances
from support.oracles.comparisons import relative
from support.oracles.in_numpy import TINY, form_of

from pudle.conformance.specimens import named_specimen, specimens

DEPTH = 12


def derivative_on_the_line(specimen, direction):
    """Carry a tangent forward through layers that are linearized on the line, with steps into the
    complex plane.
    """
    form = form_of(specimen)
    theta = form.theta + 1j * TINY * direction
    states = [form.state(depth) for depth in range(DEPTH + 1)]
    first, last = states[0], states[-1]
    tangents = np.zeros((2, *last.codes.shape))
    for index, state in enumerate(states[:-1]):
        share = index / DEPTH
        moved = {
            name: (1 - share) * getattr(first, name)
            + share * getattr(last, name)
            + 1j * TINY * each
            for name, each in zip(("codes", "point"), tangents, strict=True)
        }
        after = form.run(theta, range(index, index + 1), dataclasses.replace(state, **moved))
        tangents = np.stack([after.codes.imag, after.point.imag]) / TINY
    return complex(form.loss(last.codes + 1j * TINY * tangents[0], theta)).imag / TINY


@pytest.mark.parametrize(
    "specimen",
    specimens("sparse coding", "penalty", "ridge", algorithms=("ista", "fista")),
    ids=str,
)
def test_layers_are_differentiated_on_the_line(specimen):
    gradient = on(specimen, "drmad", DEPTH).gradient.numpy()
    assert relative(gradient, form_of(specimen).unrolled(DEPTH)) > VISIBLE, (
        "the codes are not on the line"
    )
    direction = np.random.default_rng(0).standard_normal(gradient.shape)
    expected, size = derivative_on_the_line(specimen, direction), np.linalg.norm(gradient)
    error = abs((gradient * direction).sum() - expected) / np.linalg.norm(direction)
    assert error < tolerances.COMPLEX_STEP * size


def test_the_error_falls_as_one_over_the_depth_where_the_loss_keeps_its_derivative():
    """On ridge regression, by a factor of about two from one depth to its double; rates of layers
    would give far more.
    """
    specimen = named_specimen("ridge", "linear")
    errors = [
        relative(on(specimen, "drmad", depth).gradient, form_of(specimen).unrolled(depth))
        for depth in (200, 400)
    ]
    assert 1.8 < errors[0] / errors[1] < 2.2
