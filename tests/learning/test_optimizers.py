"""Optimizers and schedules: steps that agree with numpy, rates that agree with closed forms."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from examples import arrays_of, sparse_problem
from learning_helpers import OPTIMIZERS, planted
from tolerances import CLOSED_FORM, SAME_ARITHMETIC

import pudle
from pudle import Learner
from pudle.algorithms.unrolling import direct_gradients
from pudle.learning.run import LearningRun
from pudle.names import entries


def test_every_optimizer_and_schedule_is_tested():
    assert {spec.partition("(")[0] for spec in OPTIMIZERS} == set(entries("optimizers"))
    assert set(entries("schedules")) == {"constant", "step", "cosine"}


@dataclass(frozen=True)
class Along(pudle.GradientEstimator):
    """Alternating's gradient, and a multiple of the atoms."""

    factor: float

    name = "along"
    computes = "direct"

    def estimate(self, problem, algorithm, depth):
        codes = algorithm.run(problem, depth).codes
        return pudle.Estimate(
            direct_gradients(problem, codes)[0] + self.factor * problem.dictionary, codes
        )


class TestStep:
    """One step against numpy."""

    @staticmethod
    def gradient(problem, depth, step):
        x, d = arrays_of(problem)
        codes = np.zeros((len(x), d.shape[1]))
        for _ in range(depth):
            values = codes - step * (codes @ d.T - x) @ d
            codes = np.sign(values) * np.maximum(np.abs(values) - step * problem.penalty, 0)
        return d, (codes @ d.T - x).T @ codes / len(x)

    def check(self, optimizer, advance):
        problem = sparse_problem()
        d, gradient = self.gradient(problem, 12, 0.1)
        moved = advance(d, gradient)
        expected = moved / np.linalg.norm(moved, axis=0)
        learner = Learner("alternating", "ista(step=0.1)", 12, optimizer, epochs=1)
        training = learner.fit(problem)
        difference = np.linalg.norm(training.dictionary.numpy() - expected) / np.linalg.norm(
            expected
        )
        assert difference < SAME_ARITHMETIC
        row = training.history.iloc[-1]
        assert row.gradient_norm == pytest.approx(np.linalg.norm(gradient), rel=CLOSED_FORM)
        assert row.moved == pytest.approx(np.linalg.norm(expected - d), rel=CLOSED_FORM)

    def test_adam(self):
        # Its first step is the gradient over its own size, whatever the decays.
        self.check(
            "adam(learning_rate=0.01, epsilon=1e-3)", lambda d, g: d - 0.01 * g / (np.abs(g) + 1e-3)
        )

    def test_adam_along_the_sphere(self):
        def advance(d, g):
            g = g - d * (d * g).sum(0)
            return d - 0.01 * g / (np.abs(g) + 1e-3)

        problem = sparse_problem()
        d, gradient = self.gradient(problem, 12, 0.1)
        expected = advance(d, gradient)
        expected /= np.linalg.norm(expected, axis=0)
        for spec in (
            "adam(learning_rate=0.01, epsilon=1e-3, tangent=True)",
            "adamw(learning_rate=0.01, epsilon=1e-3, tangent=True, weight_decay=0)",
        ):
            learned = (
                Learner("alternating", "ista(step=0.1)", 12, spec, epochs=1)
                .fit(problem)
                .dictionary.numpy()
            )
            assert np.linalg.norm(learned - expected) / np.linalg.norm(expected) < SAME_ARITHMETIC

    @pytest.mark.filterwarnings("ignore::pudle.learning.learner.LearningWarning")
    def test_along_the_sphere_the_part_along_the_atoms_has_no_effect(self):
        problem = sparse_problem()

        def learned(factor, optimizer):
            return (
                Learner(Along(factor), "ista(step=0.1)", 5, optimizer, epochs=3)
                .fit(problem)
                .dictionary
            )

        along = "adam(learning_rate=0.01, tangent=True)"
        without = learned(0.0, along)
        np.testing.assert_allclose(learned(1.0, along), without, rtol=0, atol=1e-10)
        # It has an effect where Adam scales the whole gradient entry by entry.
        assert (learned(1.0, "adam(learning_rate=0.01)") - without).abs().max() > 1e-3

    def test_line_search_sees_the_gradient_at_unit_atoms(self):
        problem = sparse_problem("reconstruction")
        # A fixed step: one of 1/L moves with the dictionary, which estimators hold constant.
        learner = Learner("backprop", "ista(step=0.1)", 20, "lbfgs", epochs=3)
        run = LearningRun(learner, problem)
        scaled = run.start * torch.linspace(0.5, 2, run.start.shape[1], dtype=torch.float64)
        direction = torch.as_tensor(np.random.default_rng(5).standard_normal(scaled.shape))

        def loss(t):
            run.theta.data.copy_(scaled + t * direction)
            return run.evaluate(learner.estimator, run.batch(0))[0]

        run.theta.data.copy_(scaled)
        gradient = run.evaluate(learner.estimator, run.batch(0))[1]
        h = 1e-6
        assert float((gradient * direction).sum()) == pytest.approx(
            (loss(h) - loss(-h)) / (2 * h), rel=1e-6
        )
        # Nothing changes along an atom.
        assert float((gradient * scaled).sum(0).abs().max()) < 1e-12


class TestTraining:
    @pytest.mark.parametrize(
        ("optimizer", "batch"),
        # Without L-BFGS on batches: its curvature pairs must belong to one function.
        [(optimizer, None if optimizer == "lbfgs" else 60) for optimizer in OPTIMIZERS],
    )
    def test_every_optimizer_lowers_the_loss_and_the_error(self, optimizer, batch):
        problem = planted(n_samples=200)
        training = Learner("backprop", "ista(step=0.2)", 20, optimizer, epochs=15, batch=batch).fit(
            problem
        )
        history = training.history
        assert training.status == "ok" and training.reason == ""
        assert history.loss.iloc[-1] < 0.95 * history.loss.iloc[1]
        assert history.dictionary_error.iloc[-1] < history.dictionary_error.iloc[0]

    @pytest.mark.parametrize(
        ("schedule", "expected"),
        [
            ("constant", [1, 1, 1, 1, 1, 1]),
            ("step(every=2, factor=0.5)", [1, 1, 0.5, 0.5, 0.25, 0.25]),
            ("cosine", [(1 + np.cos(np.pi * epoch / 6)) / 2 for epoch in range(6)]),
            ("cosine(final=0.01, period=2)", [1, 0.55, 0.1, 0.1, 0.1, 0.1]),
        ],
    )
    def test_the_learning_rate_follows_the_schedule(self, schedule, expected):
        learner = Learner(
            "alternating", "ista", 2, "sgd(learning_rate=0.1)", schedule, epochs=6, batch=100
        )
        rates = learner.fit(planted(n_samples=200)).history.learning_rate.iloc[1:]
        np.testing.assert_allclose(rates / 0.1, expected, rtol=1e-12)
