"""Compiled layers and adjoints of sparse coding, registered as faster ways of what `run_layers` and
`unrolling` do.

They compute what the torch path computes, up to rounding, in a time that falls with the number of
active code entries. They apply to the built-in problem, losses, algorithms and thresholding rules
themselves, on a CPU: anything else, a subclass included, takes the torch path. So do FISTA's
samples that restart on their own, work that is less than a call of the kernels is worth, and a
gradient whose terms cancel to more than `LARGEST_CANCELLATION`, for which the Gram matrix would
lose digits, or that is not finite; in single precision the kernels first try again in double.

With G the Hessian of the smooth part, b = D^T x and eta the step, the layer ``z' = S(y + eta (b - G
y))`` depends on the dictionary D through eta G and eta b alone. Their derivatives are summed over
layers and samples, and turned into one in D at the end, or at once where samples are few. Codes are
dense in the first layers only; there a product with all of G is faster than one with some of its
rows. So samples are treated in chunks, by dense products first, then by compiled code.
"""

import functools
import itertools
import math
from collections.abc import Collection, Iterator, Sequence
from typing import Any, TypeGuard

import numpy as np
import torch
from torch import Tensor

from ..kernel_choice import choice
from ..problems import PenaltySelection, Problem, SparseCoding
from ..problems.l1 import LOSSES
from ..problems.l1 import gram as symmetric
from ..threads import single_thread
from . import unrolling
from .algorithm import Algorithm, State, is_recorded, is_wrapped, run_layers
from .ista import Fista, Ista, following
from .stepless import ActiveSet, CoordinateDescent
from .thresholding import Decaying, Hard, Soft
from .unrolling import Adjoints, Evaluated

#: Largest number of entries of the Gram matrices' derivatives that one pass over the samples
#: accumulates.
LARGEST_PASS = 1 << 20
#: Largest ratio between the norms of a gradient's terms and that of their sum, the gradient.
LARGEST_CANCELLATION = 100.0
#: Largest ratio of the same kind for the loss's derivative in the codes, times that of its gradient
#: through the layers: the rounding of its terms may grow on the way through them.
LARGEST_ROUNDING = 1e6
#: Least number of products of codes and dictionary entries for which the kernels are called, what a
#: layer of the torch path costs in these, however small it is, and what one sample's layer costs
#: the kernels, per byte of a number. The first layers are dense.
LEAST_WORK, LAYER_WORK, SAMPLE_WORK, DENSE_LAYERS = 2.5e7, 1.5e5, 8e3, 4
#: Work of a layer and its adjoint as a multiple of that of a layer alone.
WITH_ADJOINT = 10
_BUILT_IN_LOSSES = dict(LOSSES)
#: Number of samples that are treated together, and memory that they may take if all layers are
#: dense. Sums over samples are in the order of these chunks.
CHUNK, CHUNK_BYTES = 250, 1 << 27
#: Share of non-zero code entries above which a chunk's layer is a dense product.
DENSE = 0.38
#: Number of a gradient's layers, over all samples, per atom, up to which no matrix for pairs of
#: atoms is made.
COLUMNWISE = 5
#: Number of layers through which rounding in single precision may add up in directions that no
#: layer changes, those of codes with more entries than features.
SAFE_DEPTH = 200


def prepare(dtypes: Collection[torch.dtype] = (torch.float32,)) -> None:
    """Compile the kernels for some dtypes, or load them from numba's cache, so that nothing
    measured later pays for it.

    Double precision is always among them: where terms cancel, it takes the place of single
    precision.
    """
    if choice() == "torch":
        return
    for dtype in {*dtypes, torch.float64}:
        one = torch.ones(1, 1, dtype=dtype)
        # A penalty that leaves the codes empty, and layers beyond those that are dense whatever the
        # codes.
        problem = SparseCoding(observations=one, dictionary=one, penalty=10)
        run_and_pull(problem, Ista(), Ista().start(problem), 8, (), [8])
        problem.solve_active(one, one)
        ActiveSet().run(problem, 1)
        CoordinateDescent().run(problem, 1)


def is_plain(problem: Problem) -> TypeGuard[SparseCoding]:
    """Return whether a problem is sparse coding with one penalty for all atoms and one of this
    package's own losses.
    """
    return (
        type(problem) is SparseCoding
        and isinstance(problem.penalty, float)
        and isinstance(problem.loss, str)
        and LOSSES.get(problem.loss) is _BUILT_IN_LOSSES.get(problem.loss)
    )


def apply(
    problem: SparseCoding,
    algorithm: Algorithm,
    state: State,
    layers: int,
    work: float = WITH_ADJOINT,
) -> bool:
    """Return whether the kernels take the place of the torch path for some layers from a state, of
    which each is so much work.
    """
    samples, atoms = problem.code_shape
    size = problem.theta.numel()
    # Back through it, a layer of a sample costs the kernels more than forward.
    sample = SAMPLE_WORK * (3.5 if work > 1 else 1) / problem.theta.itemsize
    layer = samples * (work * size - sample) + work * LAYER_WORK
    least = LEAST_WORK + 2 * atoms * size
    return (
        layers * layer >= least
        and is_plain(problem)
        and type(algorithm) in (Ista, Fista)
        and choice() != "torch"
        and type(algorithm.thresholding) in (Soft, Decaying, Hard)
        and not isinstance(state.momentum, Tensor)
        and _computable(problem.observations, problem.theta, state.codes, state.point)
        and (
            (layers - DENSE_LAYERS) * layer >= least
            or not is_dense(problem, state.point, from_zero=True)
        )
        # Back through a dense layer of many atoms are five products, on the torch path four; and
        # what a hard rule keeps in one layer it keeps in the next ones.
        and not (
            work > 1
            and isinstance(algorithm.thresholding, Hard)
            and atoms > 2 * problem.dictionary.shape[0]
            and is_dense(problem, algorithm.run(problem, 1, initial=state.point).codes, False)
        )
    )


def _computable(*tensors: Tensor) -> bool:
    """Return whether tensors are such that the kernels can compute with them."""
    return all(
        tensor.dtype in (torch.float32, torch.float64)
        and tensor.device.type == "cpu"
        and not is_wrapped(tensor)
        # Zero times what is not finite is NaN, and no kernel multiplies zeros.
        and tensor.detach().sum().isfinite()
        for tensor in tensors
    )


def norms(matrices: Tensor) -> Tensor:
    """Return the Frobenius norms of matrices, shape (k, m, p), in double precision: in single
    precision squares may underflow.
    """
    made: Tensor = torch.linalg.norm(matrices, dim=(1, 2), dtype=torch.float64)
    return made


def is_dense(problem: SparseCoding, point: Tensor, from_zero: bool) -> bool:
    """Return whether the layer after a point is a dense product."""
    features, atoms = problem.dictionary.shape
    active = int(np.count_nonzero(point.detach().numpy() != 0))
    # The first layer leads from all-zero codes to dense ones.
    return active >= DENSE * len(point) * min(atoms, 2 * features) or (from_zero and not active)


@torch.no_grad()
@single_thread()
def run_and_pull(
    problem: SparseCoding,
    algorithm: Algorithm,
    state: State,
    depth: int,
    keep: Collection[int],
    tops: Sequence[int] = (),
    adjoints: Tensor | None = None,
) -> tuple[dict[int, State], Tensor, list[float], Tensor]:
    """Run `depth` layers from a state, keeping those in `keep` and the last, and pull back to it
    from each of the depths `tops`, which ascend.

    `adjoints`, shape (1, 2, n, p), takes the place of the loss's derivatives in the codes, and in
    the point, at the last layer, the only one of `tops` then.

    Returns
    -------
    states : dict from int to State
        Those that were kept, none if rounding has grown from layer to layer.
    gradients : Tensor
        Derivatives in D through the layers up to each depth, shape (depths, m, p).
    magnitudes : list of float
        Sums of the norms of the two terms that each of them is made of.
    adjoints : Tensor
        Those of codes and point at the first state for each depth, shape (depths, 2, n, p); empty
        unless they were given for the last.
    """
    from . import compiled  # numba is slow to import

    step = algorithm.step_size(problem)
    rule = algorithm.thresholding
    accelerated = isinstance(algorithm, Fista)
    problem = problem.with_theta(problem.theta.detach().contiguous())
    (n, p), m, count, penalty = problem.code_shape, len(problem.theta), len(tops), problem.penalty
    lasso, given, threshold = problem.loss == "lasso", adjoints is not None, step * penalty
    new = problem.theta

    @functools.cache
    def gram() -> Tensor:
        made = symmetric(problem.dictionary).mul_(step)
        made.diagonal().add_(step * problem.l2_penalty)
        return made

    momenta: list[Any] = [state.momentum]
    for _ in range(depth):
        momenta.append(following(momenta[-1]) if accelerated else momenta[-1])
    # The factor c of each layer's extrapolation y = z + c (z - z_before), zero before the first.
    pulls = [0.0, *((now - 1) / later for now, later in itertools.pairwise(momenta))]
    cutoffs = [rule.cutoff(threshold, state.iteration + layer) for layer in range(depth)]
    kept = sorted({*keep, depth} - {0})
    codes = new.new_empty(len(kept), n, p)
    points = torch.empty_like(codes) if accelerated else codes
    # Two products with the dictionary are cheaper than one with G; and they keep their rounding in
    # its row space: on the complement, no layer pulls it back.
    thin, drifted = p > 2 * m, False
    rounds = new.dtype == torch.float32 and m < p and depth > SAFE_DEPTH
    # Codes of few samples concern few pairs of atoms.
    columnwise = count == 1 and n * depth < COLUMNWISE * p
    by_columns, atoms = thin or columnwise, 0 if columnwise else p
    columns, nothing = problem.dictionary.T.contiguous(), new.new_empty(0, 0)
    columns_bar = new.new_zeros(count if by_columns else 0, p, m)
    # Depths are the last axis in memory for compiled code, the first for dense products.
    gram_bar = new.new_zeros(atoms, atoms, count).movedim(2, 0)
    dense_bar = gram_bar if count == 1 or by_columns else new.new_zeros(count, p, p)
    theta_bar = new.new_zeros(count, m, p)
    returned = new.new_empty(0) if adjoints is None else adjoints.clone()
    layer_bytes = max(depth, 1) * p * new.itemsize * (1 + accelerated)
    size = max(min(CHUNK, CHUNK_BYTES // layer_bytes), 1) if tops else 4 * CHUNK
    for first in range(0, n, size):
        rows = slice(first, first + size)
        part = problem.with_samples(observations=problem.observations[rows].detach().contiguous())
        products = part.adjoint(part.observations).mul_(step)
        products_bar = new.new_zeros(count, *products.shape)
        # Adjoints of codes and point for each depth, at the layer that has been reached.
        carried = new.new_zeros(count, 2, *products.shape)
        if given:
            carried.copy_(returned[:, :, rows])

        # Codes and points up to the first layer at which they are sparse, or the last; None for
        # those that nothing needs.
        z, y = (each[rows].detach().contiguous() for each in (state.codes, state.point))
        states: list[Any] = [(z, y)]
        for layer in range(depth + 1):
            if layer in kept:
                place = kept.index(layer)
                codes[place, rows], points[place, rows] = z, y
            # Counting takes a tenth of a layer's time.
            counted = layer < 16 or layer % 8 == 0
            if layer == depth or (counted and not is_dense(problem, y, from_zero=layer == 0)):
                break
            if not tops:
                states[-1] = None
            slope = (
                part.smooth_gradient(y).mul_(step)
                if thin or rounds
                else torch.addmm(products, y, gram(), beta=-1)
            )
            # Nothing is kept that only this layer needs: y becomes the values, then the point.
            y = torch.sub(y, slope, out=slope)
            after = rule(y, threshold, state.iteration + layer, problem.nonnegative)
            y = (
                torch.add(after, torch.sub(after, z, out=y), alpha=pulls[layer + 1], out=y)
                if accelerated
                else after
            )
            z = after
            states.append((z, y))

        if len(states) <= depth:
            number = gram().numpy().dtype.type
            tensors = {
                "gram": gram(),
                "products": products,
                "codes": codes,
                "points": points,
                "adjoints": carried,
                "gram_bar": gram_bar.movedim(0, 2),
                "products_bar": products_bar,
                "columns": columns if columnwise else nothing,
                "columns_bar": columns_bar[0] if columnwise else nothing,
            }
            program = compiled.Program(
                offset=len(states) - 1,
                thresholds=np.array(cutoffs, number),
                pulls=np.array(pulls, number),
                step=number(step),
                samples=number(n),
                l1_weight=number(penalty if lasso else 0),
                l2_weight=number(0 if lasso else -problem.l2_penalty),
                hard=isinstance(rule, Hard),
                nonnegative=problem.nonnegative,
                accelerated=accelerated,
                keep=np.array(kept, np.int64),
                first=first,
                tops=np.array(tops, np.int64),
                given=given,
                **{name: tensor.numpy() for name, tensor in tensors.items()},
            )
            compiled.run_layers(program, *(each.contiguous().numpy() for each in states[-1]))
            drifted |= rounds and bool(((codes[-1, rows] != 0).sum(1) > m).any())

        # Pull back through the dense layers, one depth after another, so that its adjoints stay in
        # the cache.
        for k, top in enumerate(tops):
            current, of_point = carried[k]
            if not given and top < len(states):
                # The mean over this part of the samples, as a part of that over all.
                current = unrolling.direct_gradients(part, states[top][0])[1] * (len(current) / n)
            last = min(top, len(states) - 1)
            current, before = current + (1 + pulls[last]) * of_point, -pulls[last] * of_point
            # From zero codes the derivative in G through the first layer is zero.
            warm = states[0][1].any()
            for t in range(last - 1, -1, -1):
                y, restricted = states[t][1], (current, states[t + 1][0], products_bar[k])
                compiled.restrict(*(each.numpy() for each in restricted))
                images = current @ columns if by_columns else current
                if (t or warm) and by_columns:
                    columns_bar[k].addmm_(current.T, y @ columns, alpha=-1)
                if t or warm:
                    (columns_bar if by_columns else dense_bar)[k].addmm_(y.T, images, alpha=-1)
                if t == 0 and not given:
                    break
                moved = (
                    torch.addmm(
                        current, images, columns.T, beta=1 - step * problem.l2_penalty, alpha=-step
                    )
                    if thin
                    else torch.addmm(current, current, gram(), alpha=-1)
                )
                if t == 0:
                    carried[k, 0], carried[k, 1] = before, moved
                elif accelerated:
                    current, before = before + (1 + pulls[t]) * moved, -pulls[t] * moved
                else:
                    current = moved
        theta_bar += part.observations.T @ products_bar
        if given:
            returned[:, :, rows] = carried
    if dense_bar is not gram_bar:
        gram_bar = dense_bar.add_(gram_bar)
    # eta D^T D depends on D through both factors.
    pairwise = columns_bar.mT
    if not columnwise and gram.cache_info().currsize:
        of_pairs = torch.from_numpy(problem.dictionary.numpy() @ (gram_bar + gram_bar.mT).numpy())
        pairwise = pairwise + of_pairs if thin else of_pairs
    through_gram, through_products = pairwise.mul_(step), theta_bar.mul_(step)
    magnitudes = norms(through_gram) + norms(through_products)
    kept_states = {0: state} if 0 in (*keep, depth) else {}
    kept_states |= {
        layer: State(z, y if accelerated else z, momenta[layer], state.iteration + layer)
        for layer, z, y in zip(kept, codes, points, strict=True)
    }
    gradients = through_gram.add_(through_products)
    return {} if drifted else kept_states, gradients, magnitudes.tolist(), returned


def _run_layers(
    problem: SparseCoding,
    algorithm: Algorithm,
    state: State,
    depth: int,
    keep: Collection[int],
    step: float,
) -> Any:
    if is_recorded(problem, state):
        return NotImplemented
    if type(algorithm) not in (ActiveSet, CoordinateDescent):
        if not apply(problem, algorithm, state, depth, 1):
            return NotImplemented
        return run_and_pull(problem, algorithm, state, depth, keep)[0] or NotImplemented
    if choice() == "torch" or not _computable(problem.observations, problem.matrix, state.codes):
        return NotImplemented
    from .compiled_solvers import descend, run_active_sets  # numba is slow to import

    solve = run_active_sets if type(algorithm) is ActiveSet else descend
    with single_thread():
        hessian, kept = problem.hessian, sorted({*keep, depth})
        codes = hessian.new_zeros(len(kept), *state.codes.shape)
        unfit = solve(
            hessian.numpy(),
            problem.adjoint(problem.observations).numpy(),
            (hessian.new_ones(len(hessian)) * problem.penalty).numpy(),
            problem.nonnegative,
            state.codes.contiguous().numpy(),
            np.array(kept),
            codes.numpy(),
        )
        if unfit.any():
            part = problem.with_samples(observations=problem.observations[unfit])
            first = state.mapped(lambda tensor: tensor[unfit])
            rest = run_layers.plain(part, algorithm, first, depth, kept, step)
            codes[:, unfit] = torch.stack([rest[layer].codes for layer in kept])
    return {
        layer: State(z, z, iteration=state.iteration + layer) if layer else state
        for layer, z in zip(kept, codes, strict=True)
    }


@torch.no_grad()
@single_thread()
def _direct_gradient(problem: SparseCoding, codes: Tensor) -> Any:
    """Return the mean of ``r z^T``, with r = D z - x."""
    return problem.residual(codes).T @ codes / len(codes) if is_plain(problem) else NotImplemented


@torch.no_grad()
@single_thread()
def _direct_gradients(problem: SparseCoding, codes: Tensor) -> Any:
    """Return as well the derivative in the codes: the mean of ``D^T r``; the lasso adds its
    penalties'.
    """
    if not is_plain(problem):
        return NotImplemented
    residual = problem.residual(codes)
    direct, code_gradient = residual.T @ codes / len(codes), residual @ problem.dictionary
    if problem.loss == "lasso":
        code_gradient.add_(codes.sign(), alpha=float(problem.penalty))
        code_gradient.add_(codes, alpha=problem.l2_penalty)
    return direct, code_gradient / len(codes)


def _full_gradients(
    problem: SparseCoding,
    algorithm: Algorithm,
    depths: Sequence[int],
    start: State | None = None,
) -> Any:
    """Yield gradient and codes at each depth: where the kernels lose digits, from them in double
    precision, if that helps, or by autograd.
    """
    state = start or algorithm.start(problem)
    if not apply(problem, algorithm, state, max(depths, default=0)):
        return NotImplemented
    dtype = problem.theta.dtype
    # The Gram matrices' derivatives of all depths fit the memory of one pass.
    size = max(1, LARGEST_PASS // problem.code_shape[1] ** 2)

    def evaluated(batch: Sequence[int]) -> Iterator[Evaluated]:
        missing = batch
        results: dict[int, Evaluated] = {}
        for fine, fine_state in _precisions(problem, state):
            tops = sorted(set(missing))
            states, gradients, magnitudes, _ = run_and_pull(
                fine, algorithm, fine_state, tops[-1], tops, tops
            )
            kept = zip(states.items(), gradients, magnitudes, strict=False)
            for (depth, at), through_codes, magnitude in kept:
                direct, slope = unrolling.direct_gradients(fine, at.codes)
                gradient = direct + through_codes
                # How much larger what cancels in the slope is than what is left of it.
                terms = float(fine.observations.norm() * fine.dictionary.norm()) / len(slope)
                left = float((slope * (at.codes != 0)).norm())
                rounding = magnitude * (terms / left if left else math.inf) if magnitude else 0.0
                if _keeps_digits(gradient, magnitude, dtype) and _keeps_digits(
                    gradient, rounding, dtype, LARGEST_ROUNDING
                ):
                    results[depth] = gradient.to(dtype), at.codes.to(dtype)
            missing = [depth for depth in batch if depth not in results]
            if not missing:
                break
        if missing:
            rest = unrolling.full_gradients.plain(problem, algorithm, missing, state)
            results |= zip(missing, rest, strict=True)
        return (results[depth] for depth in batch)

    batches = (depths[first : first + size] for first in range(0, len(depths), size))
    return itertools.chain.from_iterable(map(evaluated, batches))


def _pull_back(
    problem: SparseCoding,
    algorithm: Algorithm,
    state: State,
    layers: int,
    step: float,
    adjoints: Adjoints,
) -> Any:
    if not apply(problem, algorithm, state, layers):
        return NotImplemented
    codes_bar = adjoints.state["codes"]
    both = [codes_bar, adjoints.state.get("point", torch.zeros_like(codes_bar))]
    for fine, fine_state in _precisions(problem, state):
        top = torch.stack(both)[None].to(fine.theta.dtype)
        states, (through_layers,), (magnitude,), (pulled,) = run_and_pull(
            fine, algorithm, fine_state, layers, (), [layers], top
        )
        theta_bar = adjoints.theta + through_layers
        if states and _keeps_digits(theta_bar, magnitude, codes_bar.dtype):
            of_codes, of_point = pulled.to(codes_bar.dtype)
            back = {"codes": of_codes, "point": of_point}
            if state.point is state.codes:
                back = {"codes": of_codes + of_point}
            return Adjoints(theta_bar.to(codes_bar.dtype), back)
    return NotImplemented


def _keeps_digits(
    gradient: Tensor, magnitude: float, dtype: torch.dtype, largest: float = LARGEST_CANCELLATION
) -> bool:
    """Return whether terms with norms of the sum `magnitude`, of which a gradient is made, leave
    enough digits for a dtype.
    """
    norm = float(norms(gradient[None]))
    spare = torch.finfo(dtype).eps / torch.finfo(gradient.dtype).eps
    return math.isfinite(norm) and magnitude <= largest * spare * norm


def _precisions(problem: SparseCoding, state: State) -> Iterator[tuple[SparseCoding, State]]:
    """Yield a problem and a state of it as they are, then, from single precision, in double
    precision, with the same step.
    """
    yield problem, state
    if problem.theta.dtype == torch.float32:
        fine = problem.with_theta(problem.theta.double())
        fine = fine.with_samples(observations=problem.observations.double())
        yield fine, state.mapped(Tensor.double)


run_layers.faster[SparseCoding] = run_layers.faster[PenaltySelection] = _run_layers
unrolling.direct_gradient.faster[SparseCoding] = _direct_gradient
unrolling.direct_gradients.faster[SparseCoding] = _direct_gradients
unrolling.full_gradients.faster[SparseCoding] = _full_gradients
unrolling.pull_back.faster[SparseCoding] = _pull_back
