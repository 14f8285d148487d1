"""Gaussian smoothing: its mean, its standard error and its random stream."""

from __future__ import annotations

import pytest
import torch
from comparisons import relative
from estimator_specs import estimate, on
from tolerances import CLOSED_FORM, SAME_ARITHMETIC

import pudle
from pudle import streams
from pudle.conformance.specimens import named


def test_draws_come_from_its_own_stream(problem):
    gradient = estimate("spsa(samples=1, seed=4)", problem, pudle.Ista(), 10).gradient
    draw = streams.generator(4, "estimator spsa").standard_normal(gradient.numel())
    cosine = float(torch.cosine_similarity(gradient.reshape(-1), torch.as_tensor(draw), dim=0))
    assert abs(cosine) == pytest.approx(1, abs=SAME_ARITHMETIC)


def test_es_single_is_the_same_for_a_loss_at_the_end():
    """Particles that keep one perturbation and advance three layers at a time, in numpy: the last
    estimate is this one.
    """
    specimen, scale = named("sparse coding", "reconstruction"), 0.05
    form, total = specimen.form, 0.0
    random = streams.generator(2, "estimator spsa")
    for _ in range(4):
        direction = random.standard_normal(form.theta.shape)
        losses = []
        for sign in (1, -1):
            theta, state = form.theta + sign * scale * direction, form.state(0)
            for start in (0, 3, 6):
                state = form.run(theta, range(start, start + 3), state)
            losses.append(float(form.loss(state.codes, theta)))
        total = total + (losses[0] - losses[1]) / (2 * scale) * direction / 4
    actual = on(specimen, f"es_single(samples=4, scale={scale}, seed=2)", 9).gradient
    assert relative(actual, torch.as_tensor(total)) < CLOSED_FORM
