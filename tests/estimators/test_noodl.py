"""NOODL's direction against the paper's formulas, written in numpy."""

import dataclasses
import warnings

import numpy as np
import pytest
import tolerances
import torch
from comparisons import relative
from examples import arrays_of, sparse_problem

import pudle

STEP, THRESHOLD = 0.15, 0.08
NOODL = pudle.make_estimator("noodl")
HARD = pudle.Ista(step=STEP, thresholding=f"hard(threshold={THRESHOLD})")


def hard(values, threshold):
    return values * (np.abs(values) > threshold)


@pytest.mark.parametrize("start", [None, THRESHOLD / STEP])
@pytest.mark.parametrize("depth", [1, 15])
def test_direction_and_codes_are_those_of_the_paper(loss, depth, start):
    """The mean over samples of (D z - x) sign(z)^T; codes start at zero, or as in the paper at the
    thresholded D^T x.
    """
    problem = sparse_problem(loss)
    x, d = arrays_of(problem)
    codes = np.zeros((len(x), d.shape[1])) if start is None else hard(x @ d, start)
    algorithm = HARD if start is None else dataclasses.replace(HARD, initial=torch.tensor(codes))
    result = NOODL.estimate(problem, algorithm, depth)
    total = np.zeros_like(d)
    for index, sample in enumerate(x):
        z = codes[index]
        for _ in range(depth):
            z = hard(z - STEP * (d.T @ (d @ z - sample)), THRESHOLD)
        total += np.outer(d @ z - sample, np.sign(z)) / len(x)
        codes[index] = z
    assert 0 < np.count_nonzero(codes) < codes.size
    assert relative(result.codes, codes) < tolerances.CLOSED_FORM
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
