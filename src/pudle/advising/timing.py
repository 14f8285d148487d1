"""Times of single estimates in turns, and their memory, in this process."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from asv_runner.benchmarks._maxrss import get_maxrss

from .. import names
from ..algorithms import Algorithm
from ..problems import Problem
from ..workers import return_freed_memory, run_in_copy

#: A time is the mean of as many estimates as take about so many seconds.
LEAST_SECONDS = 0.004


def made(estimator: Any) -> Any:
    """Return the estimator that a spec names, or the object itself."""
    return names.make_estimator(estimator) if isinstance(estimator, str) else estimator


def times(
    contenders: Sequence[tuple[Any, int]], problem: Problem, algorithm: Algorithm, rounds: int
) -> np.ndarray:
    """Return the seconds of one estimate, shape (rounds, contenders); each contender is an
    estimator and a depth.

    All contenders take turns in every round, each round beginning with another one, so that a
    machine whose speed drifts treats them alike: compare them within a round. On the CPU the
    seconds are those of the processor, which do not change when the machine is busy with other
    work.
    """
    cuda = problem.theta.device.type == "cuda"
    calls = [(made(estimator), depth) for estimator, depth in contenders]

    def measured(call: tuple[Any, int], repeats: int) -> float:
        clock = time.perf_counter if cuda else time.process_time
        start = clock()
        for _ in range(repeats):
            call[0].estimate(problem, algorithm, call[1])
        if cuda:
            torch.cuda.synchronize()
        return (clock() - start) / repeats

    # The first call of each warms up, the second says how often to repeat.
    for call in calls:
        measured(call, 1)
    repeats = [max(1, int(LEAST_SECONDS / max(measured(call, 1), 1e-5))) for call in calls]
    found = np.empty((rounds, len(calls)))
    for number in range(rounds):
        for place in np.roll(np.arange(len(calls)), -number):
            found[number, place] = measured(calls[place], repeats[place])
    return found


def memory(estimator: Any, problem: Problem, algorithm: Algorithm, depth: int) -> float:
    """Return the peak memory of one estimate in bytes, above that of a process with the problem
    alone; NaN if it fails.

    It is measured in a copy of this process, because the peak of a process covers its life. On CUDA
    it is the device's.
    """
    call = made(estimator)
    if problem.theta.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call.estimate(problem, algorithm, depth)
        return float(torch.cuda.max_memory_allocated() - before)
    algorithm.step_size(problem)
    return_freed_memory()

    def measure() -> int:
        torch.set_num_threads(1)
        before = get_maxrss()
        call.estimate(problem, algorithm, depth)
        return get_maxrss() - before

    code, peak = run_in_copy(measure)
    return max(float(peak), 0.0) if code == 0 else float("nan")
