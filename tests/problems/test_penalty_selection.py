"""Penalty selection by held-out error, against closed forms and differences of the exact loss."""

import dataclasses

import numpy as np
import pytest
import torch
from support.oracles import in_numpy, tolerances
from support.problems.small_problems import penalty_selection

import pudle


def held_out_loss(problem, log_penalty, signs):
    """Held-out loss at the exact minimizer in extended precision; column j is divided by the
    penalty of entry j.
    """
    weights = np.broadcast_to(np.exp(log_penalty.astype(np.longdouble)), (problem.design.shape[1],))
    design = problem.design.numpy().astype(np.longdouble) / weights
    codes = in_numpy.polish(problem.observations.numpy(), design, 1.0, signs) / weights
    assert (np.sign(codes) == signs).all(), "the support moved within the difference step"
    residual = (
        codes @ problem.held_out_design.numpy().T.astype(np.longdouble)
        - problem.held_out_observations.numpy()
    )
    return np.square(residual).sum() / 2 / len(codes)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("nonnegative", [False, True])
def test_reference_against_central_differences(weighted, nonnegative):
    problem = penalty_selection(weighted, nonnegative=nonnegative)
    reference = pudle.reference(problem)
    assert reference.status == "certified", reference.reason
    assert reference.gradient.shape == problem.log_penalty.shape
    assert reference.bound < tolerances.USEFUL_BOUND
    signs = reference.codes.sign().numpy().astype(float)
    theta = problem.log_penalty.numpy()
    axes = np.eye(theta.size).reshape(theta.size, *theta.shape)
    truth = [
        float(
            in_numpy.central_difference(lambda at: held_out_loss(problem, at, signs), theta, axis)
        )
        for axis in axes
    ]
    error = np.linalg.norm(reference.gradient.numpy().ravel() - truth)
    assert error < tolerances.EXACT_CENTRAL_DIFFERENCES * np.linalg.norm(truth)


def test_zero_codes_are_degenerate():
    problem = dataclasses.replace(penalty_selection(), log_penalty=8.0)
    assert problem.log_penalty.dtype == torch.float64
    reference = pudle.reference(problem)
    assert reference.status == "degenerate"
    assert not reference.gradient.any()
