"""Active-set steps and coordinate descent compiled by numba. Only `kernels` imports this module.

A sample runs through all its steps while its data are in the cache. In `active_set` the inverse of
its active Hessian H_SS gains or loses a row and a column with each change of the support S. What
rounding adds up in it cannot spoil the codes, because each step starts from correlations that are
computed anew.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..kernel_choice import CompiledArray, Cube, Indices, Matrix, Vector, compiled, inlined_part
from ..problems.compiled import zero
from .stepless import ROUNDING


class Systems(NamedTuple):
    """The problems to solve, for r of n samples, and the arrays that take the results."""

    hessian: Matrix
    #: The correlations of the atoms with the observations, shape (r, p).
    products: Matrix
    penalties: Vector
    nonnegative: bool
    #: The first codes, shape (n, p).
    start: Matrix
    #: The codes after the steps `keep`, ascending, are written to `codes`, which are zero, and
    #: which samples are known to be solved there to `solved`, which is false.
    keep: Indices
    codes: Cube
    solved: CompiledArray[tuple[int, int], bool]
    #: The index in `start`, `codes` and `solved` of the first sample that `products` has.
    first: int


class Support(NamedTuple):
    """The support S of a sample's codes, of k atoms: what is known of each atom of S lies at the
    first k places of vectors, in one order for all.
    """

    #: The indices of the atoms.
    atoms: Indices
    codes: Vector
    signs: Vector
    #: Minus the derivative of the objective in the codes, and the step to its minimizer for these
    #: signs.
    slope: Vector
    direction: Vector
    #: The inverse of H_SS, and a vector that is written when an atom enters.
    inverse: Matrix
    column: Vector


@inlined_part
def _enter(hessian: Matrix, atom: int, k: int, support: Support) -> bool:
    """Add an atom to the k atoms of a support, in place; return whether it is independent of them,
    up to the root of rounding. Codes, signs and slope are left to the caller.

    With ``B = H_SS^{-1}``, j the atom, ``c = B H_Sj`` and the pivot ``H_jj - H_jS c``, which is the
    squared distance of the atom from the span of the others, the inverse becomes

        [B + c c^T / pivot,  -c / pivot]
        [    -c^T / pivot,    1 / pivot].
    """
    atoms, inverse, column = support.atoms, support.inverse, support.column
    for a in range(k):
        column[a] = 0
    for b in range(k):
        weight = hessian[atom, atoms[b]]
        for a in range(k):
            column[a] += weight * inverse[b, a]
    pivot = hessian[atom, atom]
    for a in range(k):
        pivot -= hessian[atom, atoms[a]] * column[a]
    for a in range(k):
        weight = column[a] / pivot
        for b in range(k):
            inverse[a, b] += weight * column[b]
        inverse[a, k] = inverse[k, a] = -weight
    atoms[k], inverse[k, k] = atom, 1 / pivot
    is_independent: bool = pivot > np.sqrt(np.finfo(hessian.dtype).eps) * hessian[atom, atom]
    return is_independent


@inlined_part
def _leave(place: int, k: int, support: Support) -> None:
    """Remove the atom at a place of k from a support, in place: the last one takes its place. Codes
    and signs are left to the caller.

    Of the inverse B of H_SS, with a for the place, ``B - B_{:a} B_{a:} / B_aa`` without row and
    column a is the inverse for the other atoms.
    """
    atoms, inverse = support.atoms, support.inverse
    # Arithmetic of slices would take as long to compile as all the rest.
    for b in range(k):
        if b != place:
            weight = inverse[b, place] / inverse[place, place]
            for c in range(k):
                inverse[b, c] -= weight * inverse[place, c]
    atoms[place] = atoms[k - 1]
    for b in range(k):
        inverse[place, b] = inverse[k - 1, b]
    for b in range(k):
        inverse[b, place] = inverse[b, k - 1]


@inlined_part
def _correlate(
    hessian: Matrix,
    products: Matrix,
    i: int,
    atoms: Indices,
    codes: Vector,
    k: int,
    correlation: Vector,
) -> float:
    """Write the correlations of sample i's residual with all atoms, ``D^T x - H z`` with l2
    penalties, to `correlation`; return the squared norm of its codes.
    """
    squared_norm: float = hessian.dtype.type(0)
    for j in range(len(hessian)):
        correlation[j] = products[i, j]
    for a in range(k):
        weight, atom = codes[a], atoms[a]
        squared_norm += weight * weight
        for j in range(len(hessian)):
            correlation[j] -= weight * hessian[atom, j]
    return squared_norm


@inlined_part
def _set_slope(
    correlation: Vector,
    penalties: Vector,
    atoms: Indices,
    signs: Vector,
    k: int,
    slope: Vector,
) -> float:
    """Write the slope on a support, ``d_j^T (x - D z) - penalty_j sign_j``, to `slope`; return its
    largest magnitude.
    """
    largest: float = correlation.dtype.type(0)
    for a in range(k):
        slope[a] = correlation[atoms[a]] - penalties[atoms[a]] * signs[a]
        largest = max(largest, abs(slope[a]))
    return largest


@inlined_part
def _most_violating(
    correlation: Vector, penalties: Vector, nonnegative: bool, rounding: float
) -> tuple[int, float]:
    """Return the atom whose correlation exceeds its penalty most, and by how much; -1 and the
    rounding if none does by more than that.
    """
    entering, excess = -1, rounding
    for j in range(len(penalties)):
        beyond = correlation[j] if nonnegative else abs(correlation[j])
        if beyond - penalties[j] > excess:
            entering, excess = j, beyond - penalties[j]
    return entering, excess


@inlined_part
def _move(k: int, support: Support) -> tuple[int, bool]:
    """Move along ``v = H_SS^{-1} F``, F the slope, to the minimizer for these signs, or to the
    first entries that become zero and leave the support; return its size, and whether the step was
    whole.

    Changes the support in place.
    """
    codes, signs, slope = support.codes, support.signs, support.slope
    direction, inverse = support.direction, support.inverse
    for a in range(k):
        direction[a] = 0
    for b in range(k):
        weight = slope[b]
        for a in range(k):
            direction[a] += weight * inverse[b, a]
    length = inverse.dtype.type(1)
    for a in range(k):
        if direction[a] * signs[a] < 0:
            length = min(length, -codes[a] / direction[a])
    # From the last place on, because the last atom takes the place of one that leaves.
    for a in range(k - 1, -1, -1):
        becomes_zero = direction[a] * signs[a] < 0 and -codes[a] / direction[a] <= length
        codes[a] += length * direction[a]
        if becomes_zero or codes[a] * signs[a] <= 0:
            _leave(a, k, support)
            k -= 1
            codes[a], signs[a] = codes[k], signs[k]
    return k, length == 1


@inlined_part
def _run_sample(
    i: int, systems: Systems, largest_curvature: float, correlation: Vector, support: Support
) -> bool:
    """Run the steps of sample i, and write codes to keep, and where they are solved, to the
    systems' arrays; return whether it came to dependent atoms, which ends it.

    The steps are those of `pudle.algorithms.stepless.ActiveSet`: an atom enters where the slope on
    the support is rounding, then the codes move. A correlation counts as zero up to `ROUNDING`
    units of ``max_j |d_j^T x| + max_j H_jj |z|``. `largest_curvature` is the largest H_jj.
    """
    hessian, products, penalties = systems.hessian, systems.products, systems.penalties
    start, keep, nonnegative = systems.start, systems.keep, systems.nonnegative
    row = systems.first + i
    atoms, codes, signs, slope = support.atoms, support.codes, support.signs, support.slope
    dtype = hessian.dtype.type
    unit, largest_product = dtype(ROUNDING * np.finfo(hessian.dtype).eps), dtype(0)
    k, n_kept, is_solved, is_full_step, met_dependent_atoms = zero(), 0, False, False, False
    for j in range(len(penalties)):
        largest_product = max(largest_product, abs(products[i, j]))
        if start[row, j] != 0:
            met_dependent_atoms = not _enter(hessian, j, k, support) or met_dependent_atoms
            codes[k], signs[k] = start[row, j], np.sign(start[row, j])
            k += 1
    for step in range(keep[-1] + 1):
        # Codes that are solved stay where they are: they are those of all later steps.
        while n_kept < len(keep) and (is_solved or keep[n_kept] == step):
            for a in range(k):
                systems.codes[n_kept, row, atoms[a]] = codes[a]
            systems.solved[n_kept, row] = is_solved
            n_kept += 1
        if met_dependent_atoms or n_kept == len(keep):
            break
        squared_norm = _correlate(hessian, products, i, atoms, codes, k, correlation)
        largest_slope = _set_slope(correlation, penalties, atoms, signs, k, slope)
        rounding = unit * (largest_product + largest_curvature * np.sqrt(squared_norm))
        # A whole step ends at the minimizer, unless rounding has spoiled the inverse.
        met_dependent_atoms = is_full_step and largest_slope > rounding
        if largest_slope <= rounding:
            entering, excess = _most_violating(correlation, penalties, nonnegative, rounding)
            is_solved = entering < 0
            if is_solved:
                continue
            met_dependent_atoms = not _enter(hessian, entering, k, support)
            codes[k], signs[k] = 0, np.sign(correlation[entering])
            slope[k] = signs[k] * excess
            k += 1
        k, is_full_step = _move(k, support)
    return met_dependent_atoms


@compiled(error_model="numpy", nogil=True)
def run_active_sets(systems: Systems) -> NDArray[np.bool_]:
    """Run active-set steps, and write codes to keep, and which samples are solved there, to the
    systems' arrays.

    Return which samples came to dependent atoms: their results are void.
    """
    (n, p), hessian = systems.products.shape, systems.hessian
    largest_curvature = hessian.dtype.type(0)
    for j in range(p):
        largest_curvature = max(largest_curvature, hessian[j, j])
    met_dependent_atoms = np.zeros(n, np.bool_)
    # An atom enters before another leaves.
    vectors = np.empty((6, p + 1), hessian.dtype)
    correlation = vectors[4]
    support = Support(
        atoms=np.empty(p + 1, np.int64),
        codes=vectors[0],
        signs=vectors[1],
        slope=vectors[2],
        direction=vectors[3],
        inverse=np.empty((p + 1, p + 1), hessian.dtype),
        column=vectors[5],
    )
    for i in range(n):
        met_dependent_atoms[i] = _run_sample(i, systems, largest_curvature, correlation, support)
    return met_dependent_atoms


@inlined_part
def _minimize_each(
    hessian: Matrix,
    penalties: Vector,
    nonnegative: bool,
    codes: Vector,
    correlation: Vector,
) -> None:
    """Minimize over one entry of a sample's codes after another, ``z_j <- S(z_j + c_j / H_jj)``
    with the correlation c and the soft threshold S at ``penalty_j / H_jj``; changes `codes` and
    `correlation` in place.
    """
    p, tiny = len(codes), np.finfo(hessian.dtype).tiny
    for atom in range(p):
        curvature = max(hessian[atom, atom], tiny)
        value, threshold = codes[atom] + correlation[atom] / curvature, penalties[atom] / curvature
        after = max(value - threshold, 0)
        if not nonnegative:
            after += min(value + threshold, 0)
        change = after - codes[atom]
        if change != 0:
            codes[atom] = after
            for j in range(p):
                correlation[j] -= change * hessian[atom, j]


@compiled(error_model="numpy", nogil=True)
def descend(systems: Systems) -> NDArray[np.bool_]:
    """Run coordinate descent, and write codes to keep to the systems' arrays.

    It comes to no dependent atoms, so that none of the samples that it returns is marked, and it
    knows no sample to be solved.
    """
    (n, p), hessian, products = systems.products.shape, systems.hessian, systems.products
    penalties, keep = systems.penalties, systems.keep
    correlation, z = np.empty(p, hessian.dtype), np.empty(p, hessian.dtype)
    for i in range(n):
        for j in range(p):
            z[j] = systems.start[systems.first + i, j]
        place = 0
        for step in range(keep[-1] + 1):
            if keep[place] == step:
                for j in range(p):
                    systems.codes[place, systems.first + i, j] = z[j]
                place += 1
            # Anew in each step, so that rounding does not add up.
            for j in range(p):
                correlation[j] = products[i, j]
            for a in range(p):
                if z[a] != 0:
                    for j in range(p):
                        correlation[j] -= z[a] * hessian[a, j]
            _minimize_each(hessian, penalties, systems.nonnegative, z, correlation)
    return np.zeros(n, np.bool_)
