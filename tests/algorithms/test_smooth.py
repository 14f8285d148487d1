"""Algorithms for smooth problems: their layers and derivatives against recursions in numpy."""

import numpy as np
import pytest
import torch
from comparisons import refusal, relative

import pudle

SPEC = "quadratic(n_samples=40, n_inner=6, n_outer=3, kappa=8)"


class Numpy:
    """The problem of `SPEC` as matrices."""

    def __init__(self):
        self.problem = pudle.make_dataset(SPEC).problem()
        theta, zero = self.problem.theta, self.problem.initial
        grad, jacobian = torch.func.grad, torch.func.jacrev
        inner, outer = grad(self.problem.objective), grad(self.problem.loss)
        nothing = torch.zeros_like(theta)
        self.a, self.b = (jacobian(each)(zero, theta).numpy() for each in (inner, outer))
        self.c, self.d = (jacobian(each, 1)(zero, theta).numpy() for each in (inner, outer))
        self.inner, self.outer = (each(zero, nothing).numpy() for each in (inner, outer))
        self.e = jacobian(grad(self.problem.loss, 1), 1)(zero, theta).numpy()
        self.largest, self.modulus = np.linalg.eigvalsh(self.a)[-1], self.problem.modulus(theta)

    def codes(self, theta, layers, step, momentum):
        z = point = 0 * self.inner + 0 * theta[0]
        for _ in range(layers):
            after = point - step * (self.a @ point + self.c @ theta + self.inner)
            z, point = after, after + momentum * (after - z)
        return z

    def loss(self, theta, *rest):
        z = self.codes(theta, *rest)
        return z @ self.b @ z / 2 + (self.d @ theta + self.outer) @ z + theta @ self.e @ theta / 2


@pytest.mark.parametrize("share", [None, 1.4])
@pytest.mark.parametrize("cls", [pudle.GradientDescent, pudle.Accelerated])
def test_layers_and_their_derivative(cls, share):
    form = Numpy()
    step = (share or 1.0) / form.largest
    algorithm = cls(step=share and step)
    root = np.sqrt(step * form.modulus)
    momentum = (1 - root) / (1 + root) if cls is pudle.Accelerated else 0.0
    theta = form.problem.theta.numpy()
    codes = algorithm.run(form.problem, 9).codes[0]
    assert relative(codes, torch.tensor(form.codes(theta, 9, step, momentum))) < 1e-12
    gradient = pudle.make_estimator("backprop").estimate(form.problem, algorithm, 9).gradient
    expected = [
        form.loss(theta + 1e-30j * unit, 9, step, momentum).imag / 1e-30 for unit in np.eye(3)
    ]
    assert relative(gradient, torch.tensor(expected)) < 1e-12


def test_newton_solves_a_quadratic_problem_and_says_when_it_has():
    form = Numpy()
    theta = form.problem.theta.numpy()
    solution = -np.linalg.solve(form.a, form.c @ theta + form.inner)
    analytic, solver = pudle.make_estimator("analytic"), pudle.NewtonCg()
    first, last = analytic.sweep(form.problem, solver, [1, 6])
    assert first.diagnostics["unfinished"] == 1 and last.diagnostics["unfinished"] == 0
    assert relative(last.codes[0], torch.tensor(solution)) < 1e-14
    exact = form.e @ theta + form.d.T @ solution
    exact -= form.c.T @ np.linalg.solve(form.a, form.b @ solution + form.d @ theta + form.outer)
    assert relative(last.gradient, torch.tensor(exact)) < 1e-13
    text = refusal(
        lambda: pudle.make_estimator("backprop").estimate(form.problem, solver, 3),
        pudle.UnsupportedProblem,
    )
    assert "needs an algorithm whose layers are differentiated, not newton_cg" in text


def test_they_refuse_other_problems_and_thresholding():
    lasso = pudle.make_dataset("sparse_gaussian(n_samples=3)").problem()
    for cls in (pudle.GradientDescent, pudle.Accelerated, pudle.NewtonCg):
        text = refusal(lambda cls=cls: cls().run(lasso, 1), pudle.UnsupportedProblem)
        assert "needs a StronglyConvex, whose objective is smooth, not SparseCoding" in text
        assert "thresholding rule" in refusal(lambda cls=cls: cls(thresholding="hard"))
