"""Gaussian smoothing: its mean, its standard error and its random stream."""

import torch
from comparisons import relative
from estimator_specs import on
from oracles import form_of
from tolerances import CLOSED_FORM

from pudle import streams
from pudle.conformance.specimens import named


def test_es_single_is_the_same_for_a_loss_at_the_end():
    """Particles that keep one perturbation and advance three layers at a time, in numpy: the last
    estimate is this one.
    """
    specimen, scale = named("sparse coding", "reconstruction"), 0.05
    form, total = form_of(specimen), 0.0
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
