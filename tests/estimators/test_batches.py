"""A gradient over all samples is the weighted mean of those of batches: against the whole at once,
and autograd.
"""

import pytest
import torch
from support.problems.small_problems import (
    elastic_net,
    penalty_selection,
    ridge_problem,
    sparse_problem,
)

import pudle
from pudle.algorithms import Fista, Ista
from pudle.estimator import mean_estimate, split

ESTIMATORS = ("backprop", "truncated(window=3)", "analytic", "conjugate_gradient")
PROBLEMS = {
    "lasso": sparse_problem,
    "reconstruction": lambda: sparse_problem("reconstruction"),
    "elastic net": elastic_net,
    "penalty": penalty_selection,
    "ridge": ridge_problem,
    "images": lambda: pudle.make_dataset(
        "convolutional(n_samples=5, size=16, density=0.1)"
    ).problem(),
}


@pytest.mark.parametrize("kind", PROBLEMS)
def test_batches_of_any_size_give_the_gradient_of_all_samples(kind):
    problem, algorithm = PROBLEMS[kind](), Fista()
    for spec in ESTIMATORS:
        estimator = pudle.make_estimator(spec)
        whole = estimator.estimate(problem, algorithm, 12)
        for size in (1, 4, 1000):
            mean = mean_estimate(estimator, split(problem, size), algorithm, 12)
            error = torch.linalg.norm(mean.gradient - whole.gradient)
            assert error <= 1e-12 * torch.linalg.norm(whole.gradient)
            assert mean.loss == pytest.approx(float(problem.outer_loss(whole.codes)), rel=1e-12)
            samples = problem.code_shape[0]
            assert (mean.samples, mean.batches) == (samples, -(-samples // size))


def test_what_cannot_be_split_or_joined_is_refused():
    problem, estimator = sparse_problem(), pudle.make_estimator("backprop")

    with pytest.raises(pudle.InvalidArgument, match="size"):
        next(split(problem, 0))
    with pytest.raises(pudle.InvalidArgument, match="problems is empty"):
        mean_estimate(estimator, [], Ista(), 3)
    with pytest.raises(pudle.InvalidArgument, match="warm start"):
        mean_estimate(estimator, split(problem, 3), Ista(initial=problem.initial_codes()), 3)
