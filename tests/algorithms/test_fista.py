"""FISTA and its restarts, against an implementation in numpy."""

from __future__ import annotations

import numpy as np
import oracles
import pytest
import tolerances
import torch
from comparisons import relative
from examples import PENALTY, arrays_of, directions, sparse_problem

import pudle
from pudle.algorithms.thresholding import Soft


def restarted_codes(
    x: np.ndarray, d: np.ndarray, step: float, depth: int
) -> tuple[np.ndarray, list[int]]:
    """Restarted FISTA on one sample, and the layers at which it restarted."""
    codes, point, a, restarts = np.zeros(d.shape[1]), np.zeros(d.shape[1]), 1.0, []
    for layer in range(depth):
        after = oracles.soft(point - step * d.T @ (d @ point - x), step * PENALTY)
        following = (1 + np.sqrt(1 + 4 * a * a)) / 2
        if (point - after).real @ (after - codes).real > 0:
            point, a = after, 1.0
            restarts.append(layer)
        else:
            point, a = after + (a - 1) / following * (after - codes), following
        codes = after
    return codes, restarts


class TestFista:
    DEPTH = 60

    def test_bare_is_bitwise_what_it_was(self, monkeypatch):
        monkeypatch.setenv("PUDLE_KERNELS", "torch")
        problem = sparse_problem()
        step = 1 / problem.lipschitz_constant
        codes = point = torch.zeros(problem.code_shape, dtype=torch.float64)
        momentum = 1.0
        for iteration in range(self.DEPTH):
            values = point - step * problem.smooth_gradient(point)
            after = problem.prox(values, step, Soft(), iteration)
            following = (1 + (1 + 4 * momentum**2) ** 0.5) / 2
            point = torch.add(after, after - codes, alpha=(momentum - 1) / following)
            codes, momentum = after, following
        trajectory = pudle.Fista().run(problem, self.DEPTH)
        assert torch.equal(trajectory.codes, codes)
        assert trajectory.states[self.DEPTH].momentum == momentum

    def test_restart_is_per_sample(self):
        problem = sparse_problem()
        x, d = arrays_of(problem)
        step = 1 / problem.lipschitz_constant
        alone = [restarted_codes(sample, d, step, self.DEPTH) for sample in x]
        mine = pudle.Fista(restart=True).run(problem, self.DEPTH).codes.numpy()
        assert np.abs(mine - [codes for codes, _ in alone]).max() < tolerances.SAME_ARITHMETIC
        assert len({tuple(restarts) for _, restarts in alone}) > 10, (
            "samples restart at layers of their own"
        )

    def test_restart_reaches_the_minimizer_sooner(self):
        problem = sparse_problem()
        truth = pudle.reference(problem).codes
        errors = {
            restart: float(
                (pudle.Fista(restart=restart).run(problem, 400).codes - truth).abs().max()
            )
            for restart in (False, True)
        }
        assert errors[True] < 1e-12
        assert errors[False] > 1e3 * errors[True]

    def test_gradient_through_restarts(self, loss):
        problem = sparse_problem(loss)
        x, d = arrays_of(problem)
        algorithm = pudle.Fista(restart=True)
        step = algorithm.step_size(problem)

        def value(at):
            codes = np.array([restarted_codes(sample, at, step, 40)[0] for sample in x])
            return oracles.outer_loss(x, at, codes, PENALTY, loss)

        gradient = (
            pudle.make_estimator("backprop").estimate(problem, algorithm, 40).gradient.numpy()
        )
        for direction in directions(d.shape):
            truth = oracles.complex_step(value, d, direction)
            assert abs((gradient * direction).sum() - truth) < 1e-10 * np.linalg.norm(gradient)

    @pytest.mark.parametrize("name", ["forward", "checkpointed", "truncated(window=100)"])
    def test_unrolled_estimators_agree(self, name, loss):
        problem, algorithm = sparse_problem(loss), pudle.Fista(restart=True)
        truth = pudle.make_estimator("backprop").estimate(problem, algorithm, 40)
        mine = pudle.make_estimator(name).estimate(problem, algorithm, 40)
        assert relative(mine.gradient, truth.gradient) < 1e-12

    def test_windows_start_with_the_momentum_of_their_state(self):
        problem, algorithm = sparse_problem("reconstruction"), pudle.Fista(restart=True)
        cls = pudle.list_estimators()["truncated"]
        for window, estimate in cls.sweep_windows(problem, algorithm, 40, [1, 7, 40]):
            alone = cls(window=window).estimate(problem, algorithm, 40)
            assert relative(estimate.gradient, alone.gradient) < 1e-12

    def test_single_precision_stays_single(self):
        problem = sparse_problem(dtype=torch.float32)
        state = pudle.Fista(restart=True).run(problem, 5).states[5]
        assert state.codes.dtype == state.point.dtype == state.momentum.dtype == torch.float32
