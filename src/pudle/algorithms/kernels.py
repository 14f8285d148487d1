"""Compiled layers and adjoints of sparse coding, and when they take the place of the torch path.

They compute what the torch path computes, up to rounding, in a time that falls with the number of
active code entries. They apply to the built-in problem, losses, algorithms and thresholding rules
themselves, on a CPU: anything else, a subclass included, takes the torch path. So does a gradient
whose terms cancel to more than `LARGEST_CANCELLATION`, for which the Gram matrix would lose digits,
and one that is not finite; in single precision the kernels first try again in double.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypeGuard

import torch
from torch import Tensor

from ..kernel_choice import choice
from ..problems import Problem, SparseCoding
from ..problems.l1 import LOSSES
from .gram_layers import Job, norms, run_and_pull
from .thresholding import Decaying, Hard, Soft

if TYPE_CHECKING:
    from .algorithm import Algorithm, State

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
    from .ista import Ista

    for dtype in {*dtypes, torch.float64}:
        one = torch.ones(1, 1, dtype=dtype)
        # A penalty that leaves the codes empty, and layers beyond those that are dense whatever the
        # codes.
        problem = SparseCoding(observations=one, dictionary=one, penalty=10)
        list(unrolled(problem, Ista(), Ista().start(problem), [8]))
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
    from .fista import Fista
    from .ista import Ista

    if not is_plain(problem) or type(algorithm) not in (Ista, Fista) or choice() == "torch":
        return False
    tensors, (features, atoms) = (
        [problem.observations, problem.theta, state.codes, state.point],
        problem.dictionary.shape,
    )
    return (
        atoms <= MOST_OVERCOMPLETE * features
        and type(algorithm.thresholding) in (Soft, Decaying, Hard)
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


class Pulled(NamedTuple):
    """Derivatives in theta through some layers."""

    through_codes: Tensor
    #: Sum of the norms of the terms that `through_codes` is made of.
    magnitude: float

    def keeps_digits_of(self, gradient: Tensor, dtype: torch.dtype) -> bool:
        """Return whether the terms leave enough digits for a dtype in the gradient of which this is
        a part.
        """
        norm, spare = (
            float(norms(gradient[None])),
            torch.finfo(dtype).eps / torch.finfo(gradient.dtype).eps,
        )
        return math.isfinite(norm) and self.magnitude <= LARGEST_CANCELLATION * spare * norm


def run(
    problem: Any, algorithm: Algorithm, state: State, depth: int, keep: Collection[int]
) -> dict[int, State]:
    """Run `depth` layers from a state; return the states after the layers in `keep`, counted from
    there, and the last.
    """
    return run_and_pull(problem, algorithm, state, depth, keep).states


def unrolled(
    problem: Any,
    algorithm: Algorithm,
    state: State,
    depths: Sequence[int],
    window: int | None = None,
) -> Iterator[tuple[Tensor, Pulled]]:
    """Yield the codes at each depth, and the derivative through the last `window` layers, or
    through all from `state`.
    """
    for batch in _batches(problem, depths):
        jobs = [
            Job(depth, 0 if window is None else max(depth - window, 0), index)
            for index, depth in enumerate(batch)
        ]
        result = run_and_pull(problem, algorithm, state, max(batch), batch, jobs)
        for depth, gradient, magnitude in zip(
            batch, result.gradients, result.magnitudes, strict=True
        ):
            yield result.states[depth].codes, Pulled(gradient, magnitude)


def windows(
    problem: Any, algorithm: Algorithm, state: State, depth: int, lengths: Sequence[int]
) -> Iterator[tuple[Tensor, Pulled]]:
    """Yield the codes at `depth` and the derivative through the last layers, for each of the
    ascending numbers of layers.
    """
    for batch in _batches(problem, lengths):
        bounds = [depth, *(depth - length for length in batch)]
        result = run_and_pull(
            problem,
            algorithm,
            state,
            depth,
            (),
            [Job(*pair, 0) for pair in itertools.pairwise(bounds)],
        )
        magnitudes = itertools.accumulate(result.magnitudes)
        for parts in zip(result.gradients.cumsum(0), magnitudes, strict=True):
            yield result.states[depth].codes, Pulled(*parts)


def pull_back(
    problem: Any, algorithm: Algorithm, state: State, layers: int, adjoints: Tensor
) -> tuple[Pulled, Tensor]:
    """Carry adjoints of codes and point, shape (2, n, p), back over `layers` layers that follow a
    state.

    They are returned on the support of the state alone: the layer that made it lets nothing else
    through.
    """
    result = run_and_pull(
        problem, algorithm, state, layers, (), [Job(layers, 0, 0)], adjoints[None]
    )
    return Pulled(result.gradients[0], result.magnitudes[0]), result.adjoints[0]


def _batches(problem: Any, numbers: Sequence[int]) -> Iterator[Sequence[int]]:
    """Cut depths or windows into batches whose Gram matrices' derivatives fit the memory of one
    pass.
    """
    size = max(1, LARGEST_PASS // problem.code_shape[1] ** 2)
    return (numbers[first : first + size] for first in range(0, len(numbers), size))
