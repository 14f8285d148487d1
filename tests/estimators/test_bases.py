"""The bases of estimators, as an estimator of one's own meets them: what it is handed, in which
order, what is refused.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from comparisons import refusal
from examples import ridge_problem

import pudle
from pudle.estimator import CodesEstimator, averaged_pairs


@dataclass(frozen=True)
class Plain(pudle.GradientEstimator):
    """Writes down what it is asked for; `sweep` and `fingerprint` are those of the base."""

    asked: list = field(default_factory=list)

    def estimate(self, problem, algorithm, depth):
        self.asked.append((problem, algorithm, depth))
        return pudle.Estimate(problem.theta, problem.initial_codes(), {"layers": depth})


@dataclass(frozen=True)
class Mine(CodesEstimator):
    """Gives the gradients 0, 1, ... at as many states as it is told, and refuses FISTA."""

    given: int = 100
    seen: list = field(default_factory=list)

    def check_supported(self, problem, algorithm):
        if not isinstance(problem, pudle.Ridge) or algorithm.name == "fista":
            raise pudle.UnsupportedProblem(f"mine: not known for {algorithm.name}")

    def gradients_at(self, problem, algorithm, states):
        self.seen.append((problem, algorithm, states))
        for number, _ in enumerate(states[: self.given]):
            yield (
                torch.tensor(float(number)),
                {"solves": number} if number else {"layers": 7, "layers_differentiated": 8},
            )


def test_the_sweep_of_the_base_asks_for_every_depth_in_its_turn():
    plain, problem, algorithm = Plain(), ridge_problem(), pudle.Ista()
    assert [
        estimate.diagnostics["layers"] for estimate in plain.sweep(problem, algorithm, [5, 0, 3])
    ] == [5, 0, 3]
    assert plain.asked == [
        (problem, algorithm, 5),
        (problem, algorithm, 0),
        (problem, algorithm, 3),
    ]
    assert plain.fingerprint() == "", "the numbers depend on nothing but the source code"


class TestCodesEstimator:
    def test_it_is_handed_the_codes_at_every_depth(self):
        mine, problem, algorithm = Mine(), ridge_problem(), pudle.Ista()
        estimates = list(mine.sweep(problem, algorithm, [5, 0, 3]))
        ((problem_seen, algorithm_seen, states),) = mine.seen
        assert problem_seen is problem and algorithm_seen is algorithm
        for depth, state, estimate in zip([5, 0, 3], states, estimates, strict=True):
            codes = algorithm.run(problem, depth).codes
            # A layer can go on from the state: its next step starts at the codes.
            assert (
                torch.equal(state.codes, codes)
                and torch.equal(state.point, codes)
                and state.iteration == depth
            )
            assert torch.equal(estimate.codes, codes) and not codes.requires_grad
        assert [float(estimate.gradient) for estimate in estimates] == [0, 1, 2]
        assert [estimate.diagnostics for estimate in estimates] == [
            {"layers": 7, "layers_differentiated": 8},
            {"layers": 0, "layers_differentiated": 0, "solves": 1},
            {"layers": 3, "layers_differentiated": 0, "solves": 2},
        ]
        assert Mine().estimate(problem, algorithm, 4).codes.equal(algorithm.run(problem, 4).codes)

    def test_it_refuses_by_problem_and_algorithm_even_where_there_are_no_depths(self):
        assert not list(Mine().sweep(ridge_problem(), pudle.Ista(), []))
        for depths in ([], [3]):
            text = refusal(
                lambda depths=depths: list(Mine().sweep(ridge_problem(), pudle.Fista(), depths)),
                pudle.UnsupportedProblem,
            )
            assert text == "mine: not known for fista"

    def test_a_gradient_that_is_missing_is_an_error_and_no_shorter_sweep(self):
        with pytest.raises(ValueError, match="argument 2 is shorter"):
            list(Mine(given=1).sweep(ridge_problem(), pudle.Ista(), [3, 5]))


class TestAveragedPairs:
    TERMS = np.array([[[1.0, 2.0], [0.0, 1.0]], [[3.0, 2.0], [5.0, 1.0]], [[2.0, 8.0], [1.0, 1.0]]])

    @pytest.mark.parametrize("count", [2, 3])
    def test_mean_and_standard_error_are_those_of_numpy(self, count):
        terms = self.TERMS[:count]
        found = list(averaged_pairs(map(torch.as_tensor, terms), [4, 6]))
        # The variance of the mean of the terms, summed over the entries.
        errors = np.sqrt(terms.var(0, ddof=1).sum(1) / count)
        for index, (mean, diagnostics) in enumerate(found):
            assert mean.numpy() == pytest.approx(terms.mean(0)[index], rel=1e-14)
            assert diagnostics.pop("standard_error") == pytest.approx(errors[index], rel=1e-12)
            # One run for the codes, and two of each pair.
            assert diagnostics == {
                "layers": (4, 6)[index] * (2 * count + 1),
                "evaluations": 2 * count,
            }

    def test_one_pair_has_no_standard_error_and_equal_pairs_have_none_but_zero(self):
        ((_, diagnostics),) = averaged_pairs([torch.ones(1, 3)], [4])
        assert diagnostics == {"layers": 12, "evaluations": 2}
        # Rounding can make the variance of equal terms negative.
        ((_, diagnostics),) = averaged_pairs([torch.full((1, 3), 0.1)] * 3, [4])
        assert 0 <= diagnostics["standard_error"] < 1e-4

    def test_terms_of_another_number_of_depths_are_an_error(self):
        with pytest.raises(ValueError, match="is longer"):
            list(averaged_pairs([torch.ones(4, 3)], [4, 6]))
