"""Convolutional sparse coding, against the convolution written out as a matrix."""

import numpy as np
import pytest
import torch
from support.estimators.estimator_specs import estimate
from support.oracles import tolerances
from support.oracles.comparisons import refusal, relative
from support.problems.convolutions import convolutional, dense_twin

import pudle


def drawn(shape):
    return torch.tensor(np.random.default_rng(0).standard_normal(shape))


@pytest.mark.parametrize("kernel", [(1, 1), (2, 3), (3, 3), (4, 2)], ids=str)
def test_every_size_and_stride_is_the_matrix(kernel):
    for stride in range(1, min(kernel) + 1):
        for height in range(kernel[0], kernel[0] + 3):
            image, filters = (2, height, kernel[1] + 3), (2, 2, *kernel)
            problem = convolutional(image=image, filters=filters, stride=stride, n=2)
            twin, entries = dense_twin(problem)
            assert (entries >= 0).any(1).all(), "a pixel that no filter reaches"
            codes = drawn(problem.code_shape)
            flat = codes.flatten(1)
            assert (
                relative(problem.residual(codes).flatten(1), twin.residual(flat))
                < tolerances.SAME_ARITHMETIC
            )
            gradient = problem.smooth_gradient(codes).flatten(1)
            assert relative(gradient, twin.smooth_gradient(flat)) < tolerances.SAME_ARITHMETIC
            assert problem.lipschitz_constant == pytest.approx(twin.lipschitz_constant, rel=1e-6)
            assert problem.outer_loss(codes).item() == pytest.approx(
                twin.outer_loss(flat).item(), rel=1e-12
            )


class TestConvolutionalSolve:
    """Active systems without a matrix."""

    def test_equals_the_dense_solve(self, loss):
        problem = convolutional(loss)
        twin, _ = dense_twin(problem)
        codes = pudle.Ista().run(problem, 30).codes
        right = drawn(codes.shape)
        mine, diagnostics = problem.solve_active(codes, right)
        other, expected = twin.solve_active(codes.flatten(1), right.flatten(1))
        assert relative(mine.flatten(1), other) < tolerances.CONVERGED
        assert diagnostics["largest_relative_residual"] < tolerances.SAME_ARITHMETIC
        assert diagnostics["condition_number"] == pytest.approx(
            expected["condition_number"], rel=0.01
        )
        assert diagnostics["singular"] == expected["singular"] == 0

    def test_more_unknowns_than_pixels(self):
        """The minimum-norm solution exists for the reconstruction loss, and no solution for the
        lasso loss.
        """
        shape = {"image": (1, 5, 5), "filters": (4, 1, 2, 2), "stride": 1, "penalty": 1e-3}
        problem = convolutional("reconstruction", **shape)
        codes = pudle.Ista().run(problem, 1).codes
        assert int((codes != 0).flatten(1).sum(1).min()) > 25
        right = problem.adjoint(problem.residual(codes))
        solution, diagnostics = problem.solve_active(codes, right)
        assert diagnostics["singular"] == len(codes)
        lasso = convolutional("lasso", **shape)
        text = refusal(
            lambda: estimate("analytic", lasso, pudle.Ista(), 1), pudle.UnsupportedProblem
        )
        assert "25 pixel values" in text and "backprop" in text
