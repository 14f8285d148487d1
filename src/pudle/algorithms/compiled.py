"""Layers of sparse coding and their adjoints on active sets, compiled by numba. Only `kernels` imports this module.

Samples are independent of each other: each runs through all layers, forward and back, while its data are in the cache.
With G the Hessian of the smooth part, b = D^T x and eta the step, a layer is ``z' = S(y + eta (b - G y))``, of which only
the rows of G on the support of y matter. Backward, with u the adjoint of z' restricted to the support of z',

    b_bar += eta u,    G_bar -= eta y u^T,    y_bar = u - eta G u,

where y_bar is needed only on the support of the codes before. Supports change little from layer to layer. So consecutive
layers share one list of atoms that contains all of their supports, and their codes are kept as vectors on that list; back
through them, products are dense ones with the part of G on it. Jobs are treated together, as the last, contiguous axis.
"""

import numba
import numpy as np

from ..kernel_choice import compiled

#: Largest number of layers that share a list of atoms.
GROUP = 32
#: Rows of arrays on a list, or over several jobs, are filled up with zeros to a multiple of this, for vector instructions.
LANES = 16

#: For the parts of `run_layers`, in whose cache they are kept.
_compiled = numba.njit(fastmath={"contract"}, error_model="numpy")


@_compiled
def _subtract_rows(total, matrix, rows, weights, count):
    """Subtract ``weights[k] * matrix[rows[k]]`` from `total` for k < count, eight rows in one pass."""
    size = len(total)
    k = 0
    while k + 8 <= count:
        a, b, c, d = rows[k], rows[k + 1], rows[k + 2], rows[k + 3]
        e, f, g, h = rows[k + 4], rows[k + 5], rows[k + 6], rows[k + 7]
        wa, wb, wc, wd = weights[k], weights[k + 1], weights[k + 2], weights[k + 3]
        we, wf, wg, wh = weights[k + 4], weights[k + 5], weights[k + 6], weights[k + 7]
        for j in range(size):
            first = (wa * matrix[a, j] + wb * matrix[b, j]) + (wc * matrix[c, j] + wd * matrix[d, j])
            second = (we * matrix[e, j] + wf * matrix[f, j]) + (wg * matrix[g, j] + wh * matrix[h, j])
            total[j] -= first + second
        k += 8
    while k + 2 <= count:
        a, b, wa, wb = rows[k], rows[k + 1], weights[k], weights[k + 1]
        for j in range(size):
            total[j] -= wa * matrix[a, j] + wb * matrix[b, j]
        k += 2
    if k < count:
        a, wa = rows[k], weights[k]
        for j in range(size):
            total[j] -= wa * matrix[a, j]


@_compiled
def _threshold(values, threshold, hard, nonnegative):
    """Apply a thresholding rule in place, with the same treatment of NaN and infinity as the rules' own."""
    zero = threshold - threshold
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
def _list_atoms(codes, point, atoms, listed):
    """List the entries at which codes or point are not zero; return their number."""
    size = 0
    for j in range(len(codes)):
        # Written without a branch, which would be mispredicted, and kept if the count goes on.
        atoms[size] = j
        listed[j] = (codes[j] != 0) | (point[j] != 0)
        size += listed[j]
    return size


@_compiled
def _padded(size):
    return -(-size // LANES) * LANES


@_compiled
def _number_active(codes):
    number = 0
    for j in range(len(codes)):
        number += codes[j] != 0
    return number


@_compiled
def _subtract_product(total, left, right, rows, inner):
    """Subtract ``left @ right`` from `total`, which has `rows` rows; the product runs over `inner` columns of `left`."""
    columns = total.shape[1]
    a = 0
    while a < rows:
        b = 0
        if a + 2 <= rows:
            while b + 4 <= inner:
                wa, wb, wc, wd = left[a, b], left[a, b + 1], left[a, b + 2], left[a, b + 3]
                va, vb, vc, vd = left[a + 1, b], left[a + 1, b + 1], left[a + 1, b + 2], left[a + 1, b + 3]
                for j in range(columns):
                    e, f, g, h = right[b, j], right[b + 1, j], right[b + 2, j], right[b + 3, j]
                    total[a, j] -= (wa * e + wb * f) + (wc * g + wd * h)
                    total[a + 1, j] -= (va * e + vb * f) + (vc * g + vd * h)
                b += 4
            while b < inner:
                wa, va = left[a, b], left[a + 1, b]
                for j in range(columns):
                    total[a, j] -= wa * right[b, j]
                    total[a + 1, j] -= va * right[b, j]
                b += 1
        else:
            while b < inner:
                wa = left[a, b]
                for j in range(columns):
                    total[a, j] -= wa * right[b, j]
                b += 1
        a += 2


@compiled(error_model="numpy")
def run_layers(
    gram, products, codes, points, momenta, thresholds, pulls, numbers, flags, depth, tops, bottoms, chains, adjoints,
    gram_bar, products_bar, keep, first, kept_codes, kept_points, kept_momenta,
):  # fmt: skip
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
        Hard rule; non-negative codes; extrapolated point; restart; adjoints are given instead of those of the loss.
    numbers : array, shape (5,)
        One; eta; n; weights of the l1 norm and of half the squared l2 norm in the outer loss beyond what G contains.
    tops, bottoms, chains : array of int, shape (jobs,)
        Job k pulls back from layer tops[k] to bottoms[k]. It starts from the loss at its top or, if it does not name itself
        as its chain, from where the job before ended.
    adjoints : array, shape (jobs, 2, r, p)
        Adjoints of codes and point after the last layer, if they are given. At a chain's place, those before the first
        layer are written, at least on the support of the state.
    gram_bar, products_bar : array, shapes (p, p, jobs) and (jobs, r, p)
        To these the derivatives of the loss are added, summed over the samples, in ``eta G``, and in ``eta b``.
    keep : array of int
        Layers after which the state is kept, ascending.
    first : int
        Index of the first sample in the arrays of kept states.
    kept_codes, kept_points, kept_momenta : array, shapes (keep, n, p), (keep, n, p) and (keep, n)
        Where the kept states are written; not the points if they are the codes.
    """
    hard, nonnegative, accelerated, restart, given = flags[0], flags[1], flags[2], flags[3], flags[4]
    one, eta, total_samples, l1_weight, l2_weight = numbers[0], numbers[1], numbers[2], numbers[3], numbers[4]
    zero = one - one
    two, four = one + one, one + one + one + one
    r, p = products.shape
    jobs, kept = len(tops), len(keep)

    # What one sample leaves behind: layer t lies in row t + g of the tape if group g of layers contains it, as the entries
    # at the atoms that the group lists. A group's last layer is the first of the next, and lies in both.
    length = 2 * depth + 2 if jobs else 1
    groups = depth + 1 if jobs else 1
    code_tape = np.empty((length, p), gram.dtype)
    point_tape = np.empty((length, p), gram.dtype) if accelerated else code_tape
    lists, sizes, bounds = np.empty((groups, p), np.uint32), np.zeros(groups, np.int64), np.zeros(groups + 1, np.int64)
    listed = np.empty(p, np.bool_)
    pulled = np.zeros(depth + 1, gram.dtype)
    z, point_buffer, values = np.empty(p, gram.dtype), np.empty(p, gram.dtype), np.empty(p, gram.dtype)

    # Of the backward pass, on a group's list.
    order = np.arange(max(p, GROUP)).astype(np.uint32)
    largest = _padded(p) * (1 if jobs == 1 else _padded(jobs))
    local_buffer = np.empty(p * _padded(p) if jobs else 0, gram.dtype)
    adjoints_buffer = np.zeros(GROUP * largest, gram.dtype)
    carried, carried_before = np.zeros((p, jobs), gram.dtype), np.zeros((p, jobs), gram.dtype)
    current_buffer, before_buffer = np.zeros(largest, gram.dtype), np.zeros(largest, gram.dtype)
    moved_buffer, residual = np.empty(largest, gram.dtype), np.empty(_padded(p), gram.dtype)
    weights = np.empty(GROUP, gram.dtype)
    highest, lowest = 0, depth
    for k in range(jobs):
        highest, lowest = max(highest, tops[k]), min(lowest, bottoms[k])

    for row in range(r):
        i = first + row
        z[:] = codes[row]
        y = z
        if accelerated:
            y = point_buffer
            y[:] = points[row]
        momentum = momenta[row]
        group, at, still, kept_so_far, active = -1, -1, False, 0, 0
        for t in range(depth + 1):
            # A layer with many entries fewer than its group's list begins a new one.
            if t == 0 or 4 * active < 3 * sizes[group] or (jobs and t - bounds[group] == GROUP):
                if jobs or t == 0:
                    group, at = group + 1, at + 1
                bounds[group] = t
                atoms = lists[group]
                active = sizes[group] = _list_atoms(z, y, atoms, listed)
                for a in range(active):
                    code_tape[at, a] = z[atoms[a]]
                    if accelerated:
                        point_tape[at, a] = y[atoms[a]]
            if kept_so_far < kept and keep[kept_so_far] == t:
                kept_codes[kept_so_far, i] = z
                kept_momenta[kept_so_far, i] = momentum
                if accelerated:
                    kept_points[kept_so_far, i] = y
                kept_so_far += 1
            if t == depth:
                break
            size, later = sizes[group], at + 1 if jobs else at
            if still and thresholds[t] == thresholds[t - 1]:
                # The last layer changed nothing, bit for bit: nor does this one.
                code_tape[later, :size] = code_tape[at, :size]
                at = later
                continue
            for j in range(p):
                values[j] = y[j] + products[row, j]
            _subtract_rows(values, gram, atoms, point_tape[at], size)
            _threshold(values, thresholds[t], hard, nonnegative)
            z, values = values, z
            if not accelerated:
                y = z
            else:
                pull = pulls[t]
                if restart:
                    uphill = zero
                    for j in range(p):
                        uphill += (y[j] - z[j]) * (z[j] - values[j])
                    larger = (one + np.sqrt(one + four * momentum * momentum)) / two
                    pull = (momentum - one) / larger
                    momentum = larger
                    if uphill > zero:
                        momentum, pull = one, zero
                pulled[t + 1] = pull
                for j in range(p):
                    y[j] = z[j] + pull * (z[j] - values[j])
            active, found, changed = _number_active(z), 0, 0
            for a in range(size):
                value = z[atoms[a]]
                found += value != zero
                changed += value != code_tape[at, a]
                code_tape[later, a] = value
            if accelerated:
                for a in range(size):
                    point_tape[later, a] = y[atoms[a]]
            still = not accelerated and changed == 0 and found == active
            if found < active:
                # The point's entries lie where those of codes or of those before do.
                for j in range(p):
                    if z[j] != zero and not listed[j]:
                        listed[j] = True
                        atoms[size] = j
                        for e in range(at - (t - bounds[group]) if jobs else at, later):
                            code_tape[e, size] = point_tape[e, size] = zero
                        code_tape[later, size], point_tape[later, size] = z[j], y[j]
                        size += 1
                sizes[group] = size
            at = later

        carried[:], carried_before[:] = zero, zero
        bounds[group + 1] = depth
        for g in range(group, -1, -1) if jobs else range(0):
            bottom, top, size, atoms = bounds[g], min(bounds[g + 1], highest), sizes[g], lists[g]
            if top <= max(bottom, lowest):
                continue
            padded = _padded(size)
            local = local_buffer[: size * padded].reshape(size, padded)
            for a in range(size):
                for b in range(size):
                    local[a, b] = gram[atoms[a], atoms[b]]
                local[a, size:] = zero
            k = 0
            while k < jobs:
                low, high, stop = max(bottoms[k], bottom), min(tops[k], top), k + 1
                if high <= low:
                    k += 1
                    continue
                # Take jobs in that end at the same layer, and do not wait for the one before.
                while stop < jobs and chains[stop] == stop and low == max(bottoms[stop], bottom) < tops[stop]:
                    high = max(high, min(tops[stop], top))
                    stop += 1
                count, chain = stop - k, chains[k]
                # A single job's vectors lie along the list, those of several along the jobs.
                height, across = (padded, 1) if count == 1 else (size, _padded(count))
                flat = height * across
                current_flat, before_flat, moved_flat = current_buffer[:flat], before_buffer[:flat], moved_buffer[:flat]
                current, before = current_flat.reshape(height, across), before_flat.reshape(height, across)
                adjoints_flat = adjoints_buffer[: GROUP * flat].reshape(GROUP, flat)
                moved, local_adjoints = moved_flat.reshape(height, across), adjoints_flat.reshape(GROUP, height, across)
                current_flat[:], before_flat[:] = zero, zero
                for a in range(size):
                    for q in range(count):
                        fresh = chain == k and tops[k + q] <= top
                        current[a, q] = zero if fresh else carried[atoms[a], chain + q]
                        before[a, q] = zero if fresh else carried_before[atoms[a], chain + q]
                        carried[atoms[a], chain + q] = carried_before[atoms[a], chain + q] = zero
                for t in range(high - 1, low - 1, -1):
                    after = code_tape[t + 1 + g]
                    for q in range(count):
                        if tops[k + q] != t + 1 or chain != k:
                            continue
                        if given:
                            for a in range(size):
                                of_point = adjoints[k + q, 1, row, atoms[a]]
                                current[a, q] = adjoints[k + q, 0, row, atoms[a]] + (one + pulled[t + 1]) * of_point
                                before[a, q] = -pulled[t + 1] * of_point
                            continue
                        for a in range(size):
                            residual[a] = products[row, atoms[a]]
                        _subtract_rows(residual[:padded], local, order, after, size)
                        for a in range(size):
                            sign = one if after[a] > zero else -one
                            current[a, q] = (l1_weight * sign + l2_weight * after[a] - residual[a] / eta) / total_samples
                            before[a, q] = zero
                    adjoint, adjoint_flat = local_adjoints[t - low], adjoints_flat[t - low]
                    if count == 1:
                        for a in range(size):
                            adjoint_flat[a] = current_flat[a] if after[a] != zero else zero
                        adjoint_flat[size:] = zero
                        moved_flat[:] = adjoint_flat
                        _subtract_rows(moved_flat, local, order, adjoint_flat, size)
                    else:
                        for a in range(size):
                            inside = after[a] != zero
                            for q in range(across):
                                adjoint[a, q] = current[a, q] if inside else zero
                                moved[a, q] = adjoint[a, q]
                        _subtract_product(moved, local, adjoint, size, size)
                    if t == 0:
                        for q in range(count):
                            adjoints[chain + q, :, row] = zero
                            for a in range(size):
                                adjoints[chain + q, 0, row, atoms[a]] = before[a, q]
                                adjoints[chain + q, 1, row, atoms[a]] = moved[a, q]
                    pull = pulled[t]
                    for j in range(flat):
                        current_flat[j] = before_flat[j] + (one + pull) * moved_flat[j]
                        before_flat[j] = -pull * moved_flat[j]
                for a in range(size):
                    moved_flat[:] = zero
                    for t in range(low, high):
                        weights[t - low] = point_tape[t + g, a]
                    _subtract_rows(moved_flat, adjoints_flat, order, weights, high - low)
                    target = gram_bar[atoms[a]]
                    if count == 1:
                        for b in range(size):
                            target[atoms[b], k] += moved_flat[b]
                        continue
                    for b in range(size):
                        for q in range(count):
                            target[atoms[b], k + q] += moved[b, q]
                moved_flat[:] = zero
                for t in range(high - low):
                    for j in range(flat):
                        moved_flat[j] += adjoints_flat[t, j]
                for a in range(size):
                    for q in range(count):
                        products_bar[k + q, row, atoms[a]] += moved[a, q]
                        carried[atoms[a], chain + q], carried_before[atoms[a], chain + q] = current[a, q], before[a, q]
                k = stop
