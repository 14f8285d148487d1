"""Compiled layers and adjoints of sparse coding, and when they take the place of the torch path.

They compute what the torch path computes, up to rounding, in a time that falls with the number of active code entries. They
apply to the built-in problem, losses, algorithms and thresholding rules themselves, on a CPU: anything else, a subclass
included, takes the torch path. So does a gradient whose terms cancel to more than `LARGEST_CANCELLATION`, for which the
Gram matrix would lose digits, and one that is not finite.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import itertools
import math
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..errors import InvalidArgument
from ..problems import Problem, SparseCoding
from ..problems.l1 import LOSSES
from .thresholding import Decaying, Hard, Soft

if TYPE_CHECKING:
    from .algorithm import Algorithm, State

#: Name of the environment variable that chooses, and what it may be.
VARIABLE, CHOICES = "PUDLE_KERNELS", ("numba", "torch")
#: Number of samples that are treated together; sums over samples are in the order of these chunks.
CHUNK = 250
#: Largest number of entries of the Gram matrices' derivatives that one pass over the samples accumulates.
LARGEST_PASS = 1 << 23
#: Largest ratio between the norms of a gradient's terms and that of their sum, the gradient.
LARGEST_CANCELLATION = 100.0
_BUILT_IN_LOSSES = dict(LOSSES)


def choice() -> str:
    """Return which path sparse coding takes, ``numba`` or ``torch``: the environment variable PUDLE_KERNELS, if it is set.

    Raises
    ------
    InvalidArgument
        If the variable is set to anything else.
    """
    chosen = os.environ.get(VARIABLE) or ("numba" if importlib.util.find_spec("numba") else "torch")
    if chosen not in CHOICES:
        raise InvalidArgument(f"the environment variable {VARIABLE}={chosen!r} is unknown: set it to numba or torch")
    return chosen


def description() -> str:
    """Return the choice with its version, such as ``numba 0.61.0``."""
    return f"numba {importlib.metadata.version('numba')}" if choice() == "numba" else "torch"


def prepare() -> None:
    """Compile the kernels, or load them from numba's cache, so that nothing measured later pays for it."""
    if choice() == "torch":
        return
    from .ista import Ista

    for dtype in (torch.float32, torch.float64):
        problem = SparseCoding(
            observations=torch.ones(1, 1, dtype=dtype), dictionary=torch.ones(1, 1, dtype=dtype), penalty=0.1
        )
        Ista().run(problem, 1)


def is_plain(problem: Problem) -> bool:
    """Return whether a problem is sparse coding as this package defines it, with one of its own losses."""
    return type(problem) is SparseCoding and LOSSES.get(problem.loss) is _BUILT_IN_LOSSES.get(problem.loss)


def apply(problem: Problem, algorithm: Algorithm, state: State) -> bool:
    """Return whether the kernels take the place of the torch path here."""
    from .fista import Fista
    from .ista import Ista

    if not (is_plain(problem) and type(algorithm) in (Ista, Fista) and choice() == "numba"):
        return False
    tensors = [problem.observations, problem.theta, state.codes, state.point]
    return (
        type(algorithm.thresholding) in (Soft, Decaying, Hard)
        and problem.theta.dtype in (torch.float32, torch.float64)
        and not any(tensor.device.type != "cpu" or _is_wrapped(tensor) for tensor in tensors)
    )


def _is_wrapped(tensor: Tensor) -> bool:
    """Return whether a transformation such as vmap or forward-mode differentiation is at work on a tensor."""
    functorch, forward = torch._C._functorch, torch.autograd.forward_ad
    return functorch.is_functorch_wrapped_tensor(tensor) or forward.unpack_dual(tensor).tangent is not None


@cache
def _run_layers() -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    from .compiled import run_layers

    return run_layers


class Job(NamedTuple):
    """A pull-back from layer `top` to layer `bottom`; the first of a chain starts from the loss, others from its end."""

    top: int
    bottom: int
    chain: int


class Pulled(NamedTuple):
    """Derivatives in theta through the layers of one job."""

    through_codes: Tensor
    #: Sum of the norms of the two terms that `through_codes` is made of.
    magnitude: float

    def keeps_digits_of(self, gradient: Tensor) -> bool:
        """Return whether the terms leave enough digits in the gradient of which this is a part."""
        norm = float(torch.linalg.norm(gradient))
        return math.isfinite(norm) and self.magnitude <= LARGEST_CANCELLATION * norm


def run(problem: Problem, algorithm: Algorithm, state: State, depth: int, keep: Collection[int]) -> dict[int, State]:
    """Run `depth` layers from a state; return the states after the layers in `keep`, counted from there, and the last."""
    return _layers(problem, algorithm, state, depth, keep)[0]


def unrolled(
    problem: Problem, algorithm: Algorithm, state: State, depths: Sequence[int], window: int | None = None
) -> Iterator[tuple[Tensor, Pulled]]:
    """Yield the codes at each depth, and the derivative through the last `window` layers, or through all from `state`."""
    for batch in _batches(problem, depths):
        jobs = [Job(depth, 0 if window is None else max(depth - window, 0), index) for index, depth in enumerate(batch)]
        states, pulled, _ = _layers(problem, algorithm, state, max(batch), batch, jobs)
        for depth, part in zip(batch, pulled, strict=True):
            yield states[depth].codes, part


def windows(problem: Problem, algorithm: Algorithm, state: State, depth: int, lengths: Sequence[int]) -> Iterator[Pulled]:
    """Yield the derivative through the last layers for each of the ascending numbers of layers up to `depth`."""
    for batch in _batches(problem, lengths):
        bounds = [depth, *(depth - length for length in batch)]
        jobs = [Job(top, bottom, 0) for top, bottom in itertools.pairwise(bounds)]
        through_codes, magnitude = torch.zeros_like(problem.theta), 0.0
        for part in _layers(problem, algorithm, state, depth, (), jobs)[1]:
            through_codes, magnitude = through_codes + part.through_codes, magnitude + part.magnitude
            yield Pulled(through_codes, magnitude)


def pull_back(problem: Problem, algorithm: Algorithm, state: State, layers: int, adjoints: Tensor) -> tuple[Pulled, Tensor]:
    """Carry adjoints of codes and point, shape (2, n, p), back over `layers` layers that follow a state.

    They are returned on the support of the state alone: the layer that made it lets nothing else through.
    """
    _, (pulled,), adjoints = _layers(problem, algorithm, state, layers, (), [Job(layers, 0, 0)], adjoints)
    return pulled, adjoints


def _batches(problem: Problem, numbers: Sequence[int]) -> Iterator[Sequence[int]]:
    """Cut depths or windows into batches whose Gram matrices' derivatives fit the memory of one pass."""
    size = max(1, LARGEST_PASS // problem.code_shape[1] ** 2)
    return (numbers[first : first + size] for first in range(0, len(numbers), size))


@torch.no_grad()
def _layers(
    problem: Any,
    algorithm: Any,
    state: State,
    depth: int,
    keep: Collection[int],
    jobs: Sequence[Job] = (),
    adjoints: Tensor | None = None,
) -> tuple[dict[int, State], list[Pulled], Tensor]:
    """Run layers and jobs, in chunks of samples; return kept states, the jobs' results and the adjoints at `state`."""
    x, dictionary = problem.observations.detach().contiguous(), problem.theta.detach().contiguous()
    codes, point, dtype = state.codes.detach().contiguous(), state.point.detach().contiguous(), dictionary.dtype
    (n, p), step, kept = codes.shape, algorithm.step_size(problem), sorted({*keep, depth})
    scaled = step * dictionary
    gram = dictionary.T @ scaled
    if problem.l2_penalty:
        gram.diagonal().add_(step * problem.l2_penalty)

    rule, iterations = algorithm.thresholding, range(state.iteration, state.iteration + depth)
    thresholds = [step * problem.penalty * (rule.decay**t if type(rule) is Decaying else 1) for t in iterations]
    if type(rule) is Hard and rule.threshold is not None:
        thresholds = [rule.threshold] * depth
    accelerated, restart = algorithm.name == "fista", isinstance(state.momentum, Tensor)
    momenta = [1.0 if restart else state.momentum]
    for _ in range(depth):
        momenta.append((1 + (1 + 4 * momenta[-1] ** 2) ** 0.5) / 2)
    pulls = [(now - 1) / later for now, later in itertools.pairwise(momenta)]
    lasso = problem.loss == "lasso"
    numbers = [1, step, n, problem.penalty if lasso else 0, 0 if lasso else -problem.l2_penalty]
    flags = [type(rule) is Hard, problem.nonnegative, accelerated, restart, adjoints is not None]

    adjoints = torch.empty(2, 0, p, dtype=dtype) if adjoints is None else adjoints.clone()
    kept_codes = torch.empty(len(kept), n, p, dtype=dtype)
    kept_points = torch.empty(len(kept) if accelerated else 0, n, p, dtype=dtype)
    kept_momenta = torch.ones(len(kept), n, dtype=dtype)
    starting = state.momentum.reshape(n).contiguous() if isinstance(state.momentum, Tensor) else torch.ones(n, dtype=dtype)
    tops, bottoms, chains = (np.array([job[i] for job in jobs], dtype=np.int64) for i in range(3))
    # The first job of a chain is known by its index.
    firsts = {job.chain: index for index, job in reversed(list(enumerate(jobs)))}
    chains = np.array([firsts[job.chain] for job in jobs], dtype=np.int64)
    of_numbers = (torch.tensor(values, dtype=dtype).numpy() for values in (thresholds, pulls, numbers))
    all_thresholds, all_pulls, all_numbers = of_numbers

    products = x @ scaled

    def chunk(first: int) -> tuple[np.ndarray, np.ndarray]:
        return _run_layers()(
            gram.numpy(), products[first : first + CHUNK].numpy(), first, codes.numpy(), point.numpy(), starting.numpy(),
            all_thresholds, all_pulls, np.array(flags), all_numbers, depth, np.array(kept), tops, bottoms, chains,
            adjoints.numpy(), kept_codes.numpy(), kept_points.numpy(), kept_momenta.numpy(),
        )  # fmt: skip

    gram_bar = torch.zeros(len(jobs), p, p, dtype=dtype)
    theta_bar = torch.zeros(len(jobs), *dictionary.shape, dtype=dtype)
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        # In the order of the chunks, so that the sums are the same for any number of threads.
        for first, (of_gram, of_products) in zip(range(0, n, CHUNK), pool.map(chunk, range(0, n, CHUNK)), strict=True):
            gram_bar += torch.from_numpy(of_gram)
            theta_bar += x[first : first + CHUNK].T @ torch.from_numpy(of_products)
    # The derivative of eta D^T D is symmetric in its two factors.
    through_gram = scaled @ (gram_bar + gram_bar.mT)
    through_products = step * theta_bar
    magnitudes = torch.linalg.norm(through_gram, dim=(1, 2)) + torch.linalg.norm(through_products, dim=(1, 2))
    pulled = [Pulled(*parts) for parts in zip(through_gram + through_products, magnitudes.tolist(), strict=True)]

    def state_after(index: int, layers: int) -> State:
        if layers == 0:
            return state
        after = kept_codes[index]
        momentum = kept_momenta[index][:, None] if restart else momenta[layers]
        if not accelerated:
            return type(state)(after, after, iteration=state.iteration + layers)
        return type(state)(after, kept_points[index], momentum, state.iteration + layers)

    return {layers: state_after(index, layers) for index, layers in enumerate(kept)}, pulled, adjoints
