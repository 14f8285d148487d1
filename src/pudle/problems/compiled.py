"""Cholesky solutions of small systems that differ from sample to sample, compiled by numba."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..kernel_choice import compiled


@compiled(nogil=True)
def _largest_eigenvalue_bound(matrix: NDArray[Any], k: int) -> Any:
    """Return an upper bound on the largest eigenvalue of a symmetric matrix, of which the upper
    half is given.
    """
    trace, squares = 0.0, 0.0
    for a in range(k):
        trace += matrix[a, a]
        squares += matrix[a, a] * matrix[a, a]
        for b in range(a + 1, k):
            squares += 2 * matrix[a, b] * matrix[a, b]
    return trace / k + np.sqrt(max(squares - trace * trace / k, 0.0) * (k - 1) / k)


@compiled(nogil=True)
def solve_with_bounds(
    hessian: NDArray[Any],
    active: NDArray[Any],
    right: NDArray[Any],
    solution: NDArray[Any],
    bounds: NDArray[Any],
) -> None:
    """Solve ``H_SS v_S = r_S`` for each sample; write v into `solution`, and a bound on the
    condition number of H_SS.

    The bound is that of `pudle.problems.active_set.solve_by_cholesky`. It is infinite, and v is not
    written, where a pivot is as small as in a singular matrix; it is not written where S is empty.
    A sample's matrices stay in the cache. With H_SS = U^T U, rows are subtracted from rows, because
    a compiler vectorizes no sum whose order is given.
    """
    n, p = active.shape
    size = 0
    for i in range(n):
        size = max(size, active[i].sum())
    indices, v = np.empty(p, np.int64), np.empty(size, hessian.dtype)
    eps = np.finfo(hessian.dtype).eps
    factor, inverse = np.empty((size, size), hessian.dtype), np.empty((size, size), hessian.dtype)
    for i in range(n):
        k = 0
        for j in range(p):
            if active[i, j]:
                indices[k] = j
                k += 1
        if k == 0:
            continue
        for a in range(k):
            for b in range(a, k):
                factor[a, b] = hessian[indices[a], indices[b]]
        bound = _largest_eigenvalue_bound(factor, k)
        bounds[i] = np.inf
        # A pivot is at least the smallest eigenvalue.
        smallest, regular = k * eps * bound, True
        for a in range(k):
            regular = factor[a, a] > smallest
            if not regular:
                break
            pivot = np.sqrt(factor[a, a])
            for b in range(a, k):
                factor[a, b] /= pivot
            for c in range(a + 1, k):
                weight = factor[a, c]
                for b in range(c, k):
                    factor[c, b] -= weight * factor[a, b]
        if not regular:
            continue
        for a in range(k):
            v[a] = right[i, indices[a]]
        for a in range(k):
            v[a] /= factor[a, a]
            for b in range(a + 1, k):
                v[b] -= factor[a, b] * v[a]
        # Rows of U^{-T} U^{T} = 1: row a of U^{-T} needs the rows before it.
        for a in range(k):
            inverse[a, :k] = 0
            inverse[a, a] = 1
        for a in range(k):
            for b in range(a + 1):
                inverse[a, b] /= factor[a, a]
            for c in range(a + 1, k):
                weight = factor[a, c]
                for b in range(a + 1):
                    inverse[c, b] -= weight * inverse[a, b]
        for a in range(k - 1, -1, -1):
            total = v[a]
            for b in range(a + 1, k):
                total -= factor[a, b] * v[b]
            v[a] = total / factor[a, a]
            solution[i, indices[a]] = v[a]
        # The upper half of H_SS^{-1}, the sum over the rows w of U^{-T} of w^T w, in place of the
        # factor.
        for a in range(k):
            factor[a, a:k] = 0
        for c in range(k):
            for a in range(c + 1):
                weight = inverse[c, a]
                for b in range(a, c + 1):
                    factor[a, b] += weight * inverse[c, b]
        bounds[i] = bound * _largest_eigenvalue_bound(factor, k)
