"""linear_operator: solves and determinants of structured matrices."""

import torch
from census import Known, Layer, Status, drawn
from linear_operator import settings, solve, to_linear_operator
from linear_operator.operators import ToeplitzLinearOperator
from torch import Tensor

SQUARE, LARGE, RIGHT = drawn(4, 4, seed=1), drawn(30, 30, seed=5), drawn(4, 2, seed=2)
KERNEL = SQUARE @ SQUARE.T + torch.eye(4).double()
KERNEL_30 = LARGE @ LARGE.T / 30 + torch.eye(30).double() / 2
COLUMN = torch.tensor([2.0, 0.7, 0.3, 0.1]).double()


def residual(z: Tensor, matrix: Tensor, right: Tensor) -> Tensor:
    return matrix @ z - right


def dense_solve() -> Layer:
    """`solve`, settings as they come (Cholesky), in matrix and right-hand sides."""
    layer = lambda matrix, right: solve(to_linear_operator(matrix), right)  # noqa: E731
    return Layer(layer, [KERNEL, RIGHT], {"residual": residual})


def determinant() -> Layer:
    """`inv_quad_logdet`, settings as they come, in matrix and right-hand sides."""

    def layer(matrix: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
        return to_linear_operator(matrix).inv_quad_logdet(right, logdet=True)

    return Layer(layer, [KERNEL, RIGHT])


def factor() -> Layer:
    """`cholesky`, in the matrix."""
    return Layer(lambda matrix: to_linear_operator(matrix).cholesky().to_dense(), [KERNEL])


def toeplitz() -> Layer:
    """`ToeplitzLinearOperator.solve`, in its column and the right-hand sides."""
    return Layer(lambda column, right: ToeplitzLinearOperator(column).solve(right), [COLUMN, RIGHT])


def conjugate_gradients() -> Layer:
    """`solve` of 30 rows by conjugate gradients, as of more than 800, in the right-hand side."""
    # The backward pass has to find it as well: nothing leaves it.
    settings.max_cholesky_size(0).__enter__()
    text = (
        "By default training allows conjugate gradients a residual of"
        " [1](https://github.com/cornellius-gp/linear_operator/blob/main/linear_operator/settings.py)."
    )
    layer = lambda right: solve(to_linear_operator(KERNEL_30), right)  # noqa: E731
    zero = lambda z, right: residual(z, KERNEL_30, right)  # noqa: E731
    known = Known(Status.APPROXIMATION, text)
    return Layer(layer, [drawn(30, seed=6)], {"residual": zero}, known)


LAYERS = [dense_solve, determinant, factor, toeplitz, conjugate_gradients]
