"""FISTA and its restarts, against an implementation in numpy."""

import numpy as np
import oracles
import tolerances
from comparisons import relative
from examples import PENALTY, arrays_of, sparse_problem

import pudle


def restarted_codes(x, d, step, depth):
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

    def test_windows_start_with_the_momentum_of_their_state(self):
        problem, algorithm = sparse_problem("reconstruction"), pudle.Fista(restart=True)
        cls = pudle.list_estimators()["truncated"]
        for window, estimate in cls.sweep_windows(problem, algorithm, 40, [1, 7, 40]):
            alone = cls(window=window).estimate(problem, algorithm, 40)
            assert relative(estimate.gradient, alone.gradient) < 1e-12
