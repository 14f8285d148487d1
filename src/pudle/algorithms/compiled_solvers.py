"""Active-set steps compiled by numba. Only `kernels` imports this module.

A sample runs through all its steps while its data are in the cache. The inverse of its active
Hessian H_SS gains or loses a row and a column with each change of the support S. What rounding adds
up in it cannot spoil the codes: wherever a sample settles, its correlations are computed anew, and
the codes corrected until the optimality conditions hold on S.
"""

import numpy as np

from ..kernel_choice import compiled
from .active_set import ROUNDING

#: Number of corrections after which a sample is left to the torch path.
CORRECTIONS = 4


@compiled(error_model="numpy")
def _enter(hessian, j, atoms, k, inverse, column):
    """Add atom j to the k atoms of a support; return whether it is independent of them."""
    column[:k] = 0
    for b in range(k):
        weight = hessian[j, atoms[b]]
        for a in range(k):
            column[a] += weight * inverse[b, a]
    pivot = hessian[j, j]
    for a in range(k):
        pivot -= hessian[j, atoms[a]] * column[a]
    if not pivot > np.sqrt(np.finfo(hessian.dtype).eps) * hessian[j, j]:
        return False
    for a in range(k):
        weight = column[a] / pivot
        for b in range(k):
            inverse[a, b] += weight * column[b]
        inverse[a, k] = inverse[k, a] = -weight
    inverse[k, k] = 1 / pivot
    atoms[k] = j
    return True


@compiled(error_model="numpy")
def _leave(a, atoms, k, inverse):
    """Remove the atom at place a of k, which the last one takes."""
    last = k - 1
    atoms[a] = atoms[last]
    for b in range(k):
        inverse[a, b], inverse[last, b] = inverse[last, b], inverse[a, b]
    for b in range(k):
        inverse[b, a], inverse[b, last] = inverse[b, last], inverse[b, a]
    for b in range(last):
        weight = inverse[b, last] / inverse[last, last]
        for c in range(last):
            inverse[b, c] -= weight * inverse[last, c]


@compiled(error_model="numpy")
def _settle(hessian, products, penalties, signs, atoms, k, inverse, z, correlation, column):
    """Compute the correlations at the minimizer z on the support, which is corrected where they
    show an error; return what rounding may make of them, or -1 where corrections do not help.
    """
    unit, largest = hessian.dtype.type(ROUNDING * np.finfo(hessian.dtype).eps), hessian[0, 0]
    for j in range(len(hessian)):
        largest = max(largest, hessian[j, j])
    for _ in range(CORRECTIONS):
        scale = abs(products[0])
        for j in range(len(hessian)):
            correlation[j] = products[j]
            scale = max(scale, abs(products[j]))
        for a in range(k):
            weight, atom = z[a], atoms[a]
            scale += largest * abs(weight)
            for j in range(len(hessian)):
                correlation[j] -= weight * hessian[atom, j]
        rounding, error = unit * scale, hessian.dtype.type(0)
        for a in range(k):
            column[a] = correlation[atoms[a]] - penalties[atoms[a]] * signs[a]
            error = max(error, abs(column[a]))
        if error <= rounding:
            return rounding
        for b in range(k):
            for a in range(k):
                z[a] += column[b] * inverse[b, a]
    return -hessian.dtype.type(1)


@compiled(error_model="numpy", nogil=True)
def run_active_sets(hessian, products, penalties, nonnegative, start, ready, keep, codes, settled):
    """Run active-set steps from codes and marks of settled samples, shape (n, p) and (n,), and
    write those after the steps `keep`, ascending, to `codes` and `settled`.

    Return which samples have dependent atoms on the way: their results are void.
    """
    n, p = products.shape
    one = hessian.dtype.type(1)
    unfit = np.zeros(n, np.bool_)
    atoms, inverse = np.empty(p + 1, np.int64), np.empty((p, p), hessian.dtype)
    space = np.empty((6, p + 1), hessian.dtype)
    z, target, signs = space[0], space[1], space[2]
    slope, correlation, column = space[3], space[4], space[5]
    for i in range(n):
        k, fit, resting, done, place = 0, True, ready[i], False, 0
        for j in range(p):
            if start[i, j] != 0 and fit:
                fit = _enter(hessian, j, atoms, k, inverse, column)
                z[k], signs[k] = start[i, j], one if start[i, j] > 0 else -one
                k += 1
        rounding = one
        if fit and resting:
            rounding = _settle(
                hessian, products[i], penalties, signs, atoms, k, inverse, z, correlation, column
            )
        for step in range(keep[-1] + 1):
            fit = fit and rounding >= 0
            if not fit:
                break
            while place < len(keep) and (done or keep[place] == step):
                for a in range(k):
                    codes[place, i, atoms[a]] = z[a]
                settled[place, i] = resting
                place += 1
            if place == len(keep):
                break
            if resting:
                entering, excess = -1, rounding
                for j in range(p):
                    beyond = correlation[j] if nonnegative else abs(correlation[j])
                    if beyond - penalties[j] > excess:
                        entering, excess = j, beyond - penalties[j]
                done = entering < 0
                if done:
                    continue
                fit = _enter(hessian, entering, atoms, k, inverse, column)
                if not fit:
                    break
                z[k], signs[k] = 0, one if correlation[entering] > 0 else -one
                slope[:k], slope[k] = 0, signs[k] * excess
                k += 1
            else:
                for a in range(k):
                    slope[a] = products[i, atoms[a]] - penalties[atoms[a]] * signs[a]
                for b in range(k):
                    for a in range(k):
                        slope[a] -= z[b] * hessian[atoms[b], atoms[a]]
            target[:k] = z[:k]
            for b in range(k):
                if slope[b] != 0:
                    for a in range(k):
                        target[a] += slope[b] * inverse[b, a]
            length, resting = one, True
            for a in range(k):
                if target[a] * signs[a] <= 0:
                    length, resting = min(length, z[a] / (z[a] - target[a])), False
            if resting:
                z[:k] = target[:k]
                rounding = _settle(
                    hessian,
                    products[i],
                    penalties,
                    signs,
                    atoms,
                    k,
                    inverse,
                    z,
                    correlation,
                    column,
                )
                continue
            for a in range(k - 1, -1, -1):
                before, z[a] = z[a], z[a] + length * (target[a] - z[a])
                crosses = target[a] * signs[a] <= 0 and before / (before - target[a]) <= length
                if crosses or z[a] * signs[a] <= 0:
                    k -= 1
                    _leave(a, atoms, k + 1, inverse)
                    z[a], signs[a] = z[k], signs[k]
        unfit[i] = not fit
    return unfit
