"""Derivatives through the layers of every algorithm, against central differences of its loss."""

import dataclasses

import numpy as np
import pytest
import torch
from support.oracles import tolerances
from support.problems.convolutions import thresholded
from support.problems.small_problems import directions, sparse_problem

import pudle

INITIAL = torch.tensor(np.random.default_rng(11).standard_normal((40, 18)))
NOODL = "noodl(step=0.15, thresholding='hard(threshold=0.08)', lower_bound=0.8)"
THROUGH_ALL = ("backprop", "forward", "checkpointed", "truncated(window=100)")


@pytest.mark.parametrize(
    "make, algorithm, depth",
    [
        (sparse_problem, pudle.Fista(restart=True), 40),
        (sparse_problem, pudle.make_algorithm(NOODL), 6),
        (sparse_problem, pudle.Ista(initial=INITIAL), 8),
        (thresholded, pudle.Fista(), 9),
    ],
)
def test_derivatives_are_central_differences(make, algorithm, depth, loss):
    problem = make(loss)
    algorithm = dataclasses.replace(algorithm, step=algorithm.step_size(problem))
    gradients = [
        pudle.make_estimator(spec).estimate(problem, algorithm, depth).gradient
        for spec in THROUGH_ALL
    ]
    for each in directions(problem.theta.shape):
        direction = torch.tensor(each)
        above, below = (
            moved.outer_loss(algorithm.run(moved, depth).codes)
            for moved in (problem.with_theta(problem.theta + h * direction) for h in (1e-6, -1e-6))
        )
        for gradient in gradients:
            error = float((gradient * direction).sum() - (above - below) / 2e-6)
            assert abs(error) < tolerances.CENTRAL_DIFFERENCES * float(gradient.norm())
