"""qpth: quadratic programs as layers."""

import torch
from census import Known, Layer, Status, drawn
from qpth.qp import QPFunction
from torch import Tensor

TALL, NONE, EYE = drawn(6, 4, seed=2), torch.empty(0).double(), torch.eye(4).double()
CURVATURE, WIDE = TALL.T @ TALL, drawn(2, 4, seed=3)
SOLVER = Known(
    Status.APPROXIMATION,
    "As exact as the solution: an interior-point method of at most 20 steps"
    " ([maxIter](https://github.com/locuslab/qpth/blob/master/qpth/qp.py)).",
)


def nonnegative_step(z: Tensor, b: Tensor) -> Tensor:
    """Descend once towards the nonnegative least-squares solution."""
    return (z - (TALL.T @ (TALL @ z[0] - b)) / 50).relu()


def nonnegative() -> Layer:
    """Nonnegative least squares, in the right-hand side."""

    def solve(b: Tensor) -> Tensor:
        return QPFunction(verbose=-1)(
            CURVATURE, -(b @ TALL)[None], -EYE, NONE.new_zeros(4), NONE, NONE
        )

    return Layer(solve, [drawn(6)], {"step": nonnegative_step}, SOLVER)


def conditions(curvature: Tensor, right: Tensor) -> Tensor:
    """Return the solution with equality constraints, from its linear system."""
    zero = curvature.new_zeros(2, 2)
    system = torch.cat([torch.cat([curvature, WIDE.mT], 1), torch.cat([WIDE, zero], 1)])
    return torch.linalg.solve(system, torch.cat([-TALL[0], right]))[None, :4]


def equalities() -> Layer:
    """Equality constraints, in the curvature and the right-hand side."""

    def solve(curvature: Tensor, right: Tensor) -> Tensor:
        inactive = (-EYE, NONE.new_full((4,), 100.0))
        return QPFunction(verbose=-1)(curvature, TALL[0], *inactive, WIDE, right)

    # The curvature is symmetric.
    return Layer(
        lambda half, right: solve(half @ half.mT, right),
        [drawn(4, 4, seed=4) + 3 * EYE, drawn(2, seed=5)],
        {"step": lambda z, half, right: conditions(half @ half.mT, right)},
        SOLVER,
        lambda half, right: conditions(half @ half.mT, right),
    )


def inequalities() -> Layer:
    """Inequalities that hold with equality, in their matrix and their right-hand side."""

    def solve(matrix: Tensor, right: Tensor) -> Tensor:
        return QPFunction(verbose=-1)(CURVATURE, TALL[0], matrix, right, NONE, NONE)

    def nearest(matrix: Tensor, right: Tensor) -> Tensor:
        free = -torch.linalg.solve(CURVATURE, TALL[0])
        inverse = torch.linalg.solve(CURVATURE, matrix.mT)
        return (free - inverse @ torch.linalg.solve(matrix @ inverse, matrix @ free - right))[None]

    # Both would be violated without them.
    right = -WIDE @ torch.linalg.solve(CURVATURE, TALL[0]) - WIDE @ torch.linalg.solve(
        CURVATURE, WIDE.mT @ torch.tensor([1.0, 2.0]).double()
    )
    options = {"step": lambda z, matrix, right: nearest(matrix, right)}
    return Layer(solve, [WIDE, right], options, SOLVER, nearest)


LAYERS = [nonnegative, equalities, inequalities]
