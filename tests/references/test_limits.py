"""Limits of algorithms, the references for thresholding rules that lead to no minimizer."""

import dataclasses
import math

import numpy as np
import pytest
import torch
from support.oracles import in_numpy, tolerances
from support.oracles.comparisons import relative
from support.problems.small_problems import PENALTY, arrays_of, sparse_problem

import pudle
from pudle import names
from pudle.references import limits


def least_squares_loss(x, d, signs, loss):
    """Loss at the least-squares codes on given supports; analytic in the dictionary."""
    codes = np.zeros(signs.shape, dtype=d.dtype)
    for i, sign in enumerate(signs):
        atoms = d[:, sign != 0]
        codes[i, sign != 0] = np.linalg.solve(atoms.T @ atoms, atoms.T @ x[i])
    return in_numpy.outer_loss(x, d, codes, PENALTY, loss)


@pytest.mark.parametrize(
    "algorithm", [pudle.Ista(), pudle.Fista(), pudle.Fista(restart=True)], ids=names.text
)
def test_the_limit_of_soft_thresholding_is_the_minimizer(algorithm, loss):
    problem = sparse_problem(loss)
    reference = pudle.reference(problem)
    limit = pudle.reference(problem, "limit", algorithm)
    assert (limit.status, limit.target) == ("limit", "limit")
    assert relative(limit.gradient, reference.gradient) < limit.bound < tolerances.USEFUL_BOUND
    assert float((limit.codes - reference.codes).abs().max()) < 1e-12


@pytest.mark.parametrize(
    "shape, spec",
    [
        ({"m": 12, "p": 18}, "ista(thresholding='hard(threshold=0.2)')"),
        ({"m": 20, "p": 12}, "ista(thresholding='hard(threshold=0.1)')"),
        ({"m": 20, "p": 12}, "fista(thresholding='hard(threshold=0.1)')"),
        ({"m": 20, "p": 12}, "ista(thresholding='decaying(decay=0.99)')"),
        ({"m": 20, "p": 12}, "fista(thresholding='decaying(decay=0.9)', restart=True)"),
    ],
)
def test_the_limit_of_other_rules_is_least_squares_on_the_support(shape, spec, loss):
    problem = sparse_problem(loss, **shape)
    x, d = arrays_of(problem)
    limit = pudle.reference(problem, "limit", pudle.make_algorithm(spec))
    assert limit.status == "limit", limit.reason
    signs = np.sign(limit.codes.numpy())
    truth = np.zeros_like(d)
    for index in np.ndindex(d.shape):
        direction = np.zeros_like(d)
        direction[index] = 1
        truth[index] = in_numpy.complex_step(
            lambda at: least_squares_loss(x, at, signs, loss), d, direction
        )
    assert relative(limit.gradient, truth) < max(limit.bound, 1e-12) < tolerances.USEFUL_BOUND


def test_warm_start_counts():
    problem = sparse_problem(m=20, p=12)
    algorithm = pudle.make_algorithm("ista(thresholding='hard(threshold=0.1)')")
    cold = pudle.reference(problem, "limit", algorithm)
    warm = pudle.reference(problem, "limit", dataclasses.replace(algorithm, initial=cold.codes))
    assert warm.certificate.iterations < 20 < cold.certificate.iterations
    assert relative(warm.gradient, cold.gradient) < 1e-10


def test_faded_penalty_with_too_many_atoms_has_none():
    algorithm = pudle.make_algorithm("ista(thresholding='decaying(decay=0.9)')")
    limit = pudle.reference(sparse_problem(), "limit", algorithm)
    assert limit.status == "uncertified"
    assert "40 have a singular active system" in limit.reason
    estimate = pudle.make_estimator("backprop").estimate(sparse_problem(), algorithm, 5)
    assert pudle.score(estimate, limit).status == "uncertified"


def test_what_still_moves_is_not_scored(monkeypatch):
    monkeypatch.setattr(limits, "MAX_LAYERS", 30)
    limit = pudle.reference(sparse_problem(), "limit", pudle.Ista())
    assert limit.status == "uncertified"
    assert "40 still moved after 30 layers" in limit.reason


def test_a_step_that_is_not_defined_everywhere_has_a_reason():
    """Newton's method leads to where the logarithm has no value."""
    one, fifty = torch.ones(1).double(), torch.full((1,), 50.0).double()
    problem = pudle.FixedPoint(
        one, lambda z, t: z - 1e-3 * torch.log(z / t), lambda z, t: z.square().sum(), fifty
    )
    limit = pudle.reference(problem, "limit", pudle.Iteration())
    assert limit.status == "uncertified" and "still changes" in limit.reason


@pytest.mark.parametrize("penalty, share", [(1e3, 1.0), (1e-6, 0.0)])
def test_a_certificate_counts_the_codes_that_are_all_zero(penalty, share):
    """Above the largest correlation every code is zero, and far below it none is."""
    problem = dataclasses.replace(sparse_problem("reconstruction"), penalty=penalty)
    largest = (problem.observations @ problem.dictionary).abs().max()
    assert (penalty > largest) == (share == 1.0)
    reference = pudle.reference(problem, "limit", algorithm=pudle.Fista())
    assert reference.certificate.zero_codes == share


def test_where_there_is_no_limit_no_sample_is_certified():
    problem = pudle.FixedPoint(
        theta=torch.ones(2).double(),
        step=lambda z, theta: 3 * z + theta,
        loss=lambda z, theta: z.sum(),
        initial=torch.ones(2).double(),
    )
    reference = pudle.reference(problem)
    assert reference.status == "uncertified" and reference.reason.startswith("no limit")
    assert reference.gradient.isnan().all() and reference.bound == math.inf
    # The state of a fixed point is one system.
    assert (reference.certificate.samples, reference.certificate.uncertified) == (1, 1)
