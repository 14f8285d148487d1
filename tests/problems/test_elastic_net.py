"""The elastic net, against scikit-learn and against the lasso on an augmented dictionary."""

from __future__ import annotations

import numpy as np
import oracles
import pytest
import tolerances
import torch
from comparisons import refusal, relative
from estimator_limits import FINITE_SPECS, QUOTIENTS, VECTORS, estimate
from examples import elastic_net
from sklearn.linear_model import ElasticNet

import pudle

ROWS = 7


def augmented(problem: pudle.SparseCoding) -> pudle.SparseCoding:
    """The lasso with the same minimizers and lasso loss: rows ``sqrt(l2) I`` below the dictionary,
    zeros beside x.
    """
    x, d = problem.observations, problem.dictionary
    below = problem.l2_penalty**0.5 * torch.eye(d.shape[1], dtype=d.dtype)
    return pudle.SparseCoding(
        observations=torch.cat([x, x.new_zeros(len(x), d.shape[1])], 1),
        dictionary=torch.cat([d, below]),
        penalty=problem.penalty,
        loss=problem.loss,
        nonnegative=problem.nonnegative,
    )


class TestElasticNet:
    @pytest.mark.parametrize("nonnegative", [False, True])
    def test_codes_are_scikit_learns(self, nonnegative):
        problem = elastic_net(nonnegative=nonnegative)
        reference = pudle.reference(problem)
        assert reference.status == "certified"
        rows = len(problem.dictionary)
        alpha = (problem.penalty + problem.l2_penalty) / rows
        model = ElasticNet(
            alpha=alpha,
            l1_ratio=problem.penalty / (problem.penalty + problem.l2_penalty),
            fit_intercept=False,
            tol=1e-15,
            max_iter=200_000,
            positive=nonnegative,
        )
        for x, code in zip(problem.observations.numpy(), reference.codes.numpy(), strict=True):
            theirs = model.fit(problem.dictionary.numpy(), x).coef_
            assert np.abs(theirs - code).max() < tolerances.SOLVER_CODES

    def test_certificate(self):
        problem = elastic_net()
        reference = pudle.reference(problem)
        twin = augmented(problem)
        eigenvalues = [
            np.linalg.eigvalsh(
                (twin.dictionary[:, code != 0].T @ twin.dictionary[:, code != 0]).numpy()
            )
            for code in reference.codes
        ]
        assert reference.certificate.smallest_eigenvalue == pytest.approx(
            min(v[0] for v in eigenvalues), rel=1e-9
        )
        assert reference.certificate.smallest_eigenvalue >= problem.l2_penalty * (1 - 1e-9)
        assert reference.certificate.condition_number == pytest.approx(
            max(v[-1] / v[0] for v in eigenvalues), rel=1e-9
        )
        assert reference.bound < tolerances.USEFUL_BOUND

    @pytest.mark.parametrize("nonnegative", [False, True])
    def test_central_differences(self, loss, nonnegative):
        problem = elastic_net(loss, nonnegative=nonnegative)
        reference = pudle.reference(problem)
        signs = reference.codes.sign().numpy().astype(float)
        x, d, lower = (
            problem.observations.numpy(),
            problem.dictionary.numpy(),
            augmented(problem).dictionary.numpy()[ROWS:],
        )

        def value(at: np.ndarray) -> np.longdouble:
            stacked = (
                np.concatenate([x, np.zeros((len(x), len(lower)))], 1),
                np.concatenate([at, lower]),
            )
            if loss == "lasso":
                return oracles.exact_loss(
                    *stacked, problem.penalty, "lasso", signs, nonnegative=nonnegative
                )
            codes = oracles.polish(*stacked, problem.penalty, signs)
            assert (np.sign(codes) == signs).all()
            return np.square(x.astype(np.longdouble) - codes @ at.T).sum() / 2 / len(x)

        random = np.random.default_rng(8)
        for _ in range(3):
            direction = random.standard_normal(d.shape)
            direction /= np.linalg.norm(direction)
            truth = float(oracles.central_difference(value, d, direction))
            mine = float((reference.gradient.numpy() * direction).sum())
            assert abs(mine - truth) < tolerances.EXACT_CENTRAL_DIFFERENCES * float(
                reference.gradient.norm()
            )

    @pytest.mark.parametrize("name", VECTORS)
    def test_every_estimator_equals_the_augmented_lasso(self, name):
        """The lasso loss has the same gradient in the rows of the dictionary, at every depth."""
        problem = elastic_net()
        mine = estimate(name, FINITE_SPECS, problem, pudle.Ista(), 9)
        theirs = estimate(name, FINITE_SPECS, augmented(problem), pudle.Ista(), 9)
        tolerance = tolerances.DIFFERENCE_QUOTIENT if name in QUOTIENTS else tolerances.CLOSED_FORM
        assert relative(mine.codes, theirs.codes) < tolerances.SAME_ARITHMETIC
        assert relative(mine.gradient, theirs.gradient[:ROWS]) < tolerance

    def test_lipschitz_constant_and_hessian(self):
        problem = elastic_net()
        hessian = augmented(problem).dictionary.T @ augmented(problem).dictionary
        assert torch.allclose(problem.hessian, hessian, rtol=0, atol=1e-14)
        assert problem.lipschitz_constant == pytest.approx(
            float(torch.linalg.eigvalsh(hessian)[-1]), rel=1e-12
        )

    @pytest.mark.parametrize("name", VECTORS)
    def test_zero_is_the_lasso_to_the_bit(self, loss, name):
        problem = elastic_net(loss, l2_penalty=0.0)
        plain = pudle.SparseCoding(
            observations=problem.observations,
            dictionary=problem.dictionary,
            penalty=problem.penalty,
            loss=loss,
        )
        first, second = (
            estimate(name, FINITE_SPECS, each, pudle.Fista(), 6) for each in (problem, plain)
        )
        assert torch.equal(first.gradient, second.gradient) and torch.equal(
            first.codes, second.codes
        )
        assert torch.equal(problem.hessian, problem.dictionary.T @ problem.dictionary)

    def test_refusal(self):
        assert refusal(lambda: elastic_net(l2_penalty=-0.1)).startswith("l2_penalty=-0.1")
        assert "l2_penalty=-1 is out of range" in refusal(
            lambda: pudle.make_dataset("sparse_gaussian(l2_penalty=-1)")
        )

    def test_datasets_offer_it(self):
        assert (
            pudle.make_dataset("sparse_gaussian(n_samples=5, l2_penalty=0.5)").problem().l2_penalty
            == 0.5
        )
        assert pudle.make_dataset("sparse_gaussian(n_samples=5)").problem().l2_penalty == 0
