"""NOODL's direction against the paper's formulas, written in numpy."""

from __future__ import annotations

import dataclasses
import warnings

import numpy as np
import pytest
import tolerances
import torch
from examples import arrays_of, sparse_problem

import pudle
from pudle import conformance

STEP, THRESHOLD = 0.15, 0.08


def hard(values: np.ndarray, threshold: float) -> np.ndarray:
    return values * (np.abs(values) > threshold)


def direction(
    x: np.ndarray, d: np.ndarray, depth: int, start: float | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean over samples of (D z - x) sign(z)^T, and the codes z, computed sample by
    sample as in the paper.

    Codes start at zero, or with `start` at the thresholded D^T x as in the paper.
    """
    total, codes = np.zeros_like(d), np.zeros((len(x), d.shape[1]))
    for index, sample in enumerate(x):
        z = np.zeros(d.shape[1]) if start is None else hard(d.T @ sample, start)
        for _ in range(depth):
            z = hard(z - STEP * (d.T @ (d @ z - sample)), THRESHOLD)
        total += np.outer(d @ z - sample, np.sign(z))
        codes[index] = z
    return total / len(x), codes


def close(actual: torch.Tensor, expected: np.ndarray) -> bool:
    return float(np.linalg.norm(actual.numpy() - expected)) < tolerances.CLOSED_FORM * float(
        np.linalg.norm(expected)
    )


def algorithm() -> pudle.Ista:
    return pudle.Ista(step=STEP, thresholding=f"hard(threshold={THRESHOLD})")


@pytest.mark.parametrize("loss", ["lasso", "reconstruction"])
@pytest.mark.parametrize("depth", [1, 2, 15])
def test_direction_and_codes_are_those_of_the_paper(loss, depth):
    problem = sparse_problem(loss)
    result = pudle.make_estimator("noodl").estimate(problem, algorithm(), depth)
    expected, codes = direction(*arrays_of(problem), depth)
    assert 0 < np.count_nonzero(codes) < codes.size
    assert close(result.codes, codes) and close(result.gradient, expected)


def test_the_papers_start_is_a_warm_start_with_the_support_of_the_first_layer():
    problem = sparse_problem()
    x, d = arrays_of(problem)
    started = hard(x @ d, THRESHOLD / STEP)
    warm = dataclasses.replace(algorithm(), initial=torch.as_tensor(started))
    result = pudle.make_estimator("noodl").estimate(problem, warm, 10)
    expected, codes = direction(x, d, 10, THRESHOLD / STEP)
    assert close(result.codes, codes) and close(result.gradient, expected)
    first = pudle.make_estimator("noodl").estimate(problem, algorithm(), 1).codes.numpy()
    np.testing.assert_array_equal(first != 0, started != 0)


def test_an_atoms_column_is_its_error_times_its_use():
    """With orthonormal atoms and true codes, column j is (d_j - d*_j) E|z_j| times the atom's share
    of the samples.
    """
    random = np.random.default_rng(3)
    n, m = 200_000, 6
    generating = np.linalg.qr(random.standard_normal((m, m)))[0]
    codes = (
        random.uniform(1, 2, (n, m))
        * random.choice([-1.0, 1.0], (n, m))
        * (random.random((n, m)) < 0.4)
    )
    moved = generating + 1e-3 * random.standard_normal((m, m))
    problem = pudle.SparseCoding(
        observations=torch.as_tensor(codes @ generating.T),
        dictionary=torch.as_tensor(moved),
        penalty=0.2,
    )
    # The codes are held at the true ones: no layer is run.
    given = pudle.Ista(thresholding="hard", initial=torch.as_tensor(codes))
    result = pudle.make_estimator("noodl").estimate(problem, given, 0).gradient.numpy()
    expected = 0.4 * 1.5 * (moved - generating)
    # Signs average the other atoms out as 1/sqrt(n).
    assert np.linalg.norm(result - expected) < 0.02 * np.linalg.norm(expected)


def test_it_recovers_a_dictionary():
    experiment = pudle.LearningExperiment(
        dataset=(
            "sparse_gaussian(n_samples=1000, n_features=100, n_components=130, n_nonzero_coefs=2,"
            " perturbation=0.005)"
        ),
        estimator="noodl",
        loss="reconstruction",
        algorithm="noodl(step=0.2)",
        depth=60,
        optimizer="sgd(learning_rate=13)",
        epochs=6,
        batch=100,
        fresh=True,
    )
    learner = experiment.learner().fit(experiment.problem(), source=experiment.source())
    errors = learner.history.relative_error
    assert errors.iloc[-1] < 1e-3 * errors.iloc[0]


def test_soft_thresholding_warns_and_hard_does_not():
    problem, estimator = sparse_problem(), pudle.make_estimator("noodl")
    with pytest.warns(UserWarning, match="under soft thresholding: use the algorithm noodl"):
        estimator.estimate(problem, pudle.Ista(), 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        estimator.estimate(problem, algorithm(), 3)
        estimator.estimate(problem, pudle.Noodl(), 3)


def test_claim_holds_on_dense_problems_and_the_others_are_refused():
    estimator = pudle.make_estimator("noodl")
    records = conformance.check(estimator, names=("descent",))
    passed = {record.problem for record in records if record.status == "passed"}
    assert passed == {"sparse coding", "square", "elastic net"}
    refused = {record.problem: record.reason for record in records if record.status == "refused"}
    assert refused.keys() == {"convolutional", "penalty", "ridge"}
    assert (
        refused["ridge"]
        == "noodl treats SparseCoding with a dense dictionary, not Ridge: use alternating"
    )
