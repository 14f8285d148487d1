"""Equilibria and unfolded networks of other libraries, wrapped from outside: their own backward
passes against ours.
"""

from __future__ import annotations

import functools

import numpy as np
import pytest
import tolerances
import torch
from comparisons import relative
from sklearn.datasets import load_digits
from torch.func import functional_call
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


class Denoiser(torch.nn.Module):
    """Two small convolutions that contract."""

    def __init__(self):
        super().__init__()
        random = torch.Generator().manual_seed(0)
        self.first, self.second = (
            torch.nn.Conv2d(1, 4, 3, padding=1),
            torch.nn.Conv2d(4, 1, 3, padding=1),
        )
        for parameter in self.parameters():
            parameter.data = 0.15 * torch.randn(parameter.shape, generator=random)

    def forward(self, image, sigma):
        return 0.5 * image + sigma * self.second(torch.tanh(self.first(image)))


class TestDeepinv:
    """Proximal gradient steps with a learned denoiser, for inpainting: unfolded, and as an
    equilibrium.
    """

    @pytest.fixture
    def data(self):
        deepinv, random = peers.require("deepinv"), torch.Generator().manual_seed(1)
        images = torch.rand(2, 1, 8, 8, generator=random, dtype=torch.float64)
        mask = (torch.rand(1, 8, 8, generator=random) > 0.3).double()
        physics = deepinv.physics.Inpainting(img_size=(1, 8, 8), mask=mask)
        return images, physics.A(images), physics

    @staticmethod
    def model(depth, **options):
        optim = peers.require("deepinv").optim
        prior = optim.PnP(denoiser=Denoiser())
        numbers = {"stepsize": 0.7, "g_param": 0.5, "max_iter": depth, "unfold": True}
        return optim.PGD(data_fidelity=optim.L2(), prior=prior, **numbers, **options).double()

    def wrapped(self, data):
        """Return the problem whose step is deepinv's own model with one iteration, all its
        parameters in one vector.
        """
        images, measured, physics = data
        one = self.model(1)
        named = dict(one.named_parameters())

        def step(codes, theta):
            sizes = [parameter.numel() for parameter in named.values()]
            pieces = zip(named.items(), theta.split(sizes), strict=True)
            values = {name: piece.reshape(parameter.shape) for (name, parameter), piece in pieces}
            return functional_call(one, values, (measured, physics), {"init": codes})

        def loss(codes, theta):
            return (codes - images).square().sum() / len(images)

        theta = torch.nn.utils.parameters_to_vector(named.values()).detach()
        return pudle.FixedPoint(theta, step, loss, torch.zeros_like(measured))

    def own_gradient(self, model, data):
        """Return the gradient that deepinv's own backward pass leaves in the model's parameters."""
        images, measured, physics = data
        result = model(measured, physics, init=torch.zeros_like(measured))
        ((result - images).square().sum() / len(images)).backward()
        gradients = [torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters()]
        return torch.nn.utils.parameters_to_vector(gradients)

    @pytest.mark.parametrize(
        "spec", ["backprop", "checkpointed", "truncated(window=12)", "finite_difference"]
    )
    def test_unfolded(self, data, spec):
        expected = self.own_gradient(self.model(12), data)
        estimate = pudle.make_estimator(spec).estimate(self.wrapped(data), ITERATION, 12)
        limit = (
            tolerances.DIFFERENCE_QUOTIENT
            if spec == "finite_difference"
            else tolerances.SAME_ARITHMETIC
        )
        assert relative(estimate.gradient, expected) < limit

    def test_equilibrium(self, data):
        configuration = peers.require("deepinv").optim.DEQConfig(max_iter_backward=BACKWARD)
        expected = self.own_gradient(self.model(BACKWARD, DEQ=configuration, thres_conv=0.0), data)
        problem = self.wrapped(data)
        reference = pudle.reference(problem)
        assert reference.status == "limit", reference.reason
        assert relative(reference.gradient, expected) < REMAINS
        for spec in IMPLICIT:
            estimate = pudle.make_estimator(spec).estimate(problem, ITERATION, BACKWARD)
            assert relative(estimate.gradient, expected) < REMAINS
