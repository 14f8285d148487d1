"""Layers of sparse coding and their adjoints on active sets, compiled by numba. Only `kernels` imports this module.

Samples are independent of each other: each runs through all layers, forward and back, while its data are in the cache.
With G the Hessian of the smooth part, b = D^T x and eta the step, a layer is ``z' = S(y + eta (b - G y))``, of which only
the rows of G on the support of y matter. Backward, with u the adjoint of z' restricted to the support of z',

    b_bar += eta u,    G_bar -= eta y u^T,    y_bar = u - eta G u,

where y_bar is needed only on the support of the codes before. Consecutive layers whose supports nearly agree are treated
together, in a dense copy of G on the union of their supports, and so are jobs: they are the last, contiguous axis.
"""

import numba
import numpy as np

from ..kernel_choice import compiled

#: Largest number of layers that one union of supports serves.
GROUP = 32

#: For the parts of `run_layers`, in whose cache they are kept.
_compiled = numba.njit(fastmath={"contract"}, error_model="numpy")


@_compiled
def _subtract_rows(total, matrix, rows, weights, start, stop):
    """Subtract ``weights[k] * matrix[rows[k]]`` from `total` for k in start..stop, eight rows in one pass."""
    size = len(total)
    k = start
    while k + 8 <= stop:
        a, b, c, d = rows[k], rows[k + 1], rows[k + 2], rows[k + 3]
        e, f, g, h = rows[k + 4], rows[k + 5], rows[k + 6], rows[k + 7]
        wa, wb, wc, wd = weights[k], weights[k + 1], weights[k + 2], weights[k + 3]
        we, wf, wg, wh = weights[k + 4], weights[k + 5], weights[k + 6], weights[k + 7]
        for j in range(size):
            first = (wa * matrix[a, j] + wb * matrix[b, j]) + (wc * matrix[c, j] + wd * matrix[d, j])
            second = (we * matrix[e, j] + wf * matrix[f, j]) + (wg * matrix[g, j] + wh * matrix[h, j])
            total[j] -= first + second
        k += 8
    while k + 2 <= stop:
        a, b, wa, wb = rows[k], rows[k + 1], weights[k], weights[k + 1]
        for j in range(size):
            total[j] -= wa * matrix[a, j] + wb * matrix[b, j]
        k += 2
    if k < stop:
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
def _record(codes, point, rows, code_values, point_values, start):
    """Write the entries at which codes or point are not zero from `start` on; return where they end."""
    k = start
    for j in range(len(codes)):
        # Written without a branch, which would be mispredicted, and kept if the count goes on.
        rows[k] = j
        code_values[k] = codes[j]
        point_values[k] = point[j]
        k += (codes[j] != 0) | (point[j] != 0)
    return k


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

    # The tape of one sample: entries of layer t lie in starts[t]..stops[t].
    capacity = (depth + 1 if jobs else 2) * p + 1
    rows = np.empty(capacity, np.uint32)
    code_values = np.empty(capacity, gram.dtype)
    point_values = np.empty(capacity, gram.dtype) if accelerated else code_values
    starts, stops = np.zeros(depth + 1, np.int64), np.zeros(depth + 1, np.int64)
    pulled = np.zeros(depth + 1, gram.dtype)
    z, point_buffer, values = np.empty(p, gram.dtype), np.empty(p, gram.dtype), np.empty(p, gram.dtype)

    # Of the backward pass: places of entries within the union, and arrays on the union.
    place = np.full(p, -1, np.int64)
    union, last_union = np.empty(p, np.uint32), np.empty(p, np.uint32)
    last_size = -1
    order = np.arange(max(p, GROUP + 1)).astype(np.uint32)
    largest = p if jobs else 0
    local_buffer = np.empty(largest * largest, gram.dtype)
    codes_buffer, points_buffer = np.empty((GROUP + 1) * largest, gram.dtype), np.empty((GROUP + 1) * largest, gram.dtype)
    adjoints_buffer = np.empty(GROUP * largest * jobs, gram.dtype)
    column = np.empty(GROUP + 1, gram.dtype)
    carried, carried_before = np.zeros((p, jobs), gram.dtype), np.zeros((p, jobs), gram.dtype)
    current_buffer, before_buffer = np.empty(p * jobs, gram.dtype), np.empty(p * jobs, gram.dtype)
    moved_buffer, residual = np.empty(p * jobs, gram.dtype), np.empty(p, gram.dtype)
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
        starts[0], stops[0] = 0, _record(z, y, rows, code_values, point_values, 0)
        still, kept_so_far = False, 0
        for t in range(depth + 1):
            if kept_so_far < kept and keep[kept_so_far] == t:
                kept_codes[kept_so_far, i] = z
                kept_momenta[kept_so_far, i] = momentum
                if accelerated:
                    kept_points[kept_so_far, i] = y
                kept_so_far += 1
            if t == depth:
                break
            if still and thresholds[t] == thresholds[t - 1]:
                # The last layer changed nothing, bit for bit: nor does this one, and it shares the entries on the tape.
                starts[t + 1], stops[t + 1] = starts[t], stops[t]
                continue
            for j in range(p):
                values[j] = y[j] + products[row, j]
            _subtract_rows(values, gram, rows, point_values, starts[t], stops[t])
            _threshold(values, thresholds[t], hard, nonnegative)
            if accelerated:
                pull = pulls[t]
                if restart:
                    uphill = zero
                    for j in range(p):
                        uphill += (y[j] - values[j]) * (values[j] - z[j])
                    larger = (one + np.sqrt(one + four * momentum * momentum)) / two
                    pull = (momentum - one) / larger
                    momentum = larger
                    if uphill > zero:
                        momentum, pull = one, zero
                pulled[t + 1] = pull
                for j in range(p):
                    y[j] = values[j] + pull * (values[j] - z[j])
                z, values = values, z
            else:
                z, values = values, z
                y = z
            # Without a backward pass two layers take turns.
            starts[t + 1] = stops[t] if jobs else (0 if starts[t] else p)
            stops[t + 1] = _record(z, y, rows, code_values, point_values, starts[t + 1])
            still = False
            if not accelerated and stops[t + 1] - starts[t + 1] == stops[t] - starts[t]:
                e, f = starts[t], starts[t + 1]
                while e < stops[t] and rows[e] == rows[f] and code_values[e] == code_values[f]:
                    e, f = e + 1, f + 1
                still = e == stops[t]

        top = highest
        while top > lowest:
            # Take layers in as long as the union of their supports stays near that of the topmost.
            size = 0
            for e in range(starts[top], stops[top]):
                place[rows[e]] = size
                union[size] = rows[e]
                size += 1
            bottom, limit = top, size + size // 4 + 4
            while bottom > lowest and top - bottom < GROUP and size <= limit:
                bottom -= 1
                if starts[bottom] != starts[bottom + 1]:
                    for e in range(starts[bottom], stops[bottom]):
                        if place[rows[e]] < 0:
                            place[rows[e]] = size
                            union[size] = rows[e]
                            size += 1
            same = size == last_size
            for a in range(size):
                same = same and union[a] == last_union[a]
            local = local_buffer[: size * size].reshape(size, size)
            if not same:
                for a in range(size):
                    for b in range(size):
                        local[a, b] = gram[union[a], union[b]]
                    last_union[a] = union[a]
                last_size = size
            width = top - bottom + 1
            local_codes = codes_buffer[: width * size].reshape(width, size)
            local_points = points_buffer[: width * size].reshape(width, size)
            local_codes[:], local_points[:] = zero, zero
            for t in range(bottom, top + 1):
                for e in range(starts[t], stops[t]):
                    local_codes[t - bottom, place[rows[e]]] = code_values[e]
                    local_points[t - bottom, place[rows[e]]] = point_values[e]

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
                flat = size * count
                current_flat, before_flat = current_buffer[:flat], before_buffer[:flat]
                current, before = current_flat.reshape(size, count), before_flat.reshape(size, count)
                moved_flat, adjoints_flat = moved_buffer[:flat], adjoints_buffer[: GROUP * flat].reshape(GROUP, flat)
                moved, local_adjoints = moved_flat.reshape(size, count), adjoints_flat.reshape(GROUP, size, count)
                for q in range(count):
                    for a in range(size):
                        current[a, q], before[a, q] = carried[union[a], chain + q], carried_before[union[a], chain + q]
                        if chain == k and tops[k + q] <= top:
                            current[a, q], before[a, q] = zero, zero
                for t in range(high - 1, low - 1, -1):
                    for q in range(count):
                        if tops[k + q] != t + 1 or chain != k:
                            continue
                        if given:
                            for a in range(size):
                                of_point = adjoints[k + q, 1, row, union[a]]
                                current[a, q] = adjoints[k + q, 0, row, union[a]] + (one + pulled[t + 1]) * of_point
                                before[a, q] = -pulled[t + 1] * of_point
                            continue
                        for a in range(size):
                            residual[a] = products[row, union[a]]
                        _subtract_rows(residual[:size], local, order, local_codes[t + 1 - bottom], 0, size)
                        for a in range(size):
                            value = local_codes[t + 1 - bottom, a]
                            sign = one if value > zero else -one
                            current[a, q] = (l1_weight * sign + l2_weight * value - residual[a] / eta) / total_samples
                            before[a, q] = zero
                    adjoint, adjoint_flat = local_adjoints[t - bottom], adjoints_flat[t - bottom]
                    # A single job's vectors lie along the union, those of several along the jobs.
                    if count == 1:
                        for a in range(size):
                            adjoint_flat[a] = current_flat[a] if local_codes[t + 1 - bottom, a] != zero else zero
                            moved_flat[a] = adjoint_flat[a]
                        _subtract_rows(moved_flat, local, order, adjoint_flat, 0, size)
                    else:
                        for a in range(size):
                            active = local_codes[t + 1 - bottom, a] != zero
                            for q in range(count):
                                adjoint[a, q] = current[a, q] if active else zero
                                moved[a, q] = adjoint[a, q]
                        for a in range(size):
                            _subtract_rows(moved[a], adjoint, order, local[a], 0, size)
                    if t == 0:
                        for q in range(count):
                            adjoints[chain + q, :, row] = zero
                            for a in range(size):
                                adjoints[chain + q, 0, row, union[a]] = before[a, q]
                                adjoints[chain + q, 1, row, union[a]] = moved[a, q]
                    pull = pulled[t]
                    for j in range(flat):
                        current_flat[j] = before_flat[j] + (one + pull) * moved_flat[j]
                        before_flat[j] = -pull * moved_flat[j]
                for a in range(size):
                    moved_flat[:] = zero
                    for t in range(low - bottom, high - bottom):
                        column[t] = local_points[t, a]
                    _subtract_rows(moved_flat, adjoints_flat, order, column, low - bottom, high - bottom)
                    target = gram_bar[union[a]]
                    if count == 1:
                        for b in range(size):
                            target[union[b], k] += moved_flat[b]
                        continue
                    for b in range(size):
                        for q in range(count):
                            target[union[b], k + q] += moved[b, q]
                moved_flat[:] = zero
                for t in range(low - bottom, high - bottom):
                    for j in range(flat):
                        moved_flat[j] += adjoints_flat[t, j]
                for q in range(count):
                    for a in range(size):
                        products_bar[k + q, row, union[a]] += moved[a, q]
                for q in range(count):
                    for a in range(size):
                        carried[union[a], chain + q], carried_before[union[a], chain + q] = current[a, q], before[a, q]
                k = stop
            for a in range(size):
                place[union[a]] = -1
            top = bottom
