"""The bases of estimators, as an estimator of one's own meets them: what it is handed, in which
order.
"""

from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from support.problems.small_problems import ridge_problem, sparse_problem

import pudle
from pudle.estimator import CodesEstimator


@dataclass(frozen=True)
class Plain(pudle.GradientEstimator):
    """Reports the depth; `sweep` and `fingerprint` are those of the base."""

    def estimate(self, problem, algorithm, depth):
        return pudle.Estimate(problem.theta, problem.initial_codes(), {"layers": depth})


@dataclass(frozen=True)
class Mine(CodesEstimator):
    """Gives the gradients 0, 1, ... at as many states as it is told."""

    most: int = 100
    seen: list = field(default_factory=list)

    def gradients_at(self, problem, algorithm, states):
        self.seen.extend(states)
        for number, _ in enumerate(states[: self.most]):
            yield torch.tensor(float(number)), {"solves": number} if number else {"layers": 7}


def test_the_sweep_of_the_base_asks_for_every_depth_in_its_turn():
    swept = Plain().sweep(ridge_problem(), pudle.Ista(), [5, 0, 3])
    assert [estimate.diagnostics["layers"] for estimate in swept] == [5, 0, 3]
    assert Plain().fingerprint() == "", "the numbers depend on nothing but the source code"


def test_estimators_from_codes_are_handed_the_codes_at_every_depth():
    mine, problem, algorithm, depths = Mine(), ridge_problem(), pudle.Ista(), [5, 0, 3]
    estimates = list(mine.sweep(problem, algorithm, depths))
    for depth, state, estimate in zip(depths, mine.seen, estimates, strict=True):
        codes = algorithm.run(problem, depth).codes
        # A layer can go on from the state: its next step starts at the codes.
        assert torch.equal(state.codes, codes) and torch.equal(state.point, codes)
        assert state.iteration == depth
        assert torch.equal(estimate.codes, codes) and not codes.requires_grad
    assert [float(estimate.gradient) for estimate in estimates] == [0, 1, 2]
    assert [estimate.diagnostics for estimate in estimates] == [
        {"layers": 7, "layers_differentiated": 0},
        {"layers": 0, "layers_differentiated": 0, "solves": 1},
        {"layers": 3, "layers_differentiated": 0, "solves": 2},
    ]


def test_a_gradient_that_is_missing_is_an_error_and_no_shorter_sweep():
    assert not list(Mine().sweep(ridge_problem(), pudle.Ista(), []))
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        list(Mine(most=1).sweep(ridge_problem(), pudle.Ista(), [3, 5]))


def smoothed(samples, problem):
    """Return the gradient and the diagnostics of a mean over pairs, at two depths."""
    estimator = pudle.make_estimator(f"spsa(samples={samples})")
    results = estimator.sweep(problem, pudle.Ista(), [4, 6])
    return [(each.gradient.numpy(), each.diagnostics) for each in results]


@pytest.mark.parametrize("count", [2, 3])
def test_mean_and_standard_error_of_pairs_are_those_of_numpy(count):
    """More pairs begin with the same ones, so that each is known from the means before and after
    it.
    """
    means = [smoothed(samples, sparse_problem(n=4)) for samples in range(1, count + 1)]
    for index, (mean, diagnostics) in enumerate(means[-1]):
        totals = np.array([samples * each[index][0] for samples, each in enumerate(means, 1)])
        pairs = np.diff(totals, axis=0, prepend=0 * totals[:1])
        assert mean == pytest.approx(pairs.mean(0), rel=1e-9)
        # The variance of the mean of the pairs, summed over the entries.
        error = np.sqrt(pairs.var(0, ddof=1).sum() / count)
        assert diagnostics["standard_error"] == pytest.approx(error, rel=1e-9)
        # One run for the codes, and two of each pair.
        layers = (4, 6)[index] * (2 * count + 1)
        assert diagnostics["layers"] == layers and diagnostics["evaluations"] == 2 * count


def test_one_pair_has_no_standard_error():
    ((_, diagnostics), _) = smoothed(1, sparse_problem(n=4))
    assert diagnostics == {"layers": 12, "layers_differentiated": 0, "evaluations": 2}
