"""Equilibria and unfolded networks of other libraries, wrapped from outside: their own backward
passes against ours.
"""

import functools

import numpy as np
import pytest
import torch
from comparisons import relative
from sklearn.datasets import load_digits
from torch.nn.functional import cross_entropy

import pudle
from pudle import peers

pytestmark = pytest.mark.nightly

ITERATION = pudle.Iteration()
#: Backward iterations of the libraries' own solvers, and what remains of them.
BACKWARD, REMAINS = 400, 1e-9
IMPLICIT = (
    "analytic",
    "conjugate_gradient(iterations=300, rtol=1e-13)",
    "fixed_point(terms=400)",
    "backprop",
)


class TestEquilibriumLayer:
    """The layer of the dataset `equilibrium`, with the same weights, written as the documentation
    of each library has it.
    """

    @pytest.fixture
    def problem(self):
        return pudle.make_dataset("equilibrium(n_components=10)").problem()

    @pytest.fixture
    def digits(self):
        drawn = load_digits()
        chosen = (
            pudle.make_dataset("equilibrium(n_components=10)").generator().permutation(1797)[:20]
        )
        images = drawn.images[chosen].reshape(-1, 4, 2, 4, 2).mean((2, 4)).reshape(-1, 16) / 16
        return images, drawn.target[chosen]

    @staticmethod
    def cut(theta):
        """Return recurrent, inward, bias and outward weights."""
        return (
            theta[:100].reshape(10, 10),
            theta[100:260].reshape(10, 16),
            theta[260:270],
            theta[270:].reshape(10, 10),
        )

    def check(self, problem, gradient):
        reference = pudle.reference(problem)
        assert reference.status == "limit", reference.reason
        assert relative(reference.gradient, gradient) < REMAINS
        for spec in IMPLICIT:
            estimate = pudle.make_estimator(spec).estimate(problem, ITERATION, 400)
            assert relative(estimate.gradient, gradient) < REMAINS

    def test_torchdeq(self, problem, digits):
        images, labels = (torch.tensor(array) for array in digits)
        theta = problem.theta.clone().requires_grad_()
        recurrent, inward, bias, outward = self.cut(theta)
        solver = peers.require("torchdeq").get_deq(
            f_max_iter=400, f_tol=1e-14, b_max_iter=BACKWARD, b_tol=1e-14, ift=True
        )
        (codes,), _ = solver(
            lambda z: torch.tanh(z @ recurrent.T + images @ inward.T + bias),
            torch.zeros(20, 10).double(),
        )
        cross_entropy(codes @ outward.T, labels).backward()
        self.check(problem, theta.grad)

    def test_jaxopt(self, problem, digits):
        jaxopt, jax = peers.require("jaxopt"), peers.require("jax")
        images, labels = digits
        # By default it stops at a residual of 1e-5.
        solve = functools.partial(jaxopt.linear_solve.solve_normal_cg, tol=1e-14, maxiter=BACKWARD)

        def step(codes, theta):
            recurrent, inward, bias, _ = self.cut(theta)
            return jax.numpy.tanh(codes @ recurrent.T + images @ inward.T + bias)

        def loss(theta):
            solver = jaxopt.FixedPointIteration(
                step, maxiter=600, tol=1e-14, implicit_diff_solve=solve
            )
            scores = solver.run(jax.numpy.zeros((20, 10)), theta).params @ self.cut(theta)[3].T
            return -jax.nn.log_softmax(scores)[np.arange(20), labels].mean()

        with peers.quiet(), jax.enable_x64(True):
            gradient = np.array(jax.grad(loss)(jax.numpy.asarray(problem.theta.numpy())))
        self.check(problem, gradient)
