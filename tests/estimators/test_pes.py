"""Persistent evolution strategies: each sample in numpy, and its spread."""

import numpy as np
import pytest
from support.estimators.estimator_specs import on
from support.oracles import in_numpy, tolerances
from support.oracles.comparisons import relative

from pudle import streams
from pudle.conformance.specimens import named_specimen

SPECIMEN = named_specimen("sparse coding", "reconstruction")
FORM = in_numpy.form_of(SPECIMEN)


def estimate(spec, depth=8):
    return on(SPECIMEN, spec, depth)


def loss(thetas, window, depth):
    """Return the loss after some layers, each run at the parameter of its segment."""
    state = FORM.state(0)
    for layer in range(depth):
        state = FORM.run(thetas[layer // window], range(layer, layer + 1), state)
    return float(FORM.loss(state.codes, thetas[max(depth - 1, 0) // window]))


@pytest.mark.parametrize(
    "name, window, depth",
    [*(("pes", *each) for each in ((3, 7), (3, 9), (20, 9), (1, 3), (4, 0))), ("es_single", 9, 9)],
)
def test_a_sample_is_the_difference_times_the_sum_of_its_perturbations(name, window, depth):
    """With one perturbation for all layers, each drawn from the same stream, it is `spsa`."""
    scale, theta = 0.05, FORM.theta
    segments = max(depth - 1, 0) // window + 1
    expected, random = np.zeros_like(theta), streams.generator(3, "estimator spsa")
    for sample in range(2):
        if name == "pes":
            random = streams.generator(3, f"estimator pes {sample}")
        drawn = random.standard_normal((segments, *theta.shape))
        above, below = (loss(theta + sign * scale * drawn, window, depth) for sign in (1, -1))
        expected += (above - below) / (2 * scale) * drawn.sum(0) / 2
    own = f", window={window}" if name == "pes" else ""
    gradient = estimate(f"{name}(samples=2, scale={scale}, seed=3{own})", depth).gradient
    assert relative(gradient, expected) < tolerances.CLOSED_FORM


def test_more_segments_add_variance():
    """New perturbations are of no use for one loss at the end: eight segments cost more than twice
    the error of one.
    """
    one, eight = (
        estimate(f"pes(samples=200, window={window})").diagnostics["standard_error"]
        for window in (8, 1)
    )
    assert eight > 2 * one
