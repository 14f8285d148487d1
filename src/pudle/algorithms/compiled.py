"""Layers of sparse coding and their adjoints on active sets, compiled by numba. Only
`passes` imports this module.

Samples are independent of each other: each runs through all layers, forward and back, while its
data are in the cache. With G the Hessian of the smooth part, b = D^T x and eta the step, a layer is
``z' = S(y + eta (b - G y))``, of which only the rows of G on the support of y matter. Backward,
with u the adjoint of z' restricted to the support of z',

    b_bar += eta u,    G_bar -= eta y u^T,    y_bar = u - eta G u,

where y_bar is needed only on the support of the codes before. Supports change little from layer to
layer. So consecutive layers share one list of atoms that contains their supports, and what they
compute is kept as vectors on that list; back through them, products are dense ones with the part of
G on it. Depths are treated together, as the last, contiguous axis: for them, and for the sums over
the layers of a group, numpy's products of matrices are scipy's BLAS in compiled code.

Within a layer, rows of arrays are named by an index: numba counts the references to every view of
an array, which takes longer than the work on a few entries.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..kernel_choice import (
    CompiledArray,
    Cube,
    Indices,
    Matrix,
    Vector,
    compiled,
    compiled_part,
    inlined_part,
)
from ..problems.compiled import zero

#: Largest number of layers that share a list of atoms.
GROUP = 32
#: Vectors on a list are filled up with zeros to a multiple of this, for vector instructions.
LANES = 16


class Program(NamedTuple):
    """The layers to run for some samples, and the arrays that take the results.

    From the depths `tops`, ascending, is pulled back: from the derivatives of the loss or, if
    `adjoints_given`, from those in codes and point that `adjoints` has for the last layer. To
    `gram_bar` and `products_bar` the derivatives of the loss are added, summed over the samples, in
    eta G and in eta b; only the sum of gram_bar and its transpose is used. Where samples are few,
    the columns (p, m) of what it stands for, D (G_bar + G_bar^T), are cheaper than a matrix for all
    pairs of atoms: if `columns`, those of D, are not empty, there is one depth, and `columns_bar`
    is used in place of gram_bar.
    """

    #: Number of layers that were run before.
    offset: int
    #: eta G (p, p) and eta b (r, p).
    gram: Matrix
    products: Matrix
    #: All layers' thresholds, and the extrapolation (a_t - 1) / a_{t+1} behind each.
    thresholds: Vector
    pulls: Vector
    #: eta, and the number n of all samples.
    step: float
    samples: float
    #: Weights of the l1 norm and of half the squared l2 norm in the outer loss beyond what G
    #: contains.
    l1_weight: float
    l2_weight: float
    #: Whether the rule is hard, codes are non-negative, and the point is extrapolated.
    hard: bool
    nonnegative: bool
    accelerated: bool
    #: The states after the layers `keep`, ascending, are written to `codes` and `points`, shape
    #: (layers, n, p), points only if they are not the codes; `first` is the index there of the
    #: first sample.
    keep: Indices
    codes: Cube
    points: Cube
    first: int
    tops: Indices
    adjoints_given: bool
    #: Shape (depths, 2, r, p); those before the first layer are left there, at least on the support
    #: of the state.
    adjoints: NDArray[np.float64]
    #: Shapes (p, p, depths) and (depths, r, p).
    gram_bar: Cube
    products_bar: Cube
    columns: Matrix
    columns_bar: CompiledArray[int, Vector]


class Tape(NamedTuple):
    """The states of one sample at all layers, for the way back. The layer between two groups lies
    in both, as entries on either list.
    """

    #: The t-th of these layers lies in row t + g if group g of layers contains it, as entries at
    #: ``atoms[g][:sizes[g]]``.
    codes: Matrix
    points: Matrix
    atoms: CompiledArray[int, Indices]
    sizes: Indices
    #: Group g reaches from layer bounds[g] to bounds[g + 1], which lies in both groups.
    bounds: Indices
    #: Whether the last list has each of the atoms.
    listed: CompiledArray[int, bool]


class Space(NamedTuple):
    """Where the vectors and matrices of a group are written, so that no sample allocates memory."""

    #: The numbers from zero on.
    order: Indices
    #: eta G on a list of atoms, by rows; a matrix of pairs of them, such as 1 - eta G.
    local: Matrix
    square: NDArray[np.float64]
    #: ``eta (b - G z)`` on the list.
    residual: Vector
    #: The adjoints of `_pull_group`.
    current: Vector
    before: Vector
    moved: NDArray[np.float64]
    passed: NDArray[np.float64]
    #: Factor and product of the sums over the layers of a group, see `_outer`.
    left_factor: NDArray[np.float64]
    outer: NDArray[np.float64]
    #: Images of points and adjoints under D, and their weights, see `_add_to_columns`.
    images: NDArray[np.float64]
    weights: Matrix
    #: The adjoints of the codes and of those one layer earlier for each depth, between two groups.
    carried: NDArray[np.float64]


@compiled_part
def _subtract_rows(
    total: Vector,
    size: int,
    matrix: Matrix,
    rows: Indices,
    weights: Matrix,
    of: int,
    count: int,
) -> None:
    """Subtract ``weights[of, k] * matrix[rows[k]]`` for k < count from ``total[:size]``, eight rows
    in one pass.

    Changes `total` in place.
    """
    k = 0
    while k + 8 <= count:
        a, b, c, d = rows[k], rows[k + 1], rows[k + 2], rows[k + 3]
        e, f, g, h = rows[k + 4], rows[k + 5], rows[k + 6], rows[k + 7]
        wa, wb, wc, wd = weights[of, k], weights[of, k + 1], weights[of, k + 2], weights[of, k + 3]
        k += 4
        we, wf, wg, wh = weights[of, k], weights[of, k + 1], weights[of, k + 2], weights[of, k + 3]
        for j in range(size):
            first = (wa * matrix[a, j] + wb * matrix[b, j]) + (
                wc * matrix[c, j] + wd * matrix[d, j]
            )
            second = (we * matrix[e, j] + wf * matrix[f, j]) + (
                wg * matrix[g, j] + wh * matrix[h, j]
            )
            total[j] -= first + second
        k += 4
    while k + 2 <= count:
        a, b, wa, wb = rows[k], rows[k + 1], weights[of, k], weights[of, k + 1]
        for j in range(size):
            total[j] -= wa * matrix[a, j] + wb * matrix[b, j]
        k += 2
    if k < count:
        a, wa = rows[k], weights[of, k]
        for j in range(size):
            total[j] -= wa * matrix[a, j]


@compiled_part
def _threshold(values: Vector, threshold: float, hard: bool, nonnegative: bool) -> None:
    """Apply a thresholding rule to `values` in place, with the same treatment of NaN and infinity
    as the rules' own.
    """
    zero = values.dtype.type(0)
    for j in range(len(values)):
        v = values[j]
        if hard:
            # Infinity and NaN are kept or lost as by a comparison with the absolute value.
            if not (v > threshold or (v < -threshold and not nonnegative)):
                values[j] = zero
        elif nonnegative:
            values[j] = zero if v - threshold < zero else v - threshold
        else:
            values[j] = v - min(max(v, -threshold), threshold)


@compiled_part
def _list_atoms(
    codes: Vector,
    point: Vector,
    atoms: Indices,
    listed: CompiledArray[int, bool],
    tape: Matrix,
    point_tape: Matrix,
    at: int,
) -> int:
    """Begin a list with the atoms at which codes or point are not zero; return how many there are.

    Writes their indices to `atoms`, marks them in `listed`, and writes the values of codes and
    point there to row `at` of the two tapes.
    """
    size = 0
    for j in range(len(codes)):
        # Written without a branch, which would be mispredicted, and kept if the count goes on.
        atoms[size] = j
        listed[j] = (codes[j] != 0) | (point[j] != 0)
        size += listed[j]
    for a in range(size):
        tape[at, a] = codes[atoms[a]]
        point_tape[at, a] = point[atoms[a]]
    return size


@compiled_part
def _keep(
    codes: Vector, point: Vector, kept_codes: Cube, kept_points: Cube, place: int, i: int
) -> None:
    """Copy sample i's codes and point to index `place` of the states that are kept."""
    for j in range(len(codes)):
        kept_codes[place, i, j] = codes[j]
        kept_points[place, i, j] = point[j]


@inlined_part
def _gradient_step(
    products: Matrix,
    row: int,
    gram: Matrix,
    point: Vector,
    atoms: Indices,
    size: int,
    tape: Matrix,
    at: int,
    values: Vector,
) -> None:
    """Write the values ``y + eta (b - G y)`` to `values`, for a point y that is listed in row `at`
    of the tape.
    """
    for j in range(len(values)):
        values[j] = point[j] + products[row, j]
    _subtract_rows(values, len(values), gram, atoms, tape, at, size)


@inlined_part
def _extrapolate(
    values: Vector, codes: Vector, point: Vector, pull: float, accelerated: bool
) -> int:
    """Write thresholded values to `codes`, and the point behind them to `point`: the values, or
    with acceleration their extrapolation by `pull`. Return how many codes are not zero.
    """
    active = 0
    for j in range(len(codes)):
        point[j] = values[j] + pull * (values[j] - codes[j]) if accelerated else values[j]
        codes[j] = values[j]
    for j in range(len(codes)):
        active += codes[j] != 0
    return active


@inlined_part
def _record(
    codes: Vector,
    point: Vector,
    atoms: Indices,
    size: int,
    tape: Matrix,
    point_tape: Matrix,
    at: int,
    later: int,
    accelerated: bool,
) -> tuple[int, int]:
    """Write a layer's listed codes, and with acceleration its points, to row `later` of the tapes;
    return how many codes are not zero there, and how many differ from those in row `at`.
    """
    on_list, changed = 0, 0
    for a in range(size):
        value = codes[atoms[a]]
        on_list += value != 0
        changed += value != tape[at, a]
        tape[later, a] = value
    if accelerated:
        for a in range(size):
            point_tape[later, a] = point[atoms[a]]
    return on_list, changed


@compiled_part
def _extend_list(
    codes: Vector,
    point: Vector,
    atoms: Indices,
    listed: CompiledArray[int, bool],
    size: int,
    tape: Matrix,
    point_tape: Matrix,
    begin: int,
    at: int,
) -> int:
    """Add the atoms that a group does not list yet; return how many are listed now.

    Writes to `atoms` and `listed`, to row `at` of the tapes, and zeros to their rows from `begin`
    on, where these atoms were not listed. The point's entries lie where the codes' or those of the
    codes before do.
    """
    for j in range(len(codes)):
        if codes[j] != 0 and not listed[j]:
            listed[j], atoms[size] = True, j
            for earlier in range(begin, at):
                tape[earlier, size] = point_tape[earlier, size] = 0
            tape[at, size], point_tape[at, size] = codes[j], point[j]
            size += 1
    return size


@compiled_part
def _run_sample(
    program: Program, row: int, codes: Vector, point: Vector, values: Vector, tape: Tape
) -> int:
    """Run one sample through the layers; return the index of its last group.

    `codes` and `point` hold the state before and, in place, after. States of layers to keep are
    written to the program's arrays. Only if there is something to pull back all layers are kept on
    the tape, see `Tape`; otherwise it holds the present one.

    A group of layers ends where less than half of its listed atoms are in use, so that products
    with all listed ones cost too much, and, on the tape, after `GROUP` layers.
    """
    products, thresholds, accelerated = program.products, program.thresholds, program.accelerated
    keep, kept_codes, kept_points = program.keep, program.codes, program.points
    offset, depth, i = program.offset, len(thresholds), program.first + row
    code_tape, point_tape, lists, sizes, bounds, listed = tape
    recorded, n_kept = len(program.tops) > 0, 0
    while keep[n_kept] < offset:
        n_kept += 1
    # The group, the rows of the tape of the present layer and of the group's first, how many codes
    # are not zero, how many atoms are listed, and whether the last layer has changed nothing.
    group, at, first_at, n_active, size, is_unchanged = -1, -1, zero(), zero(), zero(), False
    for t in range(offset, depth + 1):
        if t == offset or 2 * n_active < size or (recorded and t - bounds[group] == GROUP):
            if recorded or t == offset:
                group, at = group + 1, at + 1
            atoms, bounds[group], first_at = lists[group], t, at
            size = _list_atoms(codes, point, atoms, listed, code_tape, point_tape, at)
            n_active = sizes[group] = size
        if n_kept < len(keep) and keep[n_kept] == t:
            _keep(codes, point, kept_codes, kept_points, n_kept, i)
            n_kept += 1
        if t == depth:
            break
        next_at = at + 1 if recorded else at
        if is_unchanged and thresholds[t] == thresholds[t - 1]:
            # The last layer changed nothing, bit for bit: nor does this one.
            _record(codes, point, atoms, size, code_tape, point_tape, at, next_at, accelerated)
            at = next_at
            continue
        _gradient_step(products, row, program.gram, point, atoms, size, point_tape, at, values)
        _threshold(values, thresholds[t], program.hard, program.nonnegative)
        n_active = _extrapolate(values, codes, point, program.pulls[t + 1], accelerated)
        n_listed_active, n_changed = _record(
            codes, point, atoms, size, code_tape, point_tape, at, next_at, accelerated
        )
        # With acceleration equal codes may still lead to another point.
        is_unchanged = n_changed == 0 and n_listed_active == n_active and not accelerated
        if n_listed_active < n_active:
            size = _extend_list(
                codes, point, atoms, listed, size, code_tape, point_tape, first_at, next_at
            )
        at, sizes[group] = next_at, size
    bounds[group + 1] = depth
    return group


@compiled_part
def _matrix(buffer: NDArray[np.float64], rows: int, columns: int) -> NDArray[np.float64]:
    """Return the beginning of a buffer as a matrix without gaps, as products of matrices need."""
    return buffer[: rows * columns].reshape(rows, columns)


@compiled_part
def _outer(
    points: Matrix, start: int, adjoints: NDArray[np.float64], size: int, space: Space
) -> NDArray[np.float64]:
    """Return the sum of ``y u^T`` over some layers, and in one more row minus the sum of the
    adjoints u.

    It lies in a buffer of `space`, where the next call writes over it.
    """
    layers, flat = adjoints.shape
    left_factor, outer = (
        _matrix(space.left_factor, layers, size + 1),
        _matrix(space.outer, size + 1, flat),
    )
    for t in range(layers):
        for a in range(size):
            left_factor[t, a] = points[start + t, a]
        left_factor[t, size] = -1
    np.dot(left_factor.T, adjoints, outer)
    return outer


@compiled_part
def _add_to_columns(
    program: Program,
    row: int,
    points: Matrix,
    start: int,
    adjoints: NDArray[np.float64],
    atoms: Indices,
    size: int,
    space: Space,
) -> None:
    """Subtract ``u (D y)^T + y (D u)^T`` from the program's `columns_bar` and add u to its
    `products_bar`, in place, for points y and adjoints u; buffers of `space` are overwritten.
    """
    columns, columns_bar, products_bar = program.columns, program.columns_bar, program.products_bar
    layers, length, order = len(adjoints), columns.shape[1], space.order
    images, weights = space.images, space.weights
    for t in range(layers):
        for a in range(size):
            products_bar[0, row, atoms[a]] += adjoints[t, a]
    if size < 4 * layers:
        # Few atoms and many layers: a matrix of pairs of listed atoms is small.
        outer = _outer(points, start, adjoints, size, space)
        pairs = _matrix(space.square, size, size)
        for a in range(size):
            for b in range(size):
                pairs[a, b] = outer[a, b] + outer[b, a]
        for a in range(size):
            _subtract_rows(columns_bar[atoms[a]], length, columns, atoms, pairs, a, size)
        return
    for t in range(layers):
        # The images D y and D u come out negative, and so are their weights.
        images[2 * t : 2 * t + 2] = 0
        _subtract_rows(images[2 * t], length, columns, atoms, points, start + t, size)
        _subtract_rows(images[2 * t + 1], length, columns, atoms, adjoints, t, size)
    for a in range(size):
        for t in range(layers):
            weights[0, 2 * t], weights[0, 2 * t + 1] = -adjoints[t, a], -points[start + t, a]
        _subtract_rows(columns_bar[atoms[a]], length, images, order, weights, zero(), 2 * layers)


@compiled_part
def _add_to_gram(
    gram_bar: Cube,
    products_bar: Cube,
    row: int,
    outer: NDArray[np.float64],
    atoms: Indices,
    size: int,
    k: int,
    count: int,
) -> None:
    """Subtract a group's sums from `gram_bar` and `products_bar` in place, for the depths from the
    k-th on.
    """
    # Only the sum of gram_bar and its transpose is used, so what belongs to the lower half is added
    # to the upper one.
    for a in range(size):
        for b in range(a):
            i, j = min(atoms[a], atoms[b]), max(atoms[a], atoms[b])
            for q in range(count):
                gram_bar[i, j, k + q] -= outer[a, b * count + q] + outer[b, a * count + q]
        for q in range(count):
            gram_bar[atoms[a], atoms[a], k + q] -= outer[a, a * count + q]
            products_bar[k + q, row, atoms[a]] -= outer[size, a * count + q]


@compiled_part
def _restrict_gram(
    gram: Matrix,
    atoms: Indices,
    size: int,
    padded: int,
    local: Matrix,
    transfer: NDArray[np.float64],
    count: int,
) -> None:
    """Write eta G on a list of atoms to `local`, whose rows are filled up with zeros; for several
    depths, also 1 - eta G to `transfer`.
    """
    one = gram.dtype.type(1)
    zero = one - one
    for a in range(size):
        for b in range(size):
            local[a, b] = gram[atoms[a], atoms[b]]
            if count > 1:
                transfer[a, b] = (one if a == b else zero) - local[a, b]
        for b in range(size, padded):
            local[a, b] = zero


@compiled_part
def _exchange(
    carried: Cube,
    atoms: Indices,
    size: int,
    k: int,
    count: int,
    current: Vector,
    before: Vector,
) -> None:
    """Exchange the adjoints that are carried between groups with those at a list of atoms, for the
    depths from the k-th on.

    Changes `carried`, `current` and `before` in place.
    """
    for a in range(size):
        for q in range(count):
            i, j = a * count + q, atoms[a]
            current[i], carried[0, j, k + q] = carried[0, j, k + q], current[i]
            before[i], carried[1, j, k + q] = carried[1, j, k + q], before[i]


@compiled_part
def _begin_depth(
    program: Program,
    row: int,
    codes: Matrix,
    at: int,
    atoms: Indices,
    size: int,
    padded: int,
    count: int,
    q: int,
    space: Space,
) -> None:
    """Begin the way back from one depth, the q-th of `count`: write the derivative of the outer
    loss in the codes z, which row `at` of `codes` holds, ``((G z - b) + l1_weight sign(z) +
    l2_weight z) / n``, for the `size` atoms on the list.

    It goes to the entries ``a count + q`` of the space's `current`, a being an atom's place on the
    list; the space's `residual` is overwritten. `row` is the sample's row in the program's
    products, and `padded` the length of vectors on the list with their zeros. Where a code is zero,
    its sign counts as -1: `_restrict` drops such an entry.
    """
    products, residual, current = program.products, space.residual, space.current
    one = residual.dtype.type(1)
    zero = one - one
    for a in range(size):
        residual[a] = products[row, atoms[a]]
    _subtract_rows(residual, padded, space.local, space.order, codes, at, size)
    for a in range(size):
        value = codes[at, a]
        slope = (
            program.l1_weight * (one if value > zero else -one)
            + program.l2_weight * value
            - residual[a] / program.step
        )
        current[a * count + q] = slope / program.samples


@inlined_part
def _restrict(
    codes: Matrix,
    at: int,
    size: int,
    count: int,
    current: Vector,
    passed: NDArray[np.float64],
    of: int,
) -> None:
    """Write the adjoints, `current`, to row `of` of `passed`, those that pass a layer: zero where
    the codes after it, in row `at`, are.
    """
    zero = codes.dtype.type(0)
    for i in range(passed.shape[1]):
        passed[of, i] = zero
    for a in range(size):
        if codes[at, a] != zero:
            for i in range(a * count, (a + 1) * count):
                passed[of, i] = current[i]


@inlined_part
def _pull_extrapolation(
    moved: Vector, pull: float, current: Vector, before: Vector, flat: int, accelerated: bool
) -> None:
    """Pull adjoints of a point, `moved`, back to the codes that it lies behind, and to those before
    these: written to `current` and `before`, for ``y_t = z_t + pull (z_t - z_{t-1})``.
    """
    one = current.dtype.type(1)
    for i in range(flat):
        if accelerated:
            current[i] = before[i] + (one + pull) * moved[i]
            before[i] = -pull * moved[i]
        else:
            current[i] = moved[i]


@compiled_part
def _pull_group(program: Program, row: int, tape: Tape, g: int, space: Space) -> None:
    """Pull all depths of one sample back through the layers of group g.

    With u the adjoint of the codes z_{t+1} where these are not zero, layer t gives that of its
    point, ``y_bar = u - eta G u`` on the list, and ``y_t = z_t + c_t (z_t - z_{t-1})`` turns it
    into ``(1 + c_t) y_bar`` for z_t and ``-c_t y_bar`` for z_{t-1}. In the space, `current` and
    `before` hold the adjoints of these two, `moved` holds y_bar, and `passed` has u of all layers.

    Adds to the program's derivatives in place. Adjoints between two groups are in the `carried` of
    `space`, all else in it is overwritten; depths that end before the group are left alone.
    """
    gram, pulls, local, order = program.gram, program.pulls, space.local, space.order
    one = gram.dtype.type(1)
    codes, points, lists, sizes, bounds, _ = tape
    offset, tops, bottom, size, atoms = program.offset, program.tops, bounds[g], sizes[g], lists[g]
    # The depths from the k-th on, `count` of them, end above the bottom of the group.
    k = 0
    while k < len(tops) and tops[k] <= bottom:
        k += 1
    count = len(tops) - k
    if count == 0:
        return
    high, padded = min(tops[-1], bounds[g + 1]), -(-size // LANES) * LANES
    current, before, moved = space.current, space.before, space.moved
    # A row for each atom of the list, a column for each depth; that of a single one is filled up.
    flat = size * count if count > 1 else padded
    passed = _matrix(space.passed, high - bottom, flat)
    # Adjoints of several depths pass a layer by a product with 1 - eta G on the list.
    transfer, several = _matrix(space.square, size, size), _matrix(moved, size, count)
    _restrict_gram(gram, atoms, size, padded, local, transfer, count)
    for i in range(flat):
        current[i] = before[i] = one - one
    _exchange(space.carried, atoms, size, k, count, current, before)
    for t in range(high - 1, bottom - 1, -1):
        # The row of the tape of the codes behind layer t, and that of `passed` of its adjoints.
        after, of = t + 1 - offset + g, t - bottom
        for q in range(count):
            if tops[k + q] == t + 1 and not program.adjoints_given:
                _begin_depth(program, row, codes, after, atoms, size, padded, count, q, space)
        _restrict(codes, after, size, count, current, passed, of)
        if count > 1:
            np.dot(transfer, passed[of].reshape(size, count), several)
        else:
            for i in range(padded):
                moved[i] = passed[of, i]
            _subtract_rows(moved, padded, local, order, passed, of, size)
        # Before the first layer, the adjoints of codes and point are left apart: with this pull
        # `current` is what later layers have left for the codes, and `before` that of the point.
        pull = pulls[t] if t > offset else -one
        _pull_extrapolation(moved, pull, current, before, flat, program.accelerated)
    _exchange(space.carried, atoms, size, k, count, current, before)
    first_row = bottom - offset + g
    if len(program.columns):
        _add_to_columns(program, row, points, first_row, passed, atoms, size, space)
    else:
        outer = _outer(points, first_row, passed, size, space)
        _add_to_gram(program.gram_bar, program.products_bar, row, outer, atoms, size, k, count)


@compiled(error_model="numpy", nogil=True)
def run_layers(program: Program, codes: NDArray[np.float64], points: NDArray[np.float64]) -> None:
    """Run the layers of a program for some samples from codes and points, shape (r, p), then pull
    adjoints back through them from each depth.

    Everything is written to, or added to, the program's arrays; codes and points stay as they are.
    """
    dtype, adjoints, pulls = codes.dtype, program.adjoints, program.pulls
    (r, p), count, depth = codes.shape, len(program.tops), len(pulls) - 1 - program.offset
    # Without depths only the present layer matters, and there is one group.
    groups, layers = (depth + 1, 2 * depth + 2) if count else (1, 1)
    code_tape = np.empty((layers, p), dtype)
    tape = Tape(
        codes=code_tape,
        points=np.empty((layers, p), dtype) if program.accelerated else code_tape,
        atoms=np.empty((groups, p + 1), np.uint32),
        sizes=np.zeros(groups, np.int64),
        bounds=np.zeros(groups + 1, np.int64),
        listed=np.empty(p, np.bool_),
    )
    z, y, values = np.empty(p, dtype), np.empty(p, dtype), np.empty(p, dtype)
    height = -(-p // LANES) * LANES if count else 0
    flat = height * count
    space = Space(
        order=np.arange(p + 2 * GROUP).astype(np.uint32),
        local=np.empty((p, height), dtype),
        square=np.empty(p * p, dtype),
        residual=np.empty(height, dtype),
        current=np.empty(flat, dtype),
        before=np.empty(flat, dtype),
        moved=np.empty(flat, dtype),
        passed=np.empty(GROUP * flat, dtype),
        left_factor=np.empty(GROUP * (p + 1), dtype),
        outer=np.empty((p + 1) * flat, dtype),
        images=np.empty((2 * GROUP, program.columns.shape[1]), dtype),
        weights=np.empty((1, 2 * GROUP), dtype),
        carried=np.zeros((2, p, count), dtype),
    )
    carried, one, pull = space.carried, dtype.type(1), pulls[-1]
    for row in range(r):
        for j in range(p):
            z[j], y[j] = codes[row, j], points[row, j]
        group = _run_sample(program, row, z, y, values, tape)
        carried[:] = 0
        if program.adjoints_given:
            for j in range(p):
                of_codes, of_point = adjoints[0, 0, row, j], adjoints[0, 1, row, j]
                carried[0, j, 0] = of_codes + (one + pull) * of_point
                carried[1, j, 0] = -pull * of_point
            adjoints[0, :, row] = 0
        if count:
            for g in range(group, -1, -1):
                _pull_group(program, row, tape, g, space)
        for k in range(count):
            for a in range(tape.sizes[0]):
                j = tape.atoms[0][a]
                # Without extrapolation there is nothing but the point.
                adjoints[k, 1, row, j] = carried[1 if program.accelerated else 0, j, k]
                adjoints[k, 0, row, j] = carried[0, j, k] if program.accelerated else 0


@compiled(error_model="numpy", nogil=True)
def restrict(adjoint: Matrix, codes: Matrix, total: Matrix) -> None:
    """Set an adjoint to zero where the codes are zero, and add it to `total`, both in place. All
    have the shape (r, p).
    """
    for i in range(len(codes)):
        for j in range(codes.shape[1]):
            if codes[i, j] == 0:
                adjoint[i, j] = 0
            total[i, j] += adjoint[i, j]
