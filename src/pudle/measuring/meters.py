"""The one timer and the one meter of memory for all times and peaks that this package tells."""

import contextlib
import functools
import resource
import sys
import time
import timeit
from collections.abc import Callable
from dataclasses import replace

import torch

from ..algorithms import Algorithm, kernels
from ..algorithms.unrolling import directional_derivative
from ..estimator import GradientEstimator, split
from ..problems import Problem
from .case import Case

Clock = Callable[[], float]


def clock(device: str) -> Clock:
    """Return the clock of a device: a function that gives seconds, from any beginning.

    On the CPU, where torch has one thread at the time of this call, it counts the processor's time
    of this process, which stands still while other work has the processor; with more threads it
    counts elapsed time. On a GPU it waits until all queued work is done, and counts elapsed time.
    """

    def gpu() -> float:
        torch.cuda.synchronize()
        return time.perf_counter()

    alone = torch.get_num_threads() == 1
    return gpu if device.startswith("cuda") else time.process_time if alone else time.perf_counter


def sample(call: Callable[[], object], clock: Clock) -> float:
    """Return the seconds of the fastest of as many calls as take two milliseconds together, of one
    where that takes longer: other work on the machine only ever adds to a time.

    A call counts as a microsecond at least. There is no garbage collection meanwhile.
    """
    seconds: list[float] = []
    while sum(seconds) < 0.002:
        # Of a call that the clock cannot see there is still an end.
        seconds.append(max(timeit.timeit(call, timer=clock, number=1), 1e-6))
    return min(seconds)


def peak_memory(call: Callable[[], object], device: str) -> tuple[int, int]:
    """Return the bytes that a call takes at its peak beyond those taken before, and these.

    On the CPU the peak is that of this process since it began, so that it should be a new copy that
    makes no other call; the first number is then at least the size of a page. On a GPU the peak is
    that of torch's memory, whose record of peaks is reset.
    """
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        return torch.cuda.max_memory_allocated() - before, before
    before = _peak_of_process()
    call()
    # Less than a page cannot be told from nothing.
    return max(_peak_of_process() - before, resource.getpagesize()), before


def _peak_of_process() -> int:
    """Return the peak of this process's memory in bytes, since it began."""
    # macOS counts bytes, and other systems count KiB.
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def problem_and_algorithm(case: Case, device: str) -> tuple[Problem, Algorithm]:
    """Return the problem of a case's first seed, with its Lipschitz constant computed where needed,
    and the algorithm.

    The problem that was drawn last is kept for the process, and cases that differ in name,
    algorithm and depths share it. Imports the user's files that the specs name.
    """
    # Cases of one problem share it.
    problem = _draw_problem(replace(case, name="any", algorithm="any", depths=(0,)), device)
    algorithm = case.make_algorithm()
    algorithm.step_size(problem)
    return problem, algorithm


@functools.lru_cache(maxsize=1)
def _draw_problem(case: Case, device: str) -> Problem:
    """Draw the problem of a case's first seed, and let torch import what its first gradients need.

    The problem is kept until another is asked for, and given up before that is drawn.
    """
    # The cache would keep the problem before until this one is drawn.
    _draw_problem.cache_clear()
    problem = case.make_problem(case.seeds[0], device)
    take_first_gradients()
    return problem


def take_first_gradients() -> None:
    """Take a gradient of each kind, at the first of which torch imports parts of itself, for half a
    second: copies of this process then have them.
    """
    leaf = torch.ones(1, requires_grad=True)
    torch.autograd.grad(2 * leaf, leaf, torch.ones(1))
    torch.func.vmap(lambda tangent: directional_derivative(torch.sin, leaf.detach(), tangent))(
        torch.ones(1, 1)
    )


def touch(estimator: GradientEstimator, problem: Problem, algorithm: Algorithm, depth: int) -> None:
    """Make one small estimate and drop it, so that the code that an estimate needs lies in memory.

    Kernels are compiled or loaded first. The estimate is on one sample, or on the whole of a
    problem without samples, at a depth of two at most; errors are ignored here. Pages of libraries
    count as memory of a process once they are used, and some are imported at their first use: 20 to
    70 MB, which the first estimate would seem to need.
    """
    # One sample may be too little work for the kernels.
    kernels.prepare((problem.theta.dtype,))
    # Whatever fails will fail again, where it is kept.
    with contextlib.suppress(Exception):
        smallest = next(split(problem, 1)) if problem.per_sample else problem
        estimator.estimate(smallest, algorithm, min(depth, 2))
