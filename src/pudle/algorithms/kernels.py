"""Compiled layers and adjoints of sparse coding, registered as faster ways of what `run_layers` and
`unrolling` do.

They compute what the torch path computes, up to rounding, in a time that falls with the number of
active code entries. They apply to the built-in problem, losses, algorithms and thresholding rules
themselves, on a CPU: anything else, a subclass included, takes the torch path. So do FISTA's
samples that restart on their own, work that is less than a call of the kernels is worth, and a
gradient whose terms cancel to more than `LARGEST_CANCELLATION`, for which the Gram matrix would
lose digits, or that is not finite; in single precision the kernels first try again in double.
"""

import itertools
import math
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import TypeGuard

import numpy as np
import torch
from torch import Tensor

from ..kernel_choice import chosen_path
from ..problems import PenaltySelection, Problem, SparseCoding
from ..problems.l1 import DenseL1Problem
from ..threads import BLOCK, blocks_of, run_blocks, single_thread
from . import unrolling
from .algorithm import Algorithm, State, is_recorded, is_wrapped, run_layers
from .ista import Fista, Ista
from .passes import CHUNK, SHARE_OF_ATOMS, Pass, is_dense, norms
from .stepless import ActiveSet, CoordinateDescent, SolverState
from .thresholding import Decaying, Hard, Soft
from .unrolling import Adjoints, GradientAndCodes

#: Largest number of entries of the Gram matrices' derivatives that one pass over the samples
#: accumulates.
LARGEST_PASS = 1 << 20
#: Largest ratio between the norms of a gradient's terms and that of their sum, the gradient.
LARGEST_CANCELLATION = 100.0
#: Largest ratio of the same kind for the loss's derivative in the codes, times that of its gradient
#: through the layers: the rounding of its terms may grow on the way through them. Where a gradient
#: is mostly rounding, its own norm makes the ratio smaller than it is: of 1e5 and more in single
#: precision, gradients were seen that are 100 times too large.
LARGEST_ROUNDING = {torch.float64: 1e6, torch.float32: 1e4}
#: Work is counted in products of a code entry with a dictionary entry. Least work that the kernels
#: must save to be called, what a layer of the torch path costs however small it is, and what one
#: sample's layer costs the kernels, per byte of a number.
LEAST_WORK, LAYER_WORK, SAMPLE_WORK = 2.5e7, 1.5e5, 8e3
#: Work of a layer and its adjoint as a multiple of that of a layer alone: on the torch path, and of
#: one sample by the kernels.
WITH_ADJOINT, SAMPLE_WITH_ADJOINT = 10, 3.5
#: Number of first layers that are dense whatever the codes.
DENSE_LAYERS = 4


def prepare(dtypes: Collection[torch.dtype] = (torch.float32,)) -> None:
    """Compile the kernels for some dtypes, or load them from numba's cache, so that nothing
    measured later pays for it; nothing on the torch path, see `chosen_path`.

    Double precision is always among them: where terms cancel, it takes the place of single
    precision.
    """
    if chosen_path() == "torch":
        return
    for dtype in {*dtypes, torch.float64}:
        ones = torch.ones(1, 1, dtype=dtype)
        # A penalty that leaves the codes empty, and layers beyond those that are dense whatever the
        # codes.
        problem = SparseCoding(observations=ones, dictionary=ones, penalty=10)
        Pass(problem, Ista(), Ista().start(problem), 8, (), [8]).run()
        problem.solve_active(ones, ones)
        ActiveSet().run(problem, 1)
        CoordinateDescent().run(problem, 1)


def is_plain(problem: Problem) -> TypeGuard[SparseCoding]:
    """Tell whether a problem is sparse coding with one penalty for all atoms and one of this
    package's own losses.
    """
    return (
        type(problem) is SparseCoding
        and isinstance(problem.penalty, float)
        and isinstance(problem.loss, str)
    )


def kernels_apply(
    problem: Problem, algorithm: Algorithm, state: State, layers: int, work: float = WITH_ADJOINT
) -> TypeGuard[SparseCoding]:
    """Tell whether the kernels take the place of the torch path for some layers from a state, each
    of which is `work` times that of a layer alone: 1, or `WITH_ADJOINT` where it is pulled back.

    They do if problem and algorithm are this package's own, all tensors are finite, of float32 or
    float64 and on a CPU, `PUDLE_KERNELS` is not ``torch``, the codes are not dense, and there is
    enough work. The state itself is not changed; for a hard rule and many atoms one layer is run to
    see whether codes stay dense.
    """
    n_samples, n_atoms = problem.code_shape
    n_entries = problem.theta.numel()
    # A layer of the torch path is products of codes and dictionary, whatever is zero in them; one
    # of the kernels takes a time per sample.
    sample_work = SAMPLE_WORK * (SAMPLE_WITH_ADJOINT if work > 1 else 1) / problem.theta.itemsize
    saved_by_layer = n_samples * (work * n_entries - sample_work) + work * LAYER_WORK
    # They must save what a call costs, and the Gram matrix, which the torch path does without.
    least_saved = LEAST_WORK + 2 * n_atoms * n_entries
    if layers * saved_by_layer < least_saved or not _is_known(problem, algorithm, state):
        return False
    if not _are_computable(problem.observations, problem.theta, state.codes, state.point):
        return False
    # Dense layers save nothing: from a dense point only later ones count.
    if (layers - DENSE_LAYERS) * saved_by_layer < least_saved and is_dense(
        problem, state.point, from_zero=True
    ):
        return False
    # Back through a dense layer of many atoms are five products, on the torch path four; and what a
    # hard rule keeps in one layer it keeps in the next ones.
    few_atoms = n_atoms <= 2 * len(problem.dictionary)
    if work <= 1 or few_atoms or not isinstance(algorithm.thresholding, Hard):
        return True
    return not is_dense(problem, algorithm.run(problem, 1, initial=state.point).codes, False)


def _is_known(problem: Problem, algorithm: Algorithm, state: State) -> TypeGuard[SparseCoding]:
    """Tell whether problem, algorithm and rule are this package's own (ISTA and FISTA with a soft,
    decaying or hard rule), all samples have one momentum, and the kernels are not turned off.
    """
    return (
        is_plain(problem)
        and type(algorithm) in (Ista, Fista)
        and type(algorithm.thresholding) in (Soft, Decaying, Hard)
        and not isinstance(state.momentum, Tensor)
        and chosen_path() != "torch"
    )


def _are_computable(*tensors: Tensor) -> bool:
    """Tell whether the kernels can compute with tensors: all are finite, of float32 or float64, on
    a CPU, and no transformation of torch is at work on them.
    """
    return all(
        tensor.dtype in (torch.float32, torch.float64)
        and tensor.device.type == "cpu"
        and not is_wrapped(tensor)
        # Zero times what is not finite is NaN, and no kernel multiplies zeros.
        and tensor.detach().sum().isfinite()
        for tensor in tensors
    )


@single_thread()
def _run_layers(
    problem: DenseL1Problem,
    algorithm: Algorithm,
    state: State,
    depth: int,
    keep: Collection[int],
    step: float,
) -> dict[int, State] | None:
    """Run layers by the kernels, or a solver's steps; return the states to keep and the last, or
    None where the torch path is to run.

    That is where torch records, where the kernels do not apply, and where rounding has grown in
    single precision.
    """
    if is_recorded(problem, state):
        return None
    if type(algorithm) in (ActiveSet, CoordinateDescent):
        return _solve(problem, algorithm, state, depth, keep, step)
    if not kernels_apply(problem, algorithm, state, depth, 1):
        return None
    return Pass(problem, algorithm, state, depth, keep).run().states or None


def _solve(
    problem: DenseL1Problem,
    algorithm: Algorithm,
    state: State,
    depth: int,
    keep: Collection[int],
    step: float,
) -> dict[int, State] | None:
    """Run a solver's steps by compiled code, and those of samples that come to dependent atoms on
    the torch path; return the states to keep and the last, or None where the kernels cannot
    compute.
    """
    if chosen_path() == "torch" or not _are_computable(
        problem.observations, problem.matrix, state.codes
    ):
        return None
    from . import compiled_solvers  # numba is slow to import

    hessian, kept_layers = problem.hessian, sorted({*keep, depth})
    n, p = state.codes.shape
    codes = hessian.new_zeros(len(kept_layers), n, p)
    solved = torch.zeros(codes.shape[:2], dtype=torch.bool)
    systems = compiled_solvers.Systems(
        hessian=hessian.numpy(),
        products=hessian.new_empty(0, p).numpy(),
        penalties=(hessian.new_ones(p) * problem.penalty).numpy(),
        nonnegative=problem.nonnegative,
        start=state.codes.contiguous().numpy(),
        keep=np.array(kept_layers),
        codes=codes.numpy(),
        solved=solved.numpy(),
        first=0,
    )
    active = type(algorithm) is ActiveSet
    run = compiled_solvers.run_active_sets if active else compiled_solvers.descend

    def solve(rows: slice) -> None:
        """Solve some samples, and write their codes, and which are solved, to the results of
        all.
        """
        observations = problem.observations[rows]
        products = problem.adjoint(observations).numpy()
        dependent = (
            rows.start + run(systems._replace(products=products, first=rows.start)).nonzero()[0]
        )
        if len(dependent):
            part = problem.with_samples(observations=problem.observations[dependent])
            start_states = state.mapped(lambda tensor: tensor[dependent])
            torch_states = run_layers.plain(part, algorithm, start_states, depth, kept_layers, step)
            codes[:, dependent] = torch.stack([torch_states[layer].codes for layer in kept_layers])
            solved[:, dependent] = False

    # A step costs a few products of an atom with all others; few steps are the rule.
    run_blocks(solve, blocks_of(n, CHUNK), SHARE_OF_ATOMS * n * p * p)
    return {
        layer: SolverState(z, z, iteration=state.iteration + layer, solved=solved_samples)
        if layer
        else state
        for layer, z, solved_samples in zip(
            kept_layers, codes.unbind(), solved.unbind(), strict=True
        )
    }


def sum_over_blocks(
    function: Callable[..., Tensor], problem: DenseL1Problem, *rows: Tensor
) -> Tensor:
    """Return the sum of a function of a problem and of tensors with a row for each sample, over
    blocks of samples, in threads.

    The function gets a problem of a block's samples and these rows, which it may write to. Blocks
    are added in their order; on a GPU, and under a transformation of torch, there is one.
    """
    sums: list[Tensor] = []

    def compute(block: slice) -> Tensor:
        fields = problem.sample_fields().items()
        block_fields = {name: value[block] for name, value in fields}
        return function(problem.with_samples(**block_fields), *(tensor[block] for tensor in rows))

    def add(block_sum: Tensor) -> None:
        if sums:
            sums[0].add_(block_sum)
        else:
            sums.append(block_sum)

    samples, tensors = len(rows[0]), (problem.theta, problem.observations, *rows)
    # Transformations of torch belong to a thread, and a GPU needs no others.
    can_split = all(tensor.device.type == "cpu" and not is_wrapped(tensor) for tensor in tensors)
    if samples <= BLOCK or not can_split:
        # A sweep takes hundreds of such sums: threads and a copy of the problem would cost as much.
        return function(problem, *rows)
    work = 3.0 * samples * problem.matrix.numel()
    run_blocks(compute, blocks_of(samples), work, add)
    return sums[0]


def _has_package_loss(problem: DenseL1Problem) -> bool:
    """Tell whether the outer loss is a mean over samples that this package brings."""
    return isinstance(problem, PenaltySelection | SparseCoding) and isinstance(problem.loss, str)


@torch.no_grad()
@single_thread()
def _direct_gradient(problem: SparseCoding, codes: Tensor) -> Tensor | None:
    """Return ``partial_theta loss``: for sparse coding with a loss of this package the mean of ``r
    z^T``, with r = D z - x; None for a loss of others.
    """
    if not is_plain(problem):
        gradients = _direct_gradients(problem, codes)
        return gradients and gradients[0]
    total = sum_over_blocks(
        lambda block, block_codes: block.residual(block_codes).T @ block_codes, problem, codes
    )
    return total / len(codes)


@torch.no_grad()
@single_thread()
def _direct_gradients(problem: SparseCoding, codes: Tensor) -> tuple[Tensor, Tensor] | None:
    """Return ``partial_theta loss`` and the derivative in the codes: the mean of ``D^T r``, and for
    the lasso loss those of its penalties in addition.

    None for a loss that is not of this package; problems that are not plain have the same from
    autograd.
    """
    if not is_plain(problem):
        return _recorded_gradients(problem, codes)
    code_gradient = torch.empty_like(codes)

    def direct(block: SparseCoding, block_codes: Tensor, slope: Tensor) -> Tensor:
        """Return a block's share of the gradient, and write its derivative in the codes to
        `slope`.
        """
        residual = block.residual(block_codes)
        torch.mm(residual, block.dictionary, out=slope)
        if block.loss == "lasso":
            slope.add_(block_codes.sign(), alpha=float(block.penalty))
            slope.add_(block_codes, alpha=block.l2_penalty)
        slope.div_(len(codes))
        return residual.T @ block_codes

    return sum_over_blocks(direct, problem, codes, code_gradient) / len(codes), code_gradient


@single_thread()
def _recorded_gradients(problem: DenseL1Problem, codes: Tensor) -> tuple[Tensor, Tensor] | None:
    """Return ``partial_theta loss`` and ``partial_z loss`` as autograd has them, block by block;
    None for a loss that is not of this package.
    """
    if not _has_package_loss(problem):
        return None
    code_gradient = torch.empty_like(codes)

    def direct(block: DenseL1Problem, block_codes: Tensor, slope: Tensor) -> Tensor:
        """Return a block's share of the gradient, and write its derivative in the codes to
        `slope`.
        """
        share = len(block_codes) / len(codes)
        gradient, block_slope = unrolling.direct_gradients.plain(block, block_codes)
        torch.mul(block_slope, share, out=slope)
        return gradient * share

    return sum_over_blocks(direct, problem, codes, code_gradient), code_gradient


@single_thread()
def _through_minimizer(problem: DenseL1Problem, codes: Tensor, solution: Tensor) -> Tensor:
    return sum_over_blocks(unrolling.through_minimizer.plain, problem, codes, solution)


@single_thread()
def _full_gradients(
    problem: SparseCoding,
    algorithm: Algorithm,
    depths: Sequence[int],
    start: State | None = None,
) -> Iterator[GradientAndCodes] | None:
    """Yield gradient and codes at each depth: where the kernels lose digits, from them in double
    precision, if that helps, or by autograd. Return None where the kernels do not apply.

    `start` is the state to begin from; by default the algorithm's own.
    """
    state = start or algorithm.start(problem)
    if not kernels_apply(problem, algorithm, state, max(depths, default=0)):
        return None
    # The Gram matrices' derivatives of all depths fit the memory of one pass.
    size = max(1, LARGEST_PASS // problem.code_shape[1] ** 2)
    batches = (depths[first : first + size] for first in range(0, len(depths), size))
    return itertools.chain.from_iterable(
        _evaluate_batch(problem, algorithm, state, batch) for batch in batches
    )


@single_thread()
def _evaluate_batch(
    problem: SparseCoding, algorithm: Algorithm, state: State, depths: Sequence[int]
) -> list[GradientAndCodes]:
    """Return gradient and codes at some depths from a state: by the kernels, again in double
    precision where they lose digits, and by autograd where they lose them all the same.
    """
    results: dict[int, GradientAndCodes] = {}
    missing = depths
    for fine, fine_state in _precisions(problem, state):
        results |= _accurate_gradients(fine, algorithm, fine_state, missing, problem.theta.dtype)
        missing = [depth for depth in depths if depth not in results]
        if not missing:
            break
    if missing:
        autograd_results = unrolling.full_gradients.plain(problem, algorithm, missing, state)
        results |= zip(missing, autograd_results, strict=True)
    return [results[depth] for depth in depths]


def _accurate_gradients(
    problem: SparseCoding,
    algorithm: Algorithm,
    state: State,
    depths: Sequence[int],
    dtype: torch.dtype,
) -> dict[int, GradientAndCodes]:
    """Return gradient and codes, in a dtype, at those of some depths at which the kernels keep
    enough digits for that dtype.

    The gradient is ``g = partial_theta loss + J^T s`` with the slope ``s = partial_z loss`` at the
    codes. It loses digits in two ways. The two terms M of ``J^T s`` may cancel: then ``|M| / |g|``
    is large. And the terms of s cancel at good codes; they are about ``t = |X| |D| / n`` in size,
    and their rounding goes through the layers as s does: then ``|M| t / (|s_S| |g|)`` is large, S
    being the support. See `_keeps_digits`.
    """
    tops = sorted(set(depths))
    states, gradients, magnitudes, _ = Pass(problem, algorithm, state, tops[-1], tops, tops).run()
    accurate: dict[int, GradientAndCodes] = {}
    slope_terms = float(problem.observations.norm() * problem.dictionary.norm())
    slope_terms /= len(problem.observations)
    # There are no states where rounding has grown from layer to layer: then nothing is accurate.
    for (depth, state_at_depth), through_codes, magnitude in zip(
        states.items(), gradients.unbind(), magnitudes, strict=False
    ):
        codes = state_at_depth.codes
        direct, slope = unrolling.direct_gradients(problem, codes)
        gradient = direct + through_codes
        slope_size = float((slope * (codes != 0)).norm())
        slope_cancellation = slope_terms / slope_size if slope_size else math.inf
        rounding = magnitude * slope_cancellation if magnitude else 0.0
        if _keeps_digits(gradient, magnitude, dtype) and _keeps_digits(
            gradient, rounding, dtype, LARGEST_ROUNDING[gradient.dtype]
        ):
            accurate[depth] = gradient.to(dtype), codes.to(dtype)
    return accurate


@single_thread()
def _pull_back(
    problem: SparseCoding,
    algorithm: Algorithm,
    state: State,
    layers: int,
    step: float,
    adjoints: Adjoints,
) -> Adjoints | None:
    """Carry adjoints back over some layers by the kernels, in double precision where single loses
    digits; None where they do not apply or lose digits all the same.
    """
    if not kernels_apply(problem, algorithm, state, layers):
        return None
    codes_bar = adjoints.state["codes"]
    adjoint_pair = [codes_bar, adjoints.state.get("point", torch.zeros_like(codes_bar))]
    for fine, fine_state in _precisions(problem, state):
        top = torch.stack(adjoint_pair)[None].to(fine.theta.dtype)
        layer_pass = Pass(fine, algorithm, fine_state, layers, (), [layers], top)
        states, gradients, (magnitude,), pulled = layer_pass.run()
        theta_bar = adjoints.theta + gradients[0]
        if states and _keeps_digits(theta_bar, magnitude, codes_bar.dtype):
            of_codes, of_point = pulled[0].to(codes_bar.dtype).unbind()
            back = {"codes": of_codes, "point": of_point}
            if state.point is state.codes:
                back = {"codes": of_codes + of_point}
            return Adjoints(theta_bar.to(codes_bar.dtype), back)
    return None


def _keeps_digits(
    gradient: Tensor, magnitude: float, dtype: torch.dtype, largest: float = LARGEST_CANCELLATION
) -> bool:
    """Tell whether a gradient is finite and keeps enough digits for a dtype, although its terms may
    cancel.

    `magnitude` is the sum of the norms of its terms. It may be `largest` times the gradient's norm,
    and more where the gradient was computed in a finer dtype than the one asked for.
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
unrolling.direct_gradients.faster[PenaltySelection] = _recorded_gradients
unrolling.through_minimizer.faster[SparseCoding] = _through_minimizer
unrolling.through_minimizer.faster[PenaltySelection] = _through_minimizer
unrolling.full_gradients.faster[SparseCoding] = _full_gradients
unrolling.pull_back.faster[SparseCoding] = _pull_back
