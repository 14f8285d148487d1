"""Penalty selection by held-out error, against closed forms and differences of the exact loss."""

from __future__ import annotations

import dataclasses

import numpy as np
import oracles
import pytest
import tolerances
import torch
from comparisons import refusal, relative
from examples import largest_eigenvalue, penalty_selection
from sklearn.linear_model import Lasso

import pudle

Array = np.ndarray


def held_out_loss(
    problem: pudle.PenaltySelection, log_penalty: Array, signs: Array
) -> np.longdouble:
    """Held-out loss at the exact minimizer in extended precision; column j is divided by the
    penalty of entry j.
    """
    weights = np.broadcast_to(np.exp(log_penalty.astype(np.longdouble)), (problem.design.shape[1],))
    design = problem.design.numpy().astype(np.longdouble) / weights
    codes = oracles.polish(problem.observations.numpy(), design, 1.0, signs) / weights
    assert (np.sign(codes) == signs).all(), "the support moved within the difference step"
    residual = (
        codes @ problem.held_out_design.numpy().T.astype(np.longdouble)
        - problem.held_out_observations.numpy()
    )
    return np.square(residual).sum() / 2 / len(codes)


@pytest.fixture(params=[False, True], ids=["one", "weighted"])
def weighted(request) -> bool:
    return request.param


class TestPenaltySelection:
    @pytest.mark.parametrize("nonnegative", [False, True])
    def test_reference_against_central_differences(self, weighted, nonnegative):
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
                oracles.central_difference(
                    lambda at: held_out_loss(problem, at, signs), theta, axis
                )
            )
            for axis in axes
        ]
        error = np.linalg.norm(reference.gradient.numpy().ravel() - truth)
        assert error < tolerances.EXACT_CENTRAL_DIFFERENCES * np.linalg.norm(truth)

    def test_closed_form(self):
        """Sample by sample: ``dz_S/dtheta = -penalty (A_S^T A_S)^{-1} s``."""
        problem = penalty_selection()
        reference = pudle.reference(problem)
        design, held_out = problem.design.numpy(), problem.held_out_design.numpy()
        total = 0.0
        for code, target in zip(
            reference.codes.numpy(), problem.held_out_observations.numpy(), strict=True
        ):
            support = np.flatnonzero(code)
            gram = design[:, support].T @ design[:, support]
            sensitivity = -0.1 * np.linalg.solve(gram, np.sign(code[support]))
            total += (held_out @ code - target) @ held_out[:, support] @ sensitivity
        assert float(reference.gradient) == pytest.approx(total / len(reference.codes), rel=1e-10)

    def test_codes_are_scikit_learns(self):
        problem = penalty_selection()
        model = Lasso(
            alpha=0.1 / len(problem.design), fit_intercept=False, tol=1e-15, max_iter=100_000
        )
        for y, code in zip(
            problem.observations.numpy(), pudle.reference(problem).codes.numpy(), strict=True
        ):
            assert (
                np.abs(model.fit(problem.design.numpy(), y).coef_ - code).max()
                < tolerances.SOLVER_CODES
            )

    def test_equal_weights_sum_to_the_single_penalty(self):
        problem = penalty_selection()
        spread = dataclasses.replace(problem, log_penalty=problem.log_penalty.expand(12).clone())
        one, many = pudle.reference(problem), pudle.reference(spread)
        assert relative(many.gradient.sum(), one.gradient) < tolerances.SAME_ARITHMETIC

    def test_the_direct_part_is_zero(self, weighted):
        """The loss depends on the penalty through the codes alone: an estimator that holds them
        constant returns zero.
        """
        problem = penalty_selection(weighted)
        estimate = pudle.make_estimator("alternating").estimate(problem, pudle.Fista(), 50)
        assert estimate.gradient.shape == problem.theta.shape
        assert not estimate.gradient.any()
        assert pudle.score(estimate, pudle.reference(problem)).relative_error == 1

    def test_unrolled_gradient_against_a_complex_step(self, weighted):
        problem = penalty_selection(weighted)
        y, a, z, b = (
            getattr(problem, name).numpy()
            for name in ("observations", "design", "held_out_observations", "held_out_design")
        )
        step = 1 / largest_eigenvalue(a)

        def value(theta: Array) -> complex:
            codes, threshold = np.zeros((len(y), a.shape[1])), step * np.exp(theta)
            for _ in range(11):
                moved = codes - step * (codes @ a.T - y) @ a
                codes = np.where(
                    np.abs(moved.real) > threshold.real, moved - threshold * np.sign(moved.real), 0
                )
            residual = codes @ b.T - z
            return 0.5 * (residual * residual).sum() / len(y)

        theta = problem.log_penalty.numpy()
        gradient = (
            pudle.make_estimator("backprop").estimate(problem, pudle.Ista(), 11).gradient.numpy()
        )
        for axis in np.eye(theta.size).reshape(theta.size, *theta.shape):
            truth = oracles.complex_step(value, theta, axis)
            assert abs(
                float((gradient * axis).sum()) - truth
            ) < tolerances.COMPLEX_STEP * np.linalg.norm(gradient)

    def test_zero_codes_are_degenerate(self):
        reference = pudle.reference(
            dataclasses.replace(penalty_selection(), log_penalty=torch.tensor(8.0).double())
        )
        assert reference.status == "degenerate"
        assert not reference.gradient.any()

    def test_refusals(self):
        problem = penalty_selection()
        replace = dataclasses.replace
        assert "shapes do not fit" in refusal(
            lambda: replace(problem, held_out_design=problem.held_out_design[:, 1:])
        )
        assert "shapes do not fit" in refusal(
            lambda: replace(problem, observations=problem.observations[:2])
        )
        assert "one for each" in refusal(
            lambda: replace(problem, log_penalty=torch.zeros(5).double())
        )
        assert "zero or infinite" in refusal(
            lambda: replace(problem, log_penalty=torch.tensor(800.0).double())
        )
        assert "differ in dtype" in refusal(lambda: replace(problem, log_penalty=torch.tensor(0.0)))
        assert "target='ghat' is defined for sparse coding only" in refusal(
            lambda: pudle.reference(problem, "ghat")
        )
        assert replace(problem, log_penalty=-1.5).log_penalty.dtype == torch.float64
