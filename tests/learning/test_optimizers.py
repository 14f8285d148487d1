"""Optimizers and schedules: steps that agree with numpy, rates that agree with closed forms."""

import numpy as np
import pytest
import torch
from support.oracles.tolerances import CLOSED_FORM, SAME_ARITHMETIC
from support.problems.learning import OPTIMIZERS, planted
from support.problems.small_problems import arrays_of, sparse_problem

from pudle import Learner
from pudle.learning.run import LearningRun


@pytest.mark.parametrize(
    "optimizer, tangent",
    [
        ("adam(learning_rate=0.01, epsilon=1e-3)", False),
        ("adam(learning_rate=0.01, epsilon=1e-3, tangent=True)", True),
    ],
)
def test_a_step_of_adam_against_numpy(optimizer, tangent):
    problem = sparse_problem()
    x, d = arrays_of(problem)
    codes = np.zeros((len(x), d.shape[1]))
    for _ in range(12):
        values = codes - 0.1 * (codes @ d.T - x) @ d
        codes = np.sign(values) * np.maximum(np.abs(values) - 0.1 * problem.penalty, 0)
    gradient = (codes @ d.T - x).T @ codes / len(x)
    if tangent:
        gradient -= d * (d * gradient).sum(0)
    # Its first step is the gradient over its own size, whatever the decays.
    expected = d - 0.01 * gradient / (np.abs(gradient) + 1e-3)
    expected /= np.linalg.norm(expected, axis=0)
    learner = Learner("alternating", "ista(step=0.1)", 12, optimizer, epochs=1)
    training = learner.fit(problem)
    difference = np.linalg.norm(training.dictionary.numpy() - expected)
    assert difference / np.linalg.norm(expected) < SAME_ARITHMETIC
    row = training.history.iloc[-1]
    assert row.gradient_norm == pytest.approx(np.linalg.norm(gradient), rel=CLOSED_FORM)
    assert row.moved == pytest.approx(np.linalg.norm(expected - d), rel=CLOSED_FORM)


def test_a_line_search_sees_the_gradient_at_unit_atoms():
    # A fixed step: one of 1/L moves with the dictionary, which estimators hold constant.
    learner = Learner("backprop", "ista(step=0.1)", 20, "lbfgs", epochs=3)
    run = LearningRun(learner, sparse_problem("reconstruction"))
    scaled = run.start * torch.linspace(0.5, 2, run.start.shape[1], dtype=torch.float64)
    direction = torch.as_tensor(np.random.default_rng(5).standard_normal(scaled.shape))

    def evaluated(t):
        run.theta.data.copy_(scaled + t * direction)
        return run.evaluate(learner.parts.estimator, *run.batch(0))

    gradient, h = evaluated(0).gradient, 1e-6
    slope = (evaluated(h).loss - evaluated(-h).loss) / (2 * h)
    assert float((gradient * direction).sum()) == pytest.approx(slope, rel=1e-6)
    # Nothing changes along an atom.
    assert float((gradient * scaled).sum(0).abs().max()) < 1e-12


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_lowers_the_loss_and_the_error(optimizer):
    # L-BFGS without batches: its curvature pairs must belong to one function.
    batch = None if optimizer == "lbfgs" else 60
    training = Learner("backprop", "ista(step=0.2)", 20, optimizer, epochs=15, batch=batch).fit(
        planted(n_samples=200)
    )
    history = training.history
    assert training.status == "ok" and training.reason == ""
    assert history.loss.iloc[-1] < 0.95 * history.loss.iloc[1]
    assert history.dictionary_error.iloc[-1] < history.dictionary_error.iloc[0]


@pytest.mark.parametrize(
    "schedule, expected",
    [
        ("constant", [1, 1, 1, 1, 1, 1]),
        ("step(every=2, factor=0.5)", [1, 1, 0.5, 0.5, 0.25, 0.25]),
        ("cosine", [(1 + np.cos(np.pi * epoch / 6)) / 2 for epoch in range(6)]),
        ("cosine(final=0.05)", [0.5 + (1 + np.cos(np.pi * epoch / 6)) / 4 for epoch in range(6)]),
    ],
)
def test_the_learning_rate_follows_the_schedule(schedule, expected):
    optimizer = "sgd(learning_rate=0.1)"
    learner = Learner("alternating", "ista", 2, optimizer, schedule, epochs=6, batch=100)
    rates = learner.fit(planted(n_samples=200)).history.learning_rate.iloc[1:]
    np.testing.assert_allclose(rates / 0.1, expected, rtol=1e-12)
