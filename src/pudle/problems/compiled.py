"""Cholesky solutions of small systems that differ from sample to sample, compiled by numba."""

import numba
import numpy as np


@numba.njit(fastmath={"contract"}, nogil=True, cache=True)
def solve_by_cholesky(hessian, active, right, solution, bounds):
    """Solve ``H_SS v_S = r_S`` for each sample; write v into `solution`, and a bound on the condition number of H_SS.

    With H_SS = U^T U, the bound is ``|H_SS|_F |U^{-1} U^{-T}|_F``. It is infinite, and v is not written, where H_SS is not
    positive definite. A sample's matrices stay in the cache. Rows are subtracted from rows, because compilers vectorize no
    sums whose order is given.
    """
    n, p = active.shape
    size = 0
    for i in range(n):
        size = max(size, active[i].sum())
    indices, v = np.empty(p, np.int64), np.empty(size, hessian.dtype)
    factor, inverse = np.empty((size, size), hessian.dtype), np.empty((size, size), hessian.dtype)
    for i in range(n):
        k = 0
        for j in range(p):
            if active[i, j]:
                indices[k] = j
                k += 1
        squared_norm = 0.0
        for a in range(k):
            for b in range(a, k):
                entry = hessian[indices[a], indices[b]]
                factor[a, b] = entry
                squared_norm += (1 if a == b else 2) * entry * entry
        bounds[i] = np.inf
        definite = True
        for a in range(k):
            definite = factor[a, a] > 0
            if not definite:
                break
            pivot = np.sqrt(factor[a, a])
            for b in range(a, k):
                factor[a, b] /= pivot
            for c in range(a + 1, k):
                weight = factor[a, c]
                for b in range(c, k):
                    factor[c, b] -= weight * factor[a, b]
        if not definite:
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
        # The upper half of H_SS^{-1}, the sum over the rows w of U^{-T} of w^T w, in place of the factor.
        for a in range(k):
            factor[a, a:k] = 0
        for c in range(k):
            for a in range(c + 1):
                weight = inverse[c, a]
                for b in range(a, c + 1):
                    factor[a, b] += weight * inverse[c, b]
        squared_inverse = 0.0
        for a in range(k):
            for b in range(a, k):
                squared_inverse += (1 if a == b else 2) * factor[a, b] * factor[a, b]
        bounds[i] = np.sqrt(squared_norm * squared_inverse)
