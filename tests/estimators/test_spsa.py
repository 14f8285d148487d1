"""Gaussian smoothing: its mean, its standard error and its random stream."""

from __future__ import annotations

import pytest
import torch
from estimator_specs import estimate, relative
from examples import sparse_problem
from tolerances import CLOSED_FORM, SAME_ARITHMETIC

import pudle
from pudle import streams
from pudle.conformance.specimens import named


@pytest.mark.parametrize("scale", [1e-4, 1e-3, 1e-2])
def test_mean_along_the_gradient_is_right(scale):
    """2000 samples in 20 batches, whose spread gives the standard error; several scales show a
    missing 1/scale.
    """
    problem, depth = sparse_problem("reconstruction"), 5
    expected = estimate("backprop", problem, pudle.Ista(), depth).gradient
    specs = [f"spsa(samples=100, scale={scale}, seed={seed})" for seed in range(20)]
    unit = expected / expected.norm()
    batches = torch.stack(
        [(estimate(spec, problem, pudle.Ista(), depth).gradient * unit).sum() for spec in specs]
    )
    standard_error = batches.std() / len(batches) ** 0.5
    assert standard_error < 0.06 * expected.norm(), "the check has power"
    assert abs(batches.mean() - expected.norm()) < 4 * standard_error


def test_standard_error_is_right(problem):
    spsa = estimate("spsa(samples=200)", problem, pudle.Ista(), 10)
    error = (spsa.gradient - estimate("backprop", problem, pudle.Ista(), 10).gradient).norm()
    assert 0.7 < float(error) / spsa.diagnostics["standard_error"] < 1.4
    assert "standard_error" not in estimate("spsa(samples=1)", problem, pudle.Ista(), 2).diagnostics


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
    estimator = pudle.make_estimator(f"es_single(samples=4, scale={scale}, seed=2)")
    assert relative(specimen.estimate(estimator, 9).gradient, torch.as_tensor(total)) < CLOSED_FORM
