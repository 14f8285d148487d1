"""CVXPYlayers: convex programs as layers."""

from collections.abc import Callable

import cvxpy as cp
import torch
from census import Known, Layer, Status, drawn
from cvxpylayers.torch import CvxpyLayer
from torch import Tensor

WITH = ["diffcp"]
TALL = drawn(6, 4, seed=2)
SOLVER = Known(
    Status.APPROXIMATION,
    "As exact as the solution, whose tolerance the [solver's options](https://github.com/cvxpy/"
    "cvxpylayers) set; here they are as they come.",
)


def solution(
    problem: cp.Problem, parameter: cp.Parameter, z: cp.Variable
) -> Callable[[Tensor], Tensor]:
    layer = CvxpyLayer(problem, parameters=[parameter], variables=[z])
    return lambda x: layer(x)[0]


def nonnegative_step(z: Tensor, b: Tensor) -> Tensor:
    """Descend once towards the nonnegative least-squares solution."""
    return (z - TALL.T @ (TALL @ z - b) / 50).relu()


def nonnegative_least_squares() -> Layer:
    """Nonnegative least squares, in the right-hand side."""
    z, b = cp.Variable(4, nonneg=True), cp.Parameter(6)
    problem = cp.Problem(cp.Minimize(cp.sum_squares(TALL.numpy() @ z - b)))
    return Layer(solution(problem, b, z), [drawn(6)], {"step": nonnegative_step}, SOLVER)


def entropy() -> Layer:
    """Most entropy plus a linear term on the simplex (an exponential cone), in the linear term."""
    z, x = cp.Variable(4, nonneg=True), cp.Parameter(4)
    problem = cp.Problem(cp.Maximize(x @ z + cp.sum(cp.entr(z))), [cp.sum(z) == 1])
    softmax = {"step": lambda z, x: x.softmax(0)}
    return Layer(solution(problem, x, z), [drawn(4)], softmax, SOLVER, lambda x: x.softmax(0))


def positive_part(x: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh((x + x.mT) / 2)
    return vectors * values.relu() @ vectors.mT


def semidefinite() -> Layer:
    """Nearest positive semidefinite matrix (a cone of matrices), in the matrix."""
    z, x = cp.Variable((3, 3), PSD=True), cp.Parameter((3, 3))
    problem = cp.Problem(cp.Minimize(cp.sum_squares(z - x)))
    nearest = {"step": lambda z, x: positive_part(x)}
    return Layer(solution(problem, x, z), [drawn(3, 3)], nearest, SOLVER, positive_part)


LAYERS = [nonnegative_least_squares, entropy, semidefinite]
