"""FISTA and its restarts, against an implementation in numpy."""

import numpy as np
import oracles
import tolerances
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


def test_restart_is_per_sample():
    problem, depth = sparse_problem(), 60
    x, d = arrays_of(problem)
    alone = [restarted_codes(sample, d, 1 / problem.lipschitz_constant, depth) for sample in x]
    mine = pudle.Fista(restart=True).run(problem, depth).codes.numpy()
    assert np.abs(mine - [codes for codes, _ in alone]).max() < tolerances.SAME_ARITHMETIC
    assert len({tuple(restarts) for _, restarts in alone}) > 10, "samples restart each on its own"
