"""Problems of datasets: certified and reproducible, and what the models say."""

import dataclasses

import numpy as np
import pytest
import sklearn.datasets
import sklearn.linear_model
import torch

import pudle

DATASETS = """
bernoulli_gaussian(n_samples=40)
digits(n_samples=40, n_components=30)
image_patches(n_samples=40, n_components=30)
sparse_gaussian(n_samples=40)
convolutional(n_samples=3)
convolutional(n_samples=2, channels=3, stride=1, kernel=4, size=13, nonnegative=True)
penalty_selection(n_samples=5)
penalty_selection(n_samples=5, weighted=True)
""".strip().splitlines()


@pytest.mark.parametrize("spec", DATASETS)
def test_a_dataset_is_certified_and_reproducible(spec):
    dataset = pudle.make_dataset(spec)
    for loss in dataset.losses:
        problem = dataset.problem(loss)
        reference = pudle.reference(problem)
        assert reference.status == "certified", reference.reason
        assert reference.bound < 1e-8 and problem.loss == loss
    first, again = (pudle.make_dataset(spec).problem() for _ in range(2))
    other = dataclasses.replace(dataset, seed=1).problem()
    assert dataset.references and first.loss == dataset.losses[0]
    assert first.code_shape[0] == dataset.n_samples
    if isinstance(dataset, pudle.SparseCodingDataset):
        assert np.array_equal(first.dictionary, dataset.draw().dictionary)
        assert first.penalty == dataset.penalty
    assert torch.equal(first.observations, again.observations)
    assert torch.equal(first.theta, again.theta)
    assert not torch.equal(first.observations, other.observations)
    assert dataset.problem(dtype=torch.float32).theta.dtype == torch.float32


def test_convolutional_model():
    """Images are the generating filters times the codes, plus noise; filters have unit norm."""
    problem = pudle.make_dataset("convolutional(n_samples=4, noise=0.001)").problem()
    clean = dataclasses.replace(problem, dictionary=problem.generating_dictionary)
    assert float(clean.residual(problem.generating_codes).std()) == pytest.approx(0.001, rel=0.1)
    assert torch.allclose(
        problem.dictionary.flatten(1).norm(dim=1), torch.ones(8, dtype=torch.float64)
    )
    for target in ("gstar", "gtilde"):
        assert pudle.reference(problem, target).status == "certified"


def test_a_penalty_above_the_largest_correlation_leaves_nothing():
    """The penalty is a fraction of the smallest penalty at which all codes are zero."""
    problem = pudle.make_dataset("penalty_selection(n_samples=5, penalty_fraction=0.999)").problem()
    codes = pudle.reference(problem).codes
    assert 1 <= int((codes != 0).sum()) <= 3
    above = dataclasses.replace(problem, log_penalty=problem.log_penalty + np.log(1.01))
    assert not pudle.reference(above).codes.any()


@pytest.mark.parametrize("name", ["hyper_cleaning", "logistic"])
@pytest.mark.parametrize("content", [None, "no numbers"])
def test_a_file_that_cannot_be_read_is_named_in_one_line(name, content, tmp_path):
    path = tmp_path / "data"
    if content:
        path.write_text(content)
    reason = "path=.*data' (cannot be read|is not an existing file)"
    with pytest.raises(pudle.InvalidArgument, match=reason) as refused:
        pudle.make_dataset(f"{name}(path={str(path)!r})").problem()
    assert "\n" not in str(refused.value)


class TestStates:
    """Families whose inner problems users could give by functions."""

    def test_codes_of_logistic_regression_are_those_of_scikit_learn(self):
        dataset = pudle.make_dataset("logistic")
        reference = pudle.reference(dataset.problem())
        assert reference.status == "certified" and reference.bound < 1e-9, reference.reason
        features, labels = sklearn.datasets.load_breast_cancer(return_X_y=True)
        chosen = dataset.generator().permutation(569)[:284]
        rows, penalty = features[chosen], 0.1
        fitted = sklearn.linear_model.LogisticRegression(
            C=1 / (284 * penalty), fit_intercept=False, tol=1e-14, solver="newton-cholesky"
        ).fit((rows - rows.mean(0)) / rows.std(0), labels[chosen])
        assert np.abs(reference.codes.numpy() - fitted.coef_).max() < 1e-8

    def test_equilibrium_converges_at_the_rate_that_its_jacobian_has(self):
        problem = pudle.make_dataset("equilibrium(n_samples=12)").problem()
        reference = pudle.reference(problem)
        assert reference.status == "limit" and reference.bound < 1e-12, reference.reason
        rho = 1 - reference.certificate.smallest_eigenvalue
        assert 0.5 < rho < 0.95
        depths = [100, 160]
        errors = [
            pudle.score(estimate, reference).relative_error
            for estimate in pudle.make_estimator("analytic").sweep(
                problem, pudle.Iteration(), depths
            )
        ]
        rate = (errors[1] / errors[0]) ** (1 / (depths[1] - depths[0]))
        assert rate == pytest.approx(rho, abs=0.02)
