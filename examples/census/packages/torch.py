"""PyTorch: its own matrix functions, and points where distances are zero."""

import torch
from census import Known, Layer, Status, drawn
from torch import Tensor

linalg = torch.linalg
TALL, SQUARE, ROTATION = drawn(5, 3, seed=1), drawn(4, 4), linalg.qr(drawn(3, 3, seed=4)).Q
LEFT, RIGHT, TARGETS = drawn(5, 2, seed=6), drawn(4, 2, seed=7), drawn(5, 2, seed=5)
EYE = torch.eye(3).double()
DOCS = "https://docs.pytorch.org/docs/stable/generated/torch.linalg"
UNSTABLE = (
    "The square root is smooth there, but the gradient of eigenvectors is"
    f" [documented]({DOCS}.eigh.html) to be unstable where eigenvalues are close"
)
KINK = Known(Status.DOCUMENTED, "No derivative exists there: no gradient is right or wrong.")


def symmetric(gap: float) -> Tensor:
    """Return a matrix with the eigenvalues 1, 1 + gap and 2."""
    values = torch.tensor([1, 1 + gap, 2], dtype=torch.float64)
    return ROTATION * values @ ROTATION.T


# --- singular values and eigenvalues


def svd() -> Layer:
    """`linalg.svd` of a 5x3 matrix: all three factors."""
    return Layer(lambda a: linalg.svd(a, full_matrices=False), [TALL])


def null_space(a: Tensor) -> Tensor:
    null_vectors = linalg.svd(a, full_matrices=True).U[:, 3:]
    return null_vectors @ null_vectors.T


def null_space_by_hand(a: Tensor) -> Tensor:
    return torch.eye(5).double() - a @ linalg.solve(a.T @ a, a.T)


def full_svd() -> Layer:
    """Projection on the left null space by `linalg.svd(full_matrices=True)`."""
    text = f"That gradients in the last vectors are [ignored]({DOCS}.svd.html) is documented."
    known = Known(Status.DOCUMENTED, text)
    return Layer(null_space, [TALL], known=known, other=null_space_by_hand)


def nearest_rotation(a: Tensor) -> Tensor:
    left_vectors, _, right_vectors = linalg.svd(a)
    return left_vectors @ right_vectors


def nearest_rotation_by_hand(a: Tensor) -> Tensor:
    for _ in range(20):
        a = (a + linalg.inv(a).T) / 2
    return a


def equal_singular_values() -> Layer:
    """Nearest rotation, U V^T, at a rotation: by `linalg.svd`, equal singular values."""
    text = f"NaN where singular values are equal is [documented]({DOCS}.svd.html)."
    known = Known(Status.DOCUMENTED, text)
    return Layer(nearest_rotation, [ROTATION], known=known, other=nearest_rotation_by_hand)


def root(a: Tensor) -> Tensor:
    values, vectors = linalg.eigh((a + a.T) / 2)
    return vectors * values.sqrt() @ vectors.T


def root_by_hand(a: Tensor) -> Tensor:
    """The square root by Denman's and Beavers' iteration."""
    square_root, inverse = (a + a.T) / 2, EYE
    for _ in range(20):
        square_root, inverse = (
            (square_root + linalg.inv(inverse)) / 2,
            (inverse + linalg.inv(square_root)) / 2,
        )
    return square_root


def close_eigenvalues() -> Layer:
    """Square root by `linalg.eigh`, two eigenvalues 1e-6 apart."""
    return Layer(root, [symmetric(1e-6)], other=root_by_hand)


def very_close_eigenvalues() -> Layer:
    """Square root by `linalg.eigh`, two eigenvalues 1e-13 apart."""
    known = Known(Status.DOCUMENTED, UNSTABLE + ".")
    return Layer(root, [symmetric(1e-13)], known=known, other=root_by_hand)


def equal_eigenvalues() -> Layer:
    """Square root by `linalg.eigh`, of the identity."""
    known = Known(Status.DOCUMENTED, UNSTABLE + ", and NaN where two are equal.")
    return Layer(root, [EYE], known=known, other=root_by_hand)


def eigenvectors() -> Layer:
    """Eigenvectors by `linalg.eigh`, of the identity."""
    return Layer(lambda a: linalg.eigh(a).eigenvectors, [EYE], known=KINK)


# --- least squares and the exponential


def tall_least_squares() -> Layer:
    """`linalg.lstsq` of a 5x3 matrix, in both arguments."""
    normal = {"residual": lambda z, a, b: a.T @ (a @ z - b)}
    return Layer(lambda a, b: linalg.lstsq(a, b).solution, [TALL, TARGETS], normal)


def wide_least_squares() -> Layer:
    """`linalg.lstsq` of a 3x5 matrix, in both arguments."""
    inputs = TALL.T.contiguous(), TARGETS[:3]
    return Layer(lambda a, b: linalg.lstsq(a, b).solution, inputs)


def deficient_least_squares() -> Layer:
    """`linalg.lstsq(driver="gelsd")` of a 5x4 matrix of rank 2, in its factors and targets."""
    layer = lambda a, b, y: linalg.lstsq(a @ b.T, y, driver="gelsd").solution  # noqa: E731
    return Layer(layer, [LEFT, RIGHT, TARGETS])


def pseudoinverse() -> Layer:
    """`linalg.pinv` of a 5x3 matrix."""
    return Layer(linalg.pinv, [TALL])


def deficient_pseudoinverse() -> Layer:
    """`linalg.pinv` of a 5x4 matrix of rank 2, in its factors."""
    return Layer(lambda a, b: linalg.pinv(a @ b.T), [LEFT, RIGHT])


def exponential() -> Layer:
    """`matrix_exp` of a matrix of norm 30."""
    return Layer(torch.matrix_exp, [10 * SQUARE])


def exponential_of_zero() -> Layer:
    """`matrix_exp` of zero."""
    return Layer(torch.matrix_exp, [0 * SQUARE])


# --- distances


def distances() -> Layer:
    """`cdist` of 4 and 5 points in space."""
    return Layer(torch.cdist, [drawn(4, 3), TALL])


def squared_distances() -> Layer:
    """Squares of `cdist` of points and themselves."""
    return Layer(lambda x: torch.cdist(x, x) ** 2, [drawn(4, 3)])


def norm_at_zero() -> Layer:
    """`linalg.norm` at zero."""
    return Layer(linalg.norm, [torch.zeros(3).double()], known=KINK)


def squared_norm_at_zero() -> Layer:
    """Square of `linalg.norm` plus the sum, at zero."""
    layer = lambda x: linalg.norm(x) ** 2 + x.sum()  # noqa: E731
    return Layer(layer, [torch.zeros(3).double()])


def cubic_norm() -> Layer:
    """`linalg.norm(ord=3)` where one entry is zero."""
    return Layer(lambda x: linalg.norm(x, 3), [torch.tensor([0.0, 1.0, -2.0]).double()])


LAYERS = [
    svd,
    full_svd,
    equal_singular_values,
    close_eigenvalues,
    very_close_eigenvalues,
    equal_eigenvalues,
    eigenvectors,
    tall_least_squares,
    wide_least_squares,
    deficient_least_squares,
    pseudoinverse,
    deficient_pseudoinverse,
    exponential,
    exponential_of_zero,
    distances,
    squared_distances,
    norm_at_zero,
    squared_norm_at_zero,
    cubic_norm,
]
