"""The one timer and the one meter of memory for all times and peaks that this package tells."""

from __future__ import annotations

import contextlib
import functools
import gc
import resource
import secrets
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, TypeVar

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


class Timing(NamedTuple):
    """Time of one call, from calls that took a few milliseconds together.

    Attributes
    ----------
    seconds : float
        Time of the fastest call by the device's clock. Processor time includes that of threads and
        of processes that the call started, also if they work on after it has returned.
    elapsed : float
        Elapsed seconds of the fastest call. On Linux, time in which this thread waited for a
        processor that other work had is left out.
    processors : float
        Processors in use on average: processor time over elapsed time.
    """

    seconds: float
    elapsed: float
    processors: float


#: What a call gets, what it returns, and what is kept of that.
Argument = TypeVar("Argument")
Result = TypeVar("Result")
Kept = TypeVar("Kept")
#: Calls go on until they have taken so many seconds, and one counts as so many at least.
ENOUGH, LEAST = 0.002, 1e-6


def time_calls(
    prepare: Callable[[], Argument],
    call: Callable[[Argument], Result],
    keep: Callable[[Result], Kept],
    clock: Clock,
) -> tuple[Timing, Argument, Kept]:
    """Call a function several times, each time with a new argument, and time the calls.

    `prepare` makes the arguments while the clock stands still. The fastest call counts, because
    other work on the machine only adds to a time. There is no garbage collection meanwhile.

    Returns
    -------
    timing : Timing
    argument, kept
        The argument of one of the calls, which is chosen at random, and what `keep` has made of its
        result before the next call.
    """
    seconds: list[float] = []
    elapsed: list[float] = []
    processor = main_thread = 0.0
    collects = gc.isenabled()
    gc.disable()
    try:
        threads, processes = _seconds_of_other_threads(), seconds_of_other_processes()
        while sum(map(max, seconds, elapsed)) < ENOUGH:
            argument = prepare()
            delay, begin = _processor_delay(), time.perf_counter()
            process, thread, device = time.process_time(), time.thread_time(), clock()
            result = call(argument)
            device, thread = clock() - device, time.thread_time() - thread
            process, end = time.process_time() - process, time.perf_counter()
            delay = _processor_delay() - delay
            # A call that a clock cannot see still counts, so that there is an end.
            seconds.append(max(device, LEAST))
            # The account of delays begins before the clock, and ends after it.
            elapsed.append(max(end - begin - delay, thread, LEAST))
            processor, main_thread = processor + process, main_thread + thread
            # The k-th call takes the place of the chosen one with probability 1 / k.
            if secrets.randbelow(len(seconds)) == 0:
                chosen = argument, keep(result)
        threads = _seconds_of_other_threads() - threads
        processes = seconds_of_other_processes() - processes
    finally:
        if collects:
            gc.enable()
    # Threads that work between the calls, and processes whenever they work.
    elsewhere = max(threads - (processor - main_thread), 0.0) + processes
    fastest = min(seconds)
    if clock is time.process_time:
        fastest += elsewhere / len(seconds)
    processors = (processor + elsewhere) / sum(elapsed)
    return Timing(fastest, min(elapsed), processors), *chosen


def _seconds_of_other_threads() -> float:
    """Return the processor seconds so far of all threads of this process but the calling one."""
    return time.process_time() - time.thread_time()


def seconds_of_other_processes() -> float:
    """Return the processor seconds so far of the processes that this one has started: those that
    have ended and, on Linux, those that live.
    """
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return ended.ru_utime + ended.ru_stime + sum(map(_seconds_of, _descendants()))


def _descendants() -> Iterator[int]:
    """Yield the living processes that this one has started, on Linux."""
    parents = ["self"]
    while parents:
        tasks = Path(f"/proc/{parents.pop()}/task")
        with contextlib.suppress(OSError):
            for thread in tasks.iterdir():
                for child in (thread / "children").read_text().split():
                    yield int(child)
                    parents.append(child)


def _seconds_of(process_id: int) -> float:
    """Return the processor seconds of another process, 0 if it has just ended."""
    with contextlib.suppress(OSError):
        # The clock that clock_getcpuclockid gives on Linux.
        return time.clock_gettime(~process_id << 3 | 2)
    return 0.0


def _processor_delay() -> float:
    """Return the seconds that this thread has waited for a processor, 0 if the system keeps no
    account of them.
    """
    with contextlib.suppress(OSError, IndexError):
        return 1e-9 * int(Path("/proc/thread-self/schedstat").read_text().split()[1])
    return 0.0


def peak_memory(call: Callable[[], Result], device: str) -> tuple[int, int, Result]:
    """Return the bytes that a call takes at its peak beyond those taken before, these, and what the
    call returns.

    On the CPU the peak is that of this process since it began, so that it should be a new copy that
    makes no other call; the first number is then at least the size of a page. On a GPU the peak is
    that of torch's memory, whose record of peaks is reset.
    """
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        result = call()
        return torch.cuda.max_memory_allocated() - before, before, result
    before = _peak_of_process()
    result = call()
    # Less than a page cannot be told from nothing.
    return max(_peak_of_process() - before, resource.getpagesize()), before, result


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
