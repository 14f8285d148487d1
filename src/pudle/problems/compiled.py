"""Cholesky solutions of small systems that differ from sample to sample, compiled by numba."""

import numpy as np
from numpy.typing import NDArray

from ..kernel_choice import Matrix, Vector, compiled, compiled_part, inlined_part


@compiled_part
def zero() -> int:
    """Return zero, as a number of which compiled code does not know that it is constant.

    For the constant itself, as for any other number, numba would compile once more what it is given
    to.
    """
    return abs(0)


@inlined_part
def _largest_eigenvalue_bound(matrix: Matrix, k: int) -> float:
    """Return an upper bound on the largest eigenvalue of a symmetric matrix, the leading k x k part
    of `matrix`, of which the upper half is given: ``t/k + sqrt((s - t^2/k)(k - 1)/k)``, with trace
    t and squared Frobenius norm s.
    """
    trace, squares = 0.0, 0.0
    for a in range(k):
        trace += matrix[a, a]
        squares += matrix[a, a] * matrix[a, a]
        for b in range(a + 1, k):
            squares += 2 * matrix[a, b] * matrix[a, b]
    bound: float = trace / k + np.sqrt(max(squares - trace * trace / k, 0.0) * (k - 1) / k)
    return bound


@inlined_part
def _factorize(matrix: Matrix, k: int, smallest: float) -> bool:
    """Replace the upper half of the leading k x k part of a matrix, in place, by its Cholesky
    factor U, with ``U^T U`` the matrix; return whether all pivots are above `smallest`.

    Where one is not, the matrix is left half changed.
    """
    for a in range(k):
        if not matrix[a, a] > smallest:
            return False
        pivot = np.sqrt(matrix[a, a])
        for b in range(a, k):
            matrix[a, b] /= pivot
        for c in range(a + 1, k):
            weight = matrix[a, c]
            for b in range(c, k):
                matrix[c, b] -= weight * matrix[a, b]
    return True


@inlined_part
def _substitute(factor: Matrix, k: int, v: Vector) -> None:
    """Solve ``U^T U v = r`` in place of r, the first k entries of `v`, with the Cholesky factor
    U.
    """
    for a in range(k):
        v[a] /= factor[a, a]
        for b in range(a + 1, k):
            v[b] -= factor[a, b] * v[a]
    for a in range(k - 1, -1, -1):
        total = v[a]
        for b in range(a + 1, k):
            total -= factor[a, b] * v[b]
        v[a] = total / factor[a, a]


@inlined_part
def _invert(factor: Matrix, k: int, inverse: Matrix) -> None:
    """Write the inverse of ``U^T``, a lower triangle, into the leading k x k part of `inverse`,
    from the Cholesky factor U.
    """
    for a in range(k):
        for b in range(k):
            inverse[a, b] = 0
        inverse[a, a] = 1
    # Row a of U^{-T} needs the rows before it.
    for a in range(k):
        for b in range(a + 1):
            inverse[a, b] /= factor[a, a]
        for c in range(a + 1, k):
            weight = factor[a, c]
            for b in range(a + 1):
                inverse[c, b] -= weight * inverse[a, b]


@inlined_part
def _square(inverse: Matrix, k: int, product: Matrix) -> None:
    """Write the upper half of the inverse of ``U^T U`` into `product`: sum w^T w over the rows w of
    U^{-T}, which `inverse` holds.
    """
    for a in range(k):
        for b in range(a, k):
            product[a, b] = 0
    for c in range(k):
        for a in range(c + 1):
            weight = inverse[c, a]
            for b in range(a, c + 1):
                product[a, b] += weight * inverse[c, b]


@compiled(nogil=True)
def solve_with_bounds(
    hessian: Matrix,
    active: NDArray[np.bool_],
    right: Matrix,
    solution: Matrix,
    bounds: Vector,
) -> None:
    """Solve ``H_SS v_S = r_S`` for each sample, H being the same for all and S its active set;
    write v into `solution` at S, and a bound on the condition number of H_SS into `bounds`.

    The bound is that of `pudle.problems.active_set.solve_by_cholesky`. Where a pivot is as small as
    in a singular matrix, the bound is infinite and v is not written. Where S is empty, neither is
    written. Entries of `solution` outside S stay as they are.

    A sample's matrices stay in the processor's cache. With H_SS = U^T U, rows are subtracted from
    rows, because a compiler vectorizes no sum whose order is given.
    """
    n, p = active.shape
    size = 0
    for i in range(n):
        size = max(size, active[i].sum())
    indices, v = np.empty(p, np.int64), np.empty(size, hessian.dtype)
    eps = np.finfo(hessian.dtype).eps
    factor, inverse = np.empty((size, size), hessian.dtype), np.empty((size, size), hessian.dtype)
    for i in range(n):
        k = zero()
        for j in range(p):
            if active[i, j]:
                indices[k], v[k] = j, right[i, j]
                k += 1
        if k == 0:
            continue
        for a in range(k):
            for b in range(a, k):
                factor[a, b] = hessian[indices[a], indices[b]]
        bound = _largest_eigenvalue_bound(factor, k)
        bounds[i] = np.inf
        # A pivot is at least the smallest eigenvalue.
        if _factorize(factor, k, k * eps * bound):
            _substitute(factor, k, v)
            for a in range(k):
                solution[i, indices[a]] = v[a]
            _invert(factor, k, inverse)
            _square(inverse, k, factor)
            bounds[i] = bound * _largest_eigenvalue_bound(factor, k)
