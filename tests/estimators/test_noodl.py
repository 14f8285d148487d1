"""NOODL's direction against the paper's formulas, written in numpy."""

import warnings

import numpy as np
import pytest
from support.oracles import tolerances
from support.oracles.comparisons import relative
from support.problems.small_problems import arrays_of, sparse_problem

import pudle

NOODL = pudle.make_estimator("noodl")
HARD = pudle.Ista(step=0.15, thresholding="hard(threshold=0.08)")


def test_the_direction_is_that_of_the_paper(loss):
    """The mean over samples of (D z - x) sign(z)^T."""
    problem = sparse_problem(loss)
    x, d = arrays_of(problem)
    result = NOODL.estimate(problem, HARD, 15)
    total = np.zeros_like(d)
    for sample, z in zip(x, result.codes.numpy(), strict=True):
        total += np.outer(d @ z - sample, np.sign(z)) / len(x)
    assert relative(result.gradient, total) < tolerances.CLOSED_FORM


def test_it_recovers_a_dictionary():
    dataset = pudle.make_dataset(
        "sparse_gaussian(n_samples=1000, n_features=100, n_components=130, n_nonzero_coefs=2,"
        " perturbation=0.005)"
    )
    learner = pudle.Learner(
        "noodl", "noodl(step=0.2)", 60, "sgd(learning_rate=13)", epochs=6, batch=100, fresh=True
    )
    training = learner.fit(dataset.problem("reconstruction"), source=dataset)
    errors = training.history.relative_error
    assert errors.iloc[-1] < 1e-3 * errors.iloc[0]


def test_soft_thresholding_warns_and_hard_does_not():
    with pytest.warns(UserWarning, match="under soft thresholding: use the algorithm noodl"):
        NOODL.estimate(sparse_problem(), pudle.Ista(), 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for algorithm in (HARD, pudle.Noodl()):
            NOODL.estimate(sparse_problem(), algorithm, 3)
