"""Persistent evolution strategies: each sample in numpy, the mean, and the prefix of a longer run."""

from __future__ import annotations

import numpy as np
import pytest
import tolerances
from comparisons import relative

import pudle
from pudle import streams
from pudle.conformance.oracles import unroll
from pudle.conformance.specimens import Specimen

SPECIMEN = Specimen("sparse coding", "reconstruction")


def loss(thetas: np.ndarray, window: int, depth: int) -> float:
    """Return the loss after some layers, each run at the parameter of its segment."""
    model, layers = SPECIMEN.model, SPECIMEN.layers
    state = unroll(model.observations, model.parts(model.theta), layers, range(0))
    for layer in range(depth):
        state = unroll(
            model.observations,
            model.parts(thetas[layer // window]),
            layers,
            range(layer, layer + 1),
            state,
        )
    return float(model.loss(state[0], thetas[max(depth - 1, 0) // window]))


@pytest.mark.parametrize("window, depth", [(3, 7), (3, 9), (20, 9), (1, 3), (4, 0)])
def test_a_sample_is_the_difference_times_the_sum_of_its_perturbations(window, depth):
    scale, theta = 0.05, SPECIMEN.model.theta
    segments = max(depth - 1, 0) // window + 1
    expected = np.zeros_like(theta)
    for sample in range(2):
        drawn = streams.generator(3, f"estimator pes {sample}").standard_normal(
            (segments, *theta.shape)
        )
        difference = loss(theta + scale * drawn, window, depth) - loss(
            theta - scale * drawn, window, depth
        )
        expected += difference / (2 * scale) * drawn.sum(0) / 2
    estimator = pudle.make_estimator(f"pes(samples=2, window={window}, scale={scale}, seed=3)")
    assert relative(SPECIMEN.estimate(estimator, depth).gradient, expected) < tolerances.CLOSED_FORM


def test_mean_along_the_gradient_is_right():
    """1000 samples over 50 seeds in three segments; 4 standard errors of a mean are exceeded once
    in 15,000 trials.
    """
    depth, expected = 8, SPECIMEN.unrolled(8)
    unit = expected / np.linalg.norm(expected)
    specs = [f"pes(samples=20, window=3, scale=1e-3, seed={seed})" for seed in range(50)]
    found = [
        float((SPECIMEN.estimate(pudle.make_estimator(spec), depth).gradient.numpy() * unit).sum())
        for spec in specs
    ]
    standard_error = np.std(found, ddof=1) / len(found) ** 0.5
    assert standard_error < 0.1 * np.linalg.norm(expected), "the check has power"
    assert abs(np.mean(found) - np.linalg.norm(expected)) < 4 * standard_error


def test_standard_error_is_that_of_the_vector():
    found = SPECIMEN.estimate(pudle.make_estimator("pes(samples=300, window=4)"), 8)
    error = np.linalg.norm(found.gradient.numpy() - SPECIMEN.unrolled(8))
    assert 0.7 < error / found.diagnostics["standard_error"] < 1.4
    assert (
        "standard_error"
        not in SPECIMEN.estimate(pudle.make_estimator("pes(samples=1)"), 2).diagnostics
    )


def test_more_segments_add_variance():
    """New perturbations are of no use for one loss at the end: eight segments cost more than twice
    the error of one.
    """
    one, eight = (
        SPECIMEN.estimate(
            pudle.make_estimator(f"pes(samples=200, window={window})"), 8
        ).diagnostics["standard_error"]
        for window in (8, 1)
    )
    assert eight > 2 * one
