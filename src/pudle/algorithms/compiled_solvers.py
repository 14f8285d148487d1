"""Active-set steps and coordinate descent compiled by numba. Only `kernels` imports this module.

A sample runs through all its steps while its data are in the cache. In `active_set` the inverse of
its active Hessian H_SS gains or loses a row and a column with each change of the support S. What
rounding adds up in it cannot spoil the codes, because each step starts from correlations that are
computed anew.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..kernel_choice import compiled
from .stepless import ROUNDING


@compiled(error_model="numpy")
def _enter(
    hessian: NDArray[Any],
    j: int,
    atoms: NDArray[Any],
    k: int,
    inverse: NDArray[Any],
    column: NDArray[Any],
) -> Any:
    """Add atom j to the k atoms of a support; return whether it is independent of them."""
    for a in range(k):
        column[a] = 0
    for b in range(k):
        weight = hessian[j, atoms[b]]
        for a in range(k):
            column[a] += weight * inverse[b, a]
    pivot = hessian[j, j]
    for a in range(k):
        pivot -= hessian[j, atoms[a]] * column[a]
    for a in range(k):
        weight = column[a] / pivot
        for b in range(k):
            inverse[a, b] += weight * column[b]
        inverse[a, k] = inverse[k, a] = -weight
    atoms[k], inverse[k, k] = j, 1 / pivot
    return pivot > np.sqrt(np.finfo(hessian.dtype).eps) * hessian[j, j]


@compiled(error_model="numpy")
def _leave(a: int, atoms: NDArray[Any], k: int, inverse: NDArray[Any]) -> None:
    """Remove the atom at place a of k, which the last one takes."""
    # Arithmetic of slices would take as long to compile as all the rest.
    for b in range(k):
        if b != a:
            weight = inverse[b, a] / inverse[a, a]
            for c in range(k):
                inverse[b, c] -= weight * inverse[a, c]
    atoms[a] = atoms[k - 1]
    for b in range(k):
        inverse[a, b] = inverse[k - 1, b]
    for b in range(k):
        inverse[b, a] = inverse[b, k - 1]


@compiled(error_model="numpy", nogil=True)
def run_active_sets(
    hessian: NDArray[Any],
    products: NDArray[Any],
    penalties: NDArray[Any],
    nonnegative: bool,
    start: NDArray[Any],
    keep: NDArray[Any],
    codes: NDArray[Any],
) -> NDArray[Any]:
    """Run active-set steps from the codes `start`, shape (n, p), and write the codes after the
    steps `keep`, ascending, to `codes`, which are zero.

    Return which samples came to dependent atoms: their results are void.
    """
    n, p = products.shape
    dtype = hessian.dtype.type
    unit, largest = dtype(ROUNDING * np.finfo(hessian.dtype).eps), dtype(0)
    for j in range(p):
        largest = max(largest, hessian[j, j])
    unfit = np.zeros(n, np.bool_)
    atoms, inverse = np.empty(p + 1, np.int64), np.empty((p + 1, p + 1), hessian.dtype)
    space = np.empty((6, p + 1), hessian.dtype)
    z, signs, slope, direction = space[0], space[1], space[2], space[3]
    correlation, column = space[4], space[5]
    for i in range(n):
        k, place, done, whole, bound = 0, 0, False, False, dtype(0)
        for j in range(p):
            bound = max(bound, abs(products[i, j]))
            if start[i, j] != 0:
                unfit[i] |= not _enter(hessian, j, atoms, k, inverse, column)
                z[k], signs[k] = start[i, j], np.sign(start[i, j])
                k += 1
        for step in range(keep[-1] + 1):
            while place < len(keep) and (done or keep[place] == step):
                for a in range(k):
                    codes[place, i, atoms[a]] = z[a]
                place += 1
            if unfit[i] or place == len(keep):
                break
            for j in range(p):
                correlation[j] = products[i, j]
            error = square = dtype(0)
            for a in range(k):
                weight, atom = z[a], atoms[a]
                square += weight * weight
                for j in range(p):
                    correlation[j] -= weight * hessian[atom, j]
            for a in range(k):
                slope[a] = correlation[atoms[a]] - penalties[atoms[a]] * signs[a]
                error = max(error, abs(slope[a]))
            rounding = unit * (bound + largest * np.sqrt(square))
            # A whole step ends at the minimizer, unless rounding has spoiled the inverse.
            unfit[i] |= whole and error > rounding
            if error <= rounding:
                entering, excess = -1, rounding
                for j in range(p):
                    beyond = correlation[j] if nonnegative else abs(correlation[j])
                    if beyond - penalties[j] > excess:
                        entering, excess = j, beyond - penalties[j]
                done = entering < 0
                if done:
                    continue
                unfit[i] = not _enter(hessian, entering, atoms, k, inverse, column)
                z[k], signs[k] = 0, np.sign(correlation[entering])
                slope[k] = signs[k] * excess
                k += 1
            for a in range(k):
                direction[a] = 0
            for b in range(k):
                weight = slope[b]
                for a in range(k):
                    direction[a] += weight * inverse[b, a]
            length = dtype(1)
            for a in range(k):
                if direction[a] * signs[a] < 0:
                    length = min(length, -z[a] / direction[a])
            whole = length == 1
            for a in range(k - 1, -1, -1):
                crosses = direction[a] * signs[a] < 0 and -z[a] / direction[a] <= length
                z[a] += length * direction[a]
                if crosses or z[a] * signs[a] <= 0:
                    _leave(a, atoms, k, inverse)
                    k -= 1
                    z[a], signs[a] = z[k], signs[k]
    return unfit


@compiled(error_model="numpy", nogil=True)
def descend(
    hessian: NDArray[Any],
    products: NDArray[Any],
    penalties: NDArray[Any],
    nonnegative: bool,
    start: NDArray[Any],
    keep: NDArray[Any],
    codes: NDArray[Any],
) -> NDArray[Any]:
    """Run coordinate descent, with arguments and result as `run_active_sets`."""
    n, p = products.shape
    tiny = np.finfo(hessian.dtype).tiny
    correlation, z = np.empty(p, hessian.dtype), np.empty(p, hessian.dtype)
    for i in range(n):
        for j in range(p):
            z[j] = start[i, j]
        place = 0
        for step in range(keep[-1] + 1):
            if keep[place] == step:
                for j in range(p):
                    codes[place, i, j] = z[j]
                place += 1
            # Anew in each step, so that rounding does not add up.
            for j in range(p):
                correlation[j] = products[i, j]
            for a in range(p):
                if z[a] != 0:
                    for j in range(p):
                        correlation[j] -= z[a] * hessian[a, j]
            for a in range(p):
                curvature = max(hessian[a, a], tiny)
                value, threshold = z[a] + correlation[a] / curvature, penalties[a] / curvature
                after = max(value - threshold, 0)
                if not nonnegative:
                    after += min(value + threshold, 0)
                change = after - z[a]
                if change != 0:
                    z[a] = after
                    for j in range(p):
                        correlation[j] -= change * hessian[a, j]
    return np.zeros(n, np.bool_)
