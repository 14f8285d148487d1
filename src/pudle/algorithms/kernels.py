"""Compiled layers and adjoints of sparse coding, registered as faster ways of what `run_layers` and
`unrolling` do.

They compute what the torch path computes, up to rounding, in a time that falls with the number of
active code entries. They apply to the built-in problem, losses, algorithms and thresholding rules
themselves, on a CPU: anything else, a subclass included, takes the torch path. So do FISTA's
samples that restart on their own, and a gradient whose terms cancel to more than
`LARGEST_CANCELLATION`, for which the Gram matrix would lose digits, or that is not finite; in
single precision the kernels first try again in double.
"""

import itertools
import math
from collections.abc import Collection, Iterator, Sequence
from typing import Any, TypeGuard

import torch
from torch import Tensor

from ..kernel_choice import choice
from ..problems import Problem, SparseCoding
from ..problems.l1 import LOSSES
from . import gram_layers, unrolling
from .algorithm import Algorithm, State, run_layers
from .fista import Fista
from .gram_layers import Job, norms, run_and_pull
from .ista import Ista
from .thresholding import Decaying, Hard, Soft
from .unrolling import Adjoints, Evaluated, check_depths

#: Largest number of entries of the Gram matrices' derivatives that one pass over the samples
#: accumulates.
LARGEST_PASS = 1 << 20
#: Largest ratio between the norms of a gradient's terms and that of their sum, the gradient.
LARGEST_CANCELLATION = 100.0
#: Largest number of atoms for each feature: the Gram matrix of more takes longer than products with
#: the dictionary.
MOST_OVERCOMPLETE = 8
_BUILT_IN_LOSSES = dict(LOSSES)


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
        list(unrolling.unrolled_gradients(problem, Ista(), [8]))
        problem.solve_active(one, one)


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


def apply(problem: Problem, algorithm: Algorithm, state: State) -> bool:
    """Return whether the kernels take the place of the torch path here."""
    if not is_plain(problem) or type(algorithm) not in (Ista, Fista) or choice() == "torch":
        return False
    tensors = [problem.observations, problem.theta, state.codes, state.point]
    features, atoms = problem.dictionary.shape
    return (
        atoms <= MOST_OVERCOMPLETE * features
        and type(algorithm.thresholding) in (Soft, Decaying, Hard)
        and not isinstance(state.momentum, Tensor)
        and problem.theta.dtype in (torch.float32, torch.float64)
        and not any(tensor.device.type != "cpu" or _is_wrapped(tensor) for tensor in tensors)
        # Zero times what is not finite is NaN, and no kernel multiplies zeros.
        and all(bool(tensor.detach().sum().isfinite()) for tensor in tensors[1:])
    )


def _is_wrapped(tensor: Tensor) -> bool:
    """Return whether a transformation such as vmap or forward-mode differentiation is at work on a
    tensor.
    """
    functorch, forward = torch._C._functorch, torch.autograd.forward_ad
    return (
        functorch.is_functorch_wrapped_tensor(tensor)
        or forward.unpack_dual(tensor).tangent is not None
    )


@run_layers.register(SparseCoding)
def _run_layers(
    problem: SparseCoding,
    algorithm: Algorithm,
    state: State,
    depth: int,
    keep: Collection[int],
    step: float,
) -> Any:
    tensors = [each for each in (state.codes, *vars(problem).values()) if isinstance(each, Tensor)]
    recorded = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in tensors)
    if recorded or not apply(problem, algorithm, state):
        return NotImplemented
    return run_and_pull(problem, algorithm, state, depth, keep).states


@unrolling.direct_gradient.register(SparseCoding)
def _direct_gradient(problem: SparseCoding, codes: Tensor) -> Any:
    return gram_layers.direct_gradient(problem, codes) if is_plain(problem) else NotImplemented


@unrolling.direct_gradients.register(SparseCoding)
def _direct_gradients(problem: SparseCoding, codes: Tensor) -> Any:
    return gram_layers.direct_gradients(problem, codes) if is_plain(problem) else NotImplemented


@unrolling.unrolled_gradients.register(SparseCoding)
def _unrolled_gradients(
    problem: SparseCoding,
    algorithm: Algorithm,
    depths: Sequence[int],
    window: int | None = None,
    start: State | None = None,
) -> Any:
    state = start or algorithm.start(problem)
    if not apply(problem, algorithm, state):
        return NotImplemented
    return _evaluated(problem, algorithm, state, check_depths(depths), window)


@unrolling.pull_back.register(SparseCoding)
def _pull_back(
    problem: SparseCoding,
    algorithm: Algorithm,
    state: State,
    layers: int,
    step: float,
    adjoints: Adjoints,
) -> Any:
    if not apply(problem, algorithm, state):
        return NotImplemented
    codes_bar = adjoints.state["codes"]
    both = [codes_bar, adjoints.state.get("point", torch.zeros_like(codes_bar))]
    for fine, fine_state in itertools.chain([(problem, state)], _in_double(problem, state)):
        top = torch.stack(both)[None].to(fine.theta.dtype)
        pulled = run_and_pull(fine, algorithm, fine_state, layers, (), [Job(layers, 0)], top)
        theta_bar = adjoints.theta + pulled.gradients[0]
        if _keeps_digits(theta_bar, pulled.magnitudes[0], codes_bar.dtype):
            of_codes, of_point = pulled.adjoints[0].to(codes_bar.dtype)
            back = {"codes": of_codes, "point": of_point}
            if state.point is state.codes:
                back = {"codes": of_codes + of_point}
            return Adjoints(theta_bar.to(codes_bar.dtype), back)
    return NotImplemented


def _evaluated(
    problem: SparseCoding,
    algorithm: Algorithm,
    state: State,
    depths: Sequence[int],
    window: int | None,
) -> Iterator[Evaluated]:
    """Yield gradient and codes at each depth: where the kernels lose digits, from them in double
    precision, if that helps, or by autograd.
    """
    results = _from_kernels(problem, algorithm, state, depths, window, problem.theta.dtype)
    for depth, result in zip(depths, results, strict=True):
        if result is None:
            layers = depth if window is None else min(window, depth)
            states = run_and_pull(problem, algorithm, state, depth - layers).states
            entry = states[depth - layers]
            for fine, fine_entry in _in_double(problem, entry):
                dtype = problem.theta.dtype
                result = next(_from_kernels(fine, algorithm, fine_entry, [layers], None, dtype))
            recorded = unrolling.unrolled_gradients.plain
            result = result or next(recorded(problem, algorithm, [layers], None, entry))
        yield result


def _from_kernels(
    problem: SparseCoding,
    algorithm: Algorithm,
    state: State,
    depths: Sequence[int],
    window: int | None,
    dtype: torch.dtype,
) -> Iterator[Evaluated | None]:
    """Yield gradient and codes at each depth, or None where too few digits for a dtype are left, in
    batches whose Gram matrices' derivatives fit the memory of one pass.
    """
    size = max(1, LARGEST_PASS // problem.code_shape[1] ** 2)
    for first in range(0, len(depths), size):
        batch = depths[first : first + size]
        jobs = [Job(depth, 0 if window is None else max(depth - window, 0)) for depth in batch]
        result = run_and_pull(problem, algorithm, state, max(batch), batch, jobs)
        for depth, through_codes, magnitude in zip(
            batch, result.gradients, result.magnitudes, strict=True
        ):
            codes = result.states[depth].codes
            gradient = unrolling.direct_gradient(problem, codes) + through_codes
            kept = _keeps_digits(gradient, magnitude, dtype)
            yield (gradient.to(dtype), codes.to(dtype)) if kept else None


def _keeps_digits(gradient: Tensor, magnitude: float, dtype: torch.dtype) -> bool:
    """Return whether terms with norms of the sum `magnitude`, of which a gradient is made, leave
    enough digits for a dtype.
    """
    norm = float(norms(gradient[None]))
    spare = torch.finfo(dtype).eps / torch.finfo(gradient.dtype).eps
    return math.isfinite(norm) and magnitude <= LARGEST_CANCELLATION * spare * norm


def _in_double(problem: SparseCoding, state: State) -> Iterator[tuple[SparseCoding, State]]:
    """Yield a problem in single precision and a state of it in double precision, with the same
    step.
    """
    if problem.theta.dtype == torch.float32:
        fine = problem.with_theta(problem.theta.double())
        fine = fine.with_samples(observations=problem.observations.double())
        yield fine, state.mapped(Tensor.double)
