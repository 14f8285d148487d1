"""Layers of sparse coding and their adjoints on active sets, compiled by numba. Only `kernels`
imports this module.

Samples are independent of each other: each runs through all layers, forward and back, while its
data are in the cache. With G the Hessian of the smooth part, b = D^T x and eta the step, a layer is
``z' = S(y + eta (b - G y))``, of which only the rows of G on the support of y matter. Backward,
with u the adjoint of z' restricted to the support of z',

    b_bar += eta u,    G_bar -= eta y u^T,    y_bar = u - eta G u,

where y_bar is needed only on the support of the codes before. Supports change little from layer to
layer. So consecutive layers share one list of atoms that contains their supports, and what they
compute is kept as vectors on that list; back through them, products are dense ones with the part of
G on it. Jobs are treated together, as the last, contiguous axis: for them, and for the sums over
the layers of a group, numpy's products of matrices are scipy's BLAS in compiled code.

Within a layer, rows of arrays are named by an index: numba counts the references to every view of
an array, which takes longer than the work on a few entries.
"""

from collections import namedtuple

import numba
import numpy as np

from ..kernel_choice import compiled

#: Largest number of layers that share a list of atoms.
GROUP = 32
#: Vectors on a list, or over several jobs, are filled up with zeros to a multiple of this, for
#: vector instructions.
LANES = 16

#: What one sample leaves behind. Layer t lies in row t + g of `codes` and `points` if group g of
#: layers contains it, as entries at ``atoms[g, :sizes[g]]``. Group g reaches from layer bounds[g]
#: to bounds[g + 1], which lies in both groups.
Tape = namedtuple("Tape", "codes points atoms sizes bounds pulls")

#: Where the vectors and matrices of a group are written, so that no sample allocates memory.
#: `square` holds a matrix on the list, `order` the numbers from zero on.
Space = namedtuple(
    "Space", "order local square residual current before moved found left outer images weights"
)

#: For the parts of what is compiled, in whose cache they are kept.
_compiled = numba.njit(fastmath={"contract"}, error_model="numpy")


@_compiled
def _padded(size):
    return -(-size // LANES) * LANES


@_compiled
def _subtract_rows(total, size, matrix, rows, weights, of, count):
    """Subtract ``weights[of, k] * matrix[rows[k]]`` for k < count from ``total[:size]``, eight rows
    in one pass.
    """
    k = 0
    while k + 8 <= count:
        a, b, c, d = rows[k], rows[k + 1], rows[k + 2], rows[k + 3]
        e, f, g, h = rows[k + 4], rows[k + 5], rows[k + 6], rows[k + 7]
        wa, wb, wc, wd = weights[of, k], weights[of, k + 1], weights[of, k + 2], weights[of, k + 3]
        we, wf, wg, wh = (
            weights[of, k + 4],
            weights[of, k + 5],
            weights[of, k + 6],
            weights[of, k + 7],
        )
        for j in range(size):
            first = (wa * matrix[a, j] + wb * matrix[b, j]) + (
                wc * matrix[c, j] + wd * matrix[d, j]
            )
            second = (we * matrix[e, j] + wf * matrix[f, j]) + (
                wg * matrix[g, j] + wh * matrix[h, j]
            )
            total[j] -= first + second
        k += 8
    while k + 2 <= count:
        a, b, wa, wb = rows[k], rows[k + 1], weights[of, k], weights[of, k + 1]
        for j in range(size):
            total[j] -= wa * matrix[a, j] + wb * matrix[b, j]
        k += 2
    if k < count:
        a, wa = rows[k], weights[of, k]
        for j in range(size):
            total[j] -= wa * matrix[a, j]


@_compiled
def _threshold(values, threshold, hard, nonnegative):
    """Apply a thresholding rule in place, with the same treatment of NaN and infinity as the rules'
    own.
    """
    zero = values.dtype.type(0)
    if hard:
        for j in range(len(values)):
            v = values[j]
            # Infinity and NaN are kept or lost as by a comparison with the absolute value.
            if not (v > threshold or (v < -threshold and not nonnegative)):
                values[j] = zero
    elif nonnegative:
        for j in range(len(values)):
            v = values[j] - threshold
            values[j] = zero if v < zero else v
    else:
        for j in range(len(values)):
            v = values[j]
            clipped = min(max(v, -threshold), threshold)
            values[j] = v - clipped


@_compiled
def _list_atoms(codes, point, code_tape, point_tape, atoms, at, listed):
    """Begin a group with the entries at which codes or point are not zero; return their number."""
    size = 0
    for j in range(len(codes)):
        # Written without a branch, which would be mispredicted, and kept if the count goes on.
        atoms[size] = j
        listed[j] = (codes[j] != 0) | (point[j] != 0)
        size += listed[j]
    for a in range(size):
        code_tape[at, a], point_tape[at, a] = codes[atoms[a]], point[atoms[a]]
    return size


@_compiled
def _record(
    codes, point, accelerated, code_tape, point_tape, atoms, size, at, later, start, listed
):
    """Write a layer's entries to row `later`, after those in `at`.

    Return the number of active entries, whether none changed, and the number of atoms in the
    group's list. Atoms that the group does not list yet are added; row `start` is that of its first
    layer.
    """
    active, found, changed = 0, 0, 0
    for j in range(len(codes)):
        active += codes[j] != 0
    for a in range(size):
        value = codes[atoms[a]]
        found += value != 0
        changed += value != code_tape[at, a]
        code_tape[later, a] = value
    if accelerated:
        for a in range(size):
            point_tape[later, a] = point[atoms[a]]
    if found == active:
        return active, changed == 0, size
    # The point's entries lie where the codes' or those of the codes before do.
    for j in range(len(codes)):
        if codes[j] != 0 and not listed[j]:
            listed[j], atoms[size] = True, j
            for row in range(start, later):
                code_tape[row, size] = point_tape[row, size] = 0
            code_tape[later, size], point_tape[later, size] = codes[j], point[j]
            size += 1
    return active, False, size


@_compiled
def _run_sample(
    gram,
    products,
    row,
    codes,
    point,
    values,
    momentum,
    thresholds,
    pulls,
    numbers,
    flags,
    depth,
    recorded,
    tape,
    listed,
    keep,
    i,
    kept_codes,
    kept_points,
    kept_momenta,
):
    """Run one sample through the layers; return the index of its last group. Arguments are those of
    `run_layers`.

    `codes` and `point` hold the state before and after. Only if `recorded` all layers are kept on
    the tape.
    """
    hard, nonnegative, accelerated, restart = flags[0], flags[1], flags[2], flags[3]
    one, margin = numbers[0], numbers[5]
    zero, two, four = one - one, one + one, one + one + one + one
    p = len(codes)
    code_tape, point_tape, lists, sizes, bounds, pulled = tape
    group, at, still, kept, active, size = -1, -1, False, 0, 0, 0
    for t in range(depth + 1):
        # A layer with many entries fewer than its group's list begins a new group.
        if t == 0 or 2 * active < size or (recorded and t - bounds[group] == GROUP):
            if recorded or t == 0:
                group, at = group + 1, at + 1
            atoms, bounds[group] = lists[group], t
            active = size = _list_atoms(codes, point, code_tape, point_tape, atoms, at, listed)
            sizes[group] = size
        if kept < len(keep) and keep[kept] == t:
            kept_momenta[kept, i] = momentum
            for j in range(p):
                kept_codes[kept, i, j] = codes[j]
            if accelerated:
                for j in range(p):
                    kept_points[kept, i, j] = point[j]
            kept += 1
        if t == depth:
            break
        later = at + 1 if recorded else at
        if still and thresholds[t] == thresholds[t - 1]:
            # The last layer changed nothing, bit for bit: nor does this one.
            for a in range(size):
                code_tape[later, a] = code_tape[at, a]
            at = later
            continue
        for j in range(p):
            values[j] = point[j] + products[row, j]
        _subtract_rows(values, p, gram, atoms, point_tape, at, size)
        _threshold(values, thresholds[t], hard, nonnegative)
        if accelerated:
            pull = pulls[t]
            if restart:
                uphill, noise = zero, zero
                for j in range(p):
                    back, moved = point[j] - values[j], values[j] - codes[j]
                    uphill += back * moved
                    noise += abs(values[j]) * (abs(back) + abs(moved))
                larger = (one + np.sqrt(one + four * momentum * momentum)) / two
                pull = (momentum - one) / larger
                momentum = larger
                if uphill > margin * noise:
                    momentum, pull = one, zero
            pulled[t + 1] = pull
            for j in range(p):
                point[j] = values[j] + pull * (values[j] - codes[j])
                codes[j] = values[j]
        else:
            for j in range(p):
                codes[j] = point[j] = values[j]
        start = at - (t - bounds[group]) if recorded else at
        active, unchanged, size = _record(
            codes, point, accelerated, code_tape, point_tape, atoms, size, at, later, start, listed
        )
        still, at, sizes[group] = unchanged and not accelerated, later, size
    bounds[group + 1] = depth
    return group


@_compiled
def _matrix(buffer, rows, columns):
    """Return the beginning of a buffer as a matrix without gaps, as a product of matrices asks for."""
    return buffer[: rows * columns].reshape(rows, columns)


@_compiled
def _outer(points, start, found, size, rows, space):
    """Return the sum of ``y u^T`` over some layers; if one more row is asked for, it is minus the
    sum of the adjoints u.
    """
    layers, flat = found.shape
    left, outer = _matrix(space.left, layers, rows), _matrix(space.outer, rows, flat)
    for t in range(layers):
        for a in range(size):
            left[t, a] = points[start + t, a]
        if rows > size:
            left[t, size] = -1
    np.dot(left.T, found, outer)
    return outer


@_compiled
def _add_to_columns(
    columns, columns_bar, products_bar, row, points, start, found, atoms, size, space
):
    """Subtract ``u (D y)^T + y (D u)^T`` from `columns_bar` and add u to `products_bar`, for points
    y and adjoints u.
    """
    layers, length, weights = len(found), columns.shape[1], space.weights
    for a in range(size):
        total = found[0, a]
        for t in range(1, layers):
            total += found[t, a]
        products_bar[0, row, atoms[a]] += total
    if size < 4 * layers:
        # Few atoms and many layers: a matrix of pairs of listed atoms is small.
        outer, pairs = (
            _outer(points, start, found, size, size, space),
            _matrix(space.square, size, size),
        )
        for a in range(size):
            for b in range(size):
                pairs[a, b] = outer[a, b] + outer[b, a]
        for a in range(size):
            _subtract_rows(columns_bar[atoms[a]], length, columns, atoms, pairs, a, size)
        return
    for t in range(layers):
        # The images D y and D u come out negative, and so are their weights.
        space.images[2 * t : 2 * t + 2] = 0
        _subtract_rows(space.images[2 * t], length, columns, atoms, points, start + t, size)
        _subtract_rows(space.images[2 * t + 1], length, columns, atoms, found, t, size)
    for a in range(size):
        for t in range(layers):
            weights[0, 2 * t], weights[0, 2 * t + 1] = -found[t, a], -points[start + t, a]
        _subtract_rows(
            columns_bar[atoms[a]], length, space.images, space.order, weights, 0, 2 * layers
        )


@_compiled
def _add_to_pairs(gram_bar, products_bar, row, points, start, found, atoms, size, k, count, space):
    """Subtract ``y u^T`` from the upper half of `gram_bar` and add u to `products_bar`, for `count`
    jobs from job k on.

    Only the sum of gram_bar and its transpose is used, so what belongs to the lower half is added
    to the upper one.
    """
    outer = _outer(points, start, found, size, size + 1, space)
    for a in range(size):
        for b in range(a):
            i, j = min(atoms[a], atoms[b]), max(atoms[a], atoms[b])
            if count == 1:
                gram_bar[i, j, k] -= outer[a, b] + outer[b, a]
                continue
            for q in range(count):
                gram_bar[i, j, k + q] -= outer[a, b * count + q] + outer[b, a * count + q]
        for q in range(count):
            gram_bar[atoms[a], atoms[a], k + q] -= outer[a, a * count + q]
            products_bar[k + q, row, atoms[a]] -= outer[size, a * count + q]


@_compiled
def _pull_group(
    gram,
    products,
    row,
    numbers,
    flags,
    tape,
    g,
    tops,
    bottoms,
    chains,
    adjoints,
    gram_bar,
    products_bar,
    columns,
    columns_bar,
    carried,
    carried_before,
    space,
):
    """Pull all jobs of one sample back through the layers of group g. Arguments are those of
    `run_layers`.

    `carried` and `carried_before` hold the adjoints, of the codes and of those one layer earlier,
    at the top of the group, and at its bottom afterwards.
    """
    one, eta, total_samples, l1_weight, l2_weight = (
        numbers[0],
        numbers[1],
        numbers[2],
        numbers[3],
        numbers[4],
    )
    accelerated, given, zero = flags[2], flags[4], one - one
    code_tape, point_tape, lists, sizes, bounds, pulled = tape
    bottom, top, size, atoms = bounds[g], bounds[g + 1], sizes[g], lists[g]
    padded, local, residual = _padded(size), space.local, space.residual
    for a in range(size):
        for b in range(size):
            local[a, b] = gram[atoms[a], atoms[b]]
        for b in range(size, padded):
            local[a, b] = zero
    k = 0
    while k < len(tops):
        low, high, stop = max(bottoms[k], bottom), min(tops[k], top), k + 1
        if high <= low:
            k += 1
            continue
        # Take jobs in that end at the same layer, and do not wait for the one before.
        while (
            stop < len(tops)
            and chains[stop] == stop
            and low == max(bottoms[stop], bottom) < tops[stop]
        ):
            high = max(high, min(tops[stop], top))
            stop += 1
        count, chain = stop - k, chains[k]
        # A row for each atom of the list, a column for each job; the column of a single job is
        # filled up.
        height = size if count > 1 else padded
        current, before = (
            _matrix(space.current, height, count),
            _matrix(space.before, height, count),
        )
        moved, found = (
            _matrix(space.moved, height, count),
            _matrix(space.found, high - low, height * count),
        )
        own, alone = space.current[:height], space.moved[:height]
        # Adjoints of several jobs pass a layer by a product with 1 - eta G on the list.
        transfer = _matrix(space.square, size, size)
        if count > 1:
            for a in range(size):
                for b in range(size):
                    transfer[a, b] = -local[a, b]
                transfer[a, a] += one
        for a in range(height):
            for q in range(count):
                current[a, q] = before[a, q] = zero
        for a in range(size):
            for q in range(count):
                if chain != k or tops[k + q] > top:
                    current[a, q], before[a, q] = (
                        carried[atoms[a], chain + q],
                        carried_before[atoms[a], chain + q],
                    )
                carried[atoms[a], chain + q] = carried_before[atoms[a], chain + q] = zero
        for t in range(high - 1, low - 1, -1):
            after, of = t + 1 + g, t - low
            for q in range(count):
                if tops[k + q] != t + 1 or chain != k:
                    continue
                pull = pulled[t + 1]
                if not given:
                    for a in range(size):
                        residual[a] = products[row, atoms[a]]
                    _subtract_rows(residual, padded, local, space.order, code_tape, after, size)
                for a in range(size):
                    if given:
                        of_point = adjoints[k + q, 1, row, atoms[a]]
                        current[a, q] = adjoints[k + q, 0, row, atoms[a]] + (one + pull) * of_point
                        before[a, q] = -pull * of_point
                    else:
                        value = code_tape[after, a]
                        slope = (
                            l1_weight * (one if value > zero else -one)
                            + l2_weight * value
                            - residual[a] / eta
                        )
                        current[a, q], before[a, q] = slope / total_samples, zero
            if count > 1:
                passed = found[of].reshape(height, count)
                for a in range(size):
                    active = code_tape[after, a] != zero
                    for q in range(count):
                        passed[a, q] = current[a, q] if active else zero
                np.dot(transfer, passed, moved)
            else:
                for a in range(size):
                    found[of, a] = alone[a] = own[a] if code_tape[after, a] != zero else zero
                for a in range(size, padded):
                    found[of, a] = alone[a] = zero
                _subtract_rows(alone, padded, local, space.order, found, of, size)
            if t == 0:
                for q in range(count):
                    if given:
                        adjoints[chain + q, :, row] = zero
                    for a in range(size):
                        adjoints[chain + q, 0, row, atoms[a]] = before[a, q]
                        adjoints[chain + q, 1, row, atoms[a]] = moved[a, q]
            if accelerated:
                pull = pulled[t]
                for a in range(height):
                    for q in range(count):
                        current[a, q] = before[a, q] + (one + pull) * moved[a, q]
                        before[a, q] = -pull * moved[a, q]
            else:
                current, moved, own, alone = moved, current, alone, own
        for a in range(size):
            for q in range(count):
                carried[atoms[a], chain + q], carried_before[atoms[a], chain + q] = (
                    current[a, q],
                    before[a, q],
                )
        if len(columns):
            _add_to_columns(
                columns,
                columns_bar,
                products_bar,
                row,
                point_tape,
                low + g,
                found,
                atoms,
                size,
                space,
            )
        else:
            _add_to_pairs(
                gram_bar,
                products_bar,
                row,
                point_tape,
                low + g,
                found,
                atoms,
                size,
                k,
                count,
                space,
            )
        k = stop


@compiled(error_model="numpy")
def run_layers(
    gram,
    products,
    codes,
    points,
    momenta,
    thresholds,
    pulls,
    numbers,
    flags,
    depth,
    tops,
    bottoms,
    chains,
    adjoints,
    gram_bar,
    products_bar,
    columns,
    columns_bar,
    keep,
    first,
    kept_codes,
    kept_points,
    kept_momenta,
):
    """Run `depth` layers for some samples, then pull adjoints back through them for each job.

    Parameters
    ----------
    gram, products : array, shapes (p, p) and (r, p)
        eta G, and eta b of the samples.
    codes, points, momenta : array, shapes (r, p), (r, p) and (r,)
        The state from which the layers start.
    thresholds, pulls : array, shape (depth,)
        Threshold of each layer, and its extrapolation (a_t - 1) / a_{t+1} unless samples restart.
    flags : array of bool, shape (5,)
        Hard rule; non-negative codes; extrapolated point; restart; adjoints are given instead of
        those of the loss.
    numbers : array, shape (6,)
        One; eta; n; weights of the l1 norm and of half the squared l2 norm in the outer loss beyond
        what G contains; `momentum.MARGIN`.
    tops, bottoms, chains : array of int, shape (jobs,)
        Job k pulls back from layer tops[k] to bottoms[k]. It starts from the loss at its top or, if
        it does not name itself as its chain, from where the job before ended.
    adjoints : array, shape (jobs, 2, r, p)
        Adjoints of codes and point after the last layer, if they are given. At a chain's place,
        those before the first layer are written, at least on the support of the state.
    gram_bar, products_bar : array, shapes (p, p, jobs) and (jobs, r, p)
        To these the derivatives of the loss are added, summed over the samples, in ``eta G`` and in
        ``eta b``. Only the sum of gram_bar and its transpose is used.
    columns, columns_bar : array, shapes (p, m)
        The columns of D, and those of what gram_bar stands for, D (G_bar + G_bar^T). Where samples
        are few, these are cheaper than a matrix for all pairs of atoms. If they are not empty,
        there is one job, and gram_bar is not used.
    keep : array of int
        Layers after which the state is kept, ascending.
    first : int
        Index of the first sample in the arrays of kept states.
    kept_codes, kept_points, kept_momenta : array, shapes (keep, n, p), (keep, n, p) and (keep, n)
        Where the kept states are written; not the points if they are the codes.
    """
    r, p = products.shape
    jobs = len(tops)
    # Without jobs only the present layer matters, and there is one group.
    groups, layers = (depth + 1, 2 * depth + 2) if jobs else (1, 1)
    code_tape = np.empty((layers, p), gram.dtype)
    point_tape = np.empty((layers, p), gram.dtype) if flags[2] else code_tape
    lists, sizes, bounds = (
        np.empty((groups, p + 1), np.uint32),
        np.zeros(groups, np.int64),
        np.zeros(groups + 1, np.int64),
    )
    tape = Tape(code_tape, point_tape, lists, sizes, bounds, np.zeros(depth + 1, gram.dtype))
    z, y, values, listed = (
        np.empty(p, gram.dtype),
        np.empty(p, gram.dtype),
        np.empty(p, gram.dtype),
        np.empty(p, np.bool_),
    )
    height, dtype = _padded(p) if jobs else 0, gram.dtype
    flat = height * jobs
    space = Space(
        order=np.arange(p + 2 * GROUP).astype(np.uint32),
        local=np.empty((p, height), dtype),
        square=np.empty(p * p, dtype),
        residual=np.empty(height, dtype),
        current=np.empty(flat, dtype),
        before=np.empty(flat, dtype),
        moved=np.empty(flat, dtype),
        found=np.empty(GROUP * flat, dtype),
        left=np.empty(GROUP * (p + 1), dtype),
        outer=np.empty((p + 1) * flat, dtype),
        images=np.empty((2 * GROUP, columns.shape[1]), dtype),
        weights=np.empty((1, 2 * GROUP), dtype),
    )
    carried, carried_before = np.zeros((p, jobs), dtype), np.zeros((p, jobs), dtype)
    highest, lowest = 0, depth
    for k in range(jobs):
        highest, lowest = max(highest, tops[k]), min(lowest, bottoms[k])

    for row in range(r):
        for j in range(p):
            z[j], y[j] = codes[row, j], points[row, j]
        group = _run_sample(
            gram,
            products,
            row,
            z,
            y,
            values,
            momenta[row],
            thresholds,
            pulls,
            numbers,
            flags,
            depth,
            jobs > 0,
            tape,
            listed,
            keep,
            first + row,
            kept_codes,
            kept_points,
            kept_momenta,
        )
        if jobs:
            carried[:] = carried_before[:] = 0
        for g in range(group, -1, -1) if jobs else range(0):
            if max(bounds[g], lowest) < min(bounds[g + 1], highest):
                _pull_group(
                    gram,
                    products,
                    row,
                    numbers,
                    flags,
                    tape,
                    g,
                    tops,
                    bottoms,
                    chains,
                    adjoints,
                    gram_bar,
                    products_bar,
                    columns,
                    columns_bar,
                    carried,
                    carried_before,
                    space,
                )


@compiled(error_model="numpy")
def restrict(adjoint, codes, total):
    """Set an adjoint to zero where the codes are zero, and add it to `total`. All have the shape
    (r, p).
    """
    for i in range(len(codes)):
        for j in range(codes.shape[1]):
            if codes[i, j] == 0:
                adjoint[i, j] = 0
            total[i, j] += adjoint[i, j]
