"""NOODL's inner iteration, against the paper's formulas in numpy and against differences."""

import numpy as np
import pytest
from support.oracles.comparisons import refusal
from support.problems.small_problems import arrays_of, sparse_problem

import pudle
from pudle.kernel_choice import VARIABLE

BOUND = 0.8
SPEC = f"noodl(step=0.15, thresholding='hard(threshold=0.08)', lower_bound={BOUND})"


def hard(values, threshold):
    return values * (np.abs(values) > threshold)


def codes_of_the_paper(x, d, layers):
    """Return zero codes, the thresholded D^T x, and the codes after each update."""
    all_codes = [np.zeros((len(x), d.shape[1]))]
    for layer in range(layers):
        codes = np.zeros_like(all_codes[0])
        for index, sample in enumerate(x):
            z = all_codes[-1][index]
            if layer == 0:
                codes[index] = hard(d.T @ sample, BOUND / 2)
                continue
            codes[index] = hard(z - 0.15 * (d.T @ (d @ z - sample)), 0.08)
        all_codes.append(codes)
    return all_codes


@pytest.mark.parametrize("choice", ["numba", "torch"])
@pytest.mark.parametrize("depth", [0, 1, 2, 40])
def test_codes_are_those_of_the_paper(depth, choice, monkeypatch):
    monkeypatch.setenv(VARIABLE, choice)
    problem = sparse_problem()
    expected = codes_of_the_paper(*arrays_of(problem), depth)
    trajectory = pudle.make_algorithm(SPEC).run(problem, depth, keep=range(depth))
    assert sorted(trajectory.states) == list(range(depth + 1))
    for layer, codes in enumerate(expected):
        np.testing.assert_allclose(trajectory.at(layer).numpy(), codes, rtol=0, atol=1e-12)
        assert trajectory.states[layer].iteration == layer


def test_a_warm_start_is_refused():
    problem = sparse_problem()
    start = problem.initial_codes()
    for call in (
        lambda: pudle.Noodl(initial=start),
        lambda: pudle.Noodl().run(problem, 3, initial=start),
    ):
        assert "for a warm start use ista" in refusal(call)
