"""Losses that are functions, and one penalty for each atom, in sparse coding."""

import dataclasses

import numpy as np
import pytest
import torch
from support.oracles import in_numpy, tolerances
from support.oracles.comparisons import directional_error, relative
from support.problems.small_problems import arrays_of, sparse_problem

import pudle
from pudle.references.certified import default_target

#: Estimators that reach the exact gradient, with options for that.
REACHING = (
    "analytic",
    "backprop",
    "checkpointed",
    "conjugate_gradient",
    "fixed_point(terms=1500)",
    "truncated(window=400)",
)


def reconstruction(observations):
    """Return the built-in loss, written as a user would."""
    return lambda codes, dictionary: (
        0.5 * (codes @ dictionary.T - observations.to(codes)).square().sum() / len(codes)
    )


def quartic(codes, dictionary):
    return (codes**4).sum() / len(codes) + 0.01 * dictionary.square().sum()


def test_the_reference_of_a_loss_is_the_limit():
    named = sparse_problem("reconstruction", n=15)
    written = dataclasses.replace(named, loss=reconstruction(named.observations))
    assert (default_target(named), default_target(written)) == ("exact", "limit")
    certified, limit = pudle.reference(named), pudle.reference(written, algorithm=pudle.Ista())
    assert (limit.status, limit.target) == ("limit", "limit")
    assert relative(limit.gradient, certified.gradient) < tolerances.CLOSED_FORM
    assert pudle.reference(written, "ghat").status == "certified"


@pytest.mark.parametrize("name", REACHING)
def test_estimators_reach_the_limit_and_it_central_differences(name):
    problem = dataclasses.replace(sparse_problem(n=8), loss=quartic)
    limit = pudle.reference(problem, algorithm=pudle.Ista())
    score = pudle.score(
        pudle.make_estimator(name).estimate(problem, pudle.Fista(restart=True), 400), limit
    )
    assert score.relative_error < tolerances.CONVERGED
    x, d = arrays_of(problem)
    signs = np.sign(limit.codes.numpy())

    def value(dictionary):
        codes = in_numpy.polish(x, dictionary, problem.penalty, signs)
        return (codes**4).sum() / len(codes) + 0.01 * (dictionary**2).sum()

    assert directional_error(limit.gradient, value, d) < tolerances.CENTRAL_DIFFERENCES


def test_penalties_are_certified_against_central_differences(loss):
    penalty = torch.tensor(np.random.default_rng([0, 811]).uniform(0.1, 0.4, 18))
    problem = dataclasses.replace(sparse_problem(loss, n=15), penalty=penalty)
    reference = pudle.reference(problem)
    assert reference.status == "certified" and reference.bound < tolerances.USEFUL_BOUND
    x, d = arrays_of(problem)
    penalty, signs = penalty.numpy(), np.sign(reference.codes.numpy())

    def value(dictionary):
        codes = in_numpy.polish(x, dictionary, penalty, signs)
        return in_numpy.outer_loss(x, dictionary, codes, penalty, loss)

    assert directional_error(reference.gradient, value, d) < tolerances.CENTRAL_DIFFERENCES
