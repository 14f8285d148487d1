"""Layers of sparse coding and their adjoints on active sets, compiled by numba. Only
`gram_layers` imports this module.

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

#: What is run, for some samples: eta G (p, p) and eta b (r, p); each layer's threshold, and its
#: extrapolation (a_t - 1) / a_{t+1}; eta; n; the weights of the l1 norm and of half the squared l2
#: norm in the outer loss beyond what G contains; whether the rule is hard, codes are non-negative,
#: and the point is extrapolated.
Program = namedtuple(
    "Program",
    "gram products thresholds pulls step samples l1_weight l2_weight hard nonnegative accelerated",
)

#: Job k pulls back from layer tops[k] to bottoms[k], from the derivatives of the loss or, if
#: `given`, from those in codes and point that `adjoints`, shape (jobs, 2, r, p), has for its top.
#: Those before the first layer are left there, at least on the support of the state.
Jobs = namedtuple("Jobs", "tops bottoms given adjoints")

#: To `gram_bar` (p, p, jobs) and `products_bar` (jobs, r, p) the derivatives of the loss are
#: added, summed over the samples, in eta G and in eta b; only the sum of gram_bar and its transpose
#: is used. Where samples are few, the columns (p, m) of what it stands for, D (G_bar + G_bar^T),
#: are cheaper than a matrix for all pairs of atoms: if `columns`, those of D, are not empty, there
#: is one job, and `columns_bar` is used in place of gram_bar.
Totals = namedtuple("Totals", "gram_bar products_bar columns columns_bar")

#: Layers after which the state is kept, ascending; the first sample's index in the arrays in which
#: they are kept, shape (layers, n, p); points only if they are not the codes.
Kept = namedtuple("Kept", "layers first codes points")

#: What one sample leaves behind. Layer t lies in row t + g of `codes` and `points` if group g of
#: layers contains it, as entries at ``atoms[g, :sizes[g]]``. Group g reaches from layer bounds[g]
#: to bounds[g + 1], which lies in both groups.
Tape = namedtuple("Tape", "codes points atoms sizes bounds pulls")

#: Where the vectors and matrices of a group are written, so that no sample allocates memory.
#: `square` holds a matrix on the list, `order` the numbers from zero on, `carried` and
#: `carried_before` the adjoints of each job, of the codes and of those one layer earlier, between
#: two groups.
Space = namedtuple(
    "Space",
    "order local square residual current before moved passed left outer images weights"
    " carried carried_before",
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
    active, on_list, changed = 0, 0, 0
    for j in range(len(codes)):
        active += codes[j] != 0
    for a in range(size):
        value = codes[atoms[a]]
        on_list += value != 0
        changed += value != code_tape[at, a]
        code_tape[later, a] = value
    if accelerated:
        for a in range(size):
            point_tape[later, a] = point[atoms[a]]
    if on_list == active:
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
def _run_sample(program, row, codes, point, values, recorded, tape, listed, kept):
    """Run one sample through the layers; return the index of its last group.

    `codes` and `point` hold the state before and after. Only if `recorded` all layers are kept on
    the tape.
    """
    gram, products, thresholds = program.gram, program.products, program.thresholds
    hard, nonnegative, accelerated = program.hard, program.nonnegative, program.accelerated
    keep, kept_codes, kept_points = kept.layers, kept.codes, kept.points
    depth, p, i = len(thresholds), len(codes), kept.first + row
    code_tape, point_tape, lists, sizes, bounds, pulled = tape
    group, at, still, place, active, size = -1, -1, False, 0, 0, 0
    for t in range(depth + 1):
        # A layer with many entries fewer than its group's list begins a new group.
        if t == 0 or 2 * active < size or (recorded and t - bounds[group] == GROUP):
            if recorded or t == 0:
                group, at = group + 1, at + 1
            atoms, bounds[group] = lists[group], t
            active = size = _list_atoms(codes, point, code_tape, point_tape, atoms, at, listed)
            sizes[group] = size
        if place < len(keep) and keep[place] == t:
            for j in range(p):
                kept_codes[place, i, j] = codes[j]
            if accelerated:
                for j in range(p):
                    kept_points[place, i, j] = point[j]
            place += 1
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
            pull = program.pulls[t]
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
    """Return the beginning of a buffer as a matrix without gaps, as products of matrices need."""
    return buffer[: rows * columns].reshape(rows, columns)


@_compiled
def _outer(points, start, adjoints, size, rows, space):
    """Return the sum of ``y u^T`` over some layers; if one more row is asked for, it is minus the
    sum of the adjoints u.
    """
    layers, flat = adjoints.shape
    left, outer = _matrix(space.left, layers, rows), _matrix(space.outer, rows, flat)
    for t in range(layers):
        for a in range(size):
            left[t, a] = points[start + t, a]
        if rows > size:
            left[t, size] = -1
    np.dot(left.T, adjoints, outer)
    return outer


@_compiled
def _add_to_columns(totals, row, points, start, adjoints, atoms, size, space):
    """Subtract ``u (D y)^T + y (D u)^T`` from `columns_bar` and add u to `products_bar`, for points
    y and adjoints u.
    """
    columns, columns_bar, products_bar = totals.columns, totals.columns_bar, totals.products_bar
    layers, length, images, weights = len(adjoints), columns.shape[1], space.images, space.weights
    for a in range(size):
        total = adjoints[0, a]
        for t in range(1, layers):
            total += adjoints[t, a]
        products_bar[0, row, atoms[a]] += total
    if size < 4 * layers:
        # Few atoms and many layers: a matrix of pairs of listed atoms is small.
        outer = _outer(points, start, adjoints, size, size, space)
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
        _subtract_rows(columns_bar[atoms[a]], length, images, space.order, weights, 0, 2 * layers)


@_compiled
def _add_to_pairs(totals, row, points, start, adjoints, atoms, size, k, count, space):
    """Subtract ``y u^T`` from the upper half of `gram_bar` and add u to `products_bar`, for `count`
    jobs from job k on.

    Only the sum of gram_bar and its transpose is used, so what belongs to the lower half is added
    to the upper one.
    """
    gram_bar, products_bar = totals.gram_bar, totals.products_bar
    outer = _outer(points, start, adjoints, size, size + 1, space)
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
def _pull_group(program, row, tape, g, jobs, totals, space):
    """Pull all jobs of one sample back through the layers of group g; their adjoints between two
    groups are in `space`.
    """
    gram, products, eta, accelerated = (
        program.gram,
        program.products,
        program.step,
        program.accelerated,
    )
    tops, bottoms, given, adjoints = jobs
    one = gram.dtype.type(1)
    zero = one - one
    code_tape, point_tape, lists, sizes, bounds, pulled = tape
    bottom, top, size, atoms = bounds[g], bounds[g + 1], sizes[g], lists[g]
    padded, local, residual = _padded(size), space.local, space.residual
    carried, carried_before = space.carried, space.carried_before
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
        # Take jobs in that end at the same layer.
        while stop < len(tops) and low == max(bottoms[stop], bottom) < tops[stop]:
            high = max(high, min(tops[stop], top))
            stop += 1
        count = stop - k
        # A row for each atom of the list, a column for each job; the column of a single job is
        # filled up.
        height = size if count > 1 else padded
        current, before = (
            _matrix(space.current, height, count),
            _matrix(space.before, height, count),
        )
        moved, passed = (
            _matrix(space.moved, height, count),
            _matrix(space.passed, high - low, height * count),
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
                if tops[k + q] > top:
                    current[a, q] = carried[atoms[a], k + q]
                    before[a, q] = carried_before[atoms[a], k + q]
                carried[atoms[a], k + q] = carried_before[atoms[a], k + q] = zero
        for t in range(high - 1, low - 1, -1):
            after, of = t + 1 + g, t - low
            for q in range(count):
                if tops[k + q] != t + 1:
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
                            program.l1_weight * (one if value > zero else -one)
                            + program.l2_weight * value
                            - residual[a] / eta
                        )
                        current[a, q], before[a, q] = slope / program.samples, zero
            if count > 1:
                several = passed[of].reshape(height, count)
                for a in range(size):
                    active = code_tape[after, a] != zero
                    for q in range(count):
                        several[a, q] = current[a, q] if active else zero
                np.dot(transfer, several, moved)
            else:
                for a in range(size):
                    passed[of, a] = alone[a] = own[a] if code_tape[after, a] != zero else zero
                for a in range(size, padded):
                    passed[of, a] = alone[a] = zero
                _subtract_rows(alone, padded, local, space.order, passed, of, size)
            if t == 0:
                for q in range(count):
                    if given:
                        adjoints[k + q, :, row] = zero
                    for a in range(size):
                        adjoints[k + q, 0, row, atoms[a]] = before[a, q]
                        adjoints[k + q, 1, row, atoms[a]] = moved[a, q]
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
                carried[atoms[a], k + q] = current[a, q]
                carried_before[atoms[a], k + q] = before[a, q]
        start = low + g
        if len(totals.columns):
            _add_to_columns(totals, row, point_tape, start, passed, atoms, size, space)
        else:
            _add_to_pairs(totals, row, point_tape, start, passed, atoms, size, k, count, space)
        k = stop


@compiled(error_model="numpy")
def run_layers(program, codes, points, jobs, totals, kept):
    """Run the layers of a program for some samples, then pull adjoints back through them for each
    job.

    The layers start from codes and points, shape (r, p).
    """
    tops, bottoms, depth, dtype = jobs.tops, jobs.bottoms, len(program.thresholds), codes.dtype
    (r, p), count = codes.shape, len(tops)
    # Without jobs only the present layer matters, and there is one group.
    groups, layers = (depth + 1, 2 * depth + 2) if count else (1, 1)
    code_tape = np.empty((layers, p), dtype)
    tape = Tape(
        codes=code_tape,
        points=np.empty((layers, p), dtype) if program.accelerated else code_tape,
        atoms=np.empty((groups, p + 1), np.uint32),
        sizes=np.zeros(groups, np.int64),
        bounds=np.zeros(groups + 1, np.int64),
        pulls=np.zeros(depth + 1, dtype),
    )
    z, y, values = np.empty(p, dtype), np.empty(p, dtype), np.empty(p, dtype)
    listed = np.empty(p, np.bool_)
    height = _padded(p) if count else 0
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
        left=np.empty(GROUP * (p + 1), dtype),
        outer=np.empty((p + 1) * flat, dtype),
        images=np.empty((2 * GROUP, totals.columns.shape[1]), dtype),
        weights=np.empty((1, 2 * GROUP), dtype),
        carried=np.zeros((p, count), dtype),
        carried_before=np.zeros((p, count), dtype),
    )
    highest, lowest = 0, depth
    for k in range(count):
        highest, lowest = max(highest, tops[k]), min(lowest, bottoms[k])

    for row in range(r):
        for j in range(p):
            z[j], y[j] = codes[row, j], points[row, j]
        group = _run_sample(program, row, z, y, values, count > 0, tape, listed, kept)
        if not count:
            continue
        space.carried[:] = space.carried_before[:] = 0
        for g in range(group, -1, -1):
            if max(tape.bounds[g], lowest) < min(tape.bounds[g + 1], highest):
                _pull_group(program, row, tape, g, jobs, totals, space)


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
