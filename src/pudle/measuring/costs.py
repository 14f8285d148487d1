"""Time and memory of single estimates, measured in copies of a process, and kept in the store: the
one timer and the one meter of memory for all times and peaks that this package tells.
"""

import contextlib
import functools
import os
import resource
import sys
import time
import timeit
import uuid
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from .. import kernel_choice, paired
from ..algorithms import Algorithm, kernels
from ..algorithms.unrolling import directional_derivative
from ..errors import MissingDependency
from ..estimator import GradientEstimator, split
from ..names import make_estimator
from ..problems import Problem
from ..workers import Copy, Outcome, return_freed_memory, run_in_copy
from .case import DTYPES, Case
from .contents import CostRecord
from .selection import Selection
from .store import Store

Clock = Callable[[], float]

#: Why a time on the torch path is skipped where that path is the only one.
NO_KERNEL = "no kernel applies here: the time is that of the torch path"
#: Rounds of the times of a problem at least. A depth gets more, up to so many, and until all have
#: taken some seconds, while the ends of an estimator's interval are further apart than this ratio.
ROUNDS, MOST_ROUNDS, SECONDS, WIDE = 10, 40, 6.0, 1.25
#: After so many rounds no more of a time that is so many times that of the fastest estimator at the
#: deepest depth: no noise explains that, and no answer needs to tell the two apart.
FEWEST_ROUNDS, SLOWER = 3, 3.0

#: A cost of one estimate: its metric (``memory_bytes``, ``seconds``, or ``seconds_torch``, the time
#: without kernels), the case, the estimator and the depth.
Cell = tuple[str, Case, str, int]


def clock(device: str) -> Clock:
    """Return the clock of a device: on the CPU that of the processor, which stands still while
    other work has it, where one thread works; that of a GPU waits until all queued work is done.
    """

    def gpu() -> float:
        torch.cuda.synchronize()
        return time.perf_counter()

    alone = torch.get_num_threads() == 1
    return gpu if device.startswith("cuda") else time.process_time if alone else time.perf_counter


def sample(call: Callable[[], Any], clock: Clock) -> float:
    """Return the seconds of the fastest of as many calls as take two milliseconds together, of one
    where that takes longer: other work on the machine only ever adds to a time. There is no
    garbage collection meanwhile.
    """
    taken: list[float] = []
    while sum(taken) < 0.002:
        # Of a call that the clock cannot see there is still an end.
        taken.append(max(timeit.timeit(call, timer=clock, number=1), 1e-6))
    return min(taken)


def peak_memory(call: Callable[[], Any], device: str) -> tuple[int, int]:
    """Return the bytes that a call takes at its peak beyond those taken before, and these.

    On the CPU the peak is that of this process, which should be a new copy that makes no other
    call: the system keeps the peak of a whole life. On a GPU it is that of torch's memory.
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
    """Return the peak of this process's memory in bytes."""
    # macOS counts bytes, and other systems count KiB.
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def cells(selection: Selection) -> list[Cell]:
    """Return the cells of a selection."""
    # Without kernels, every time is one of the torch path.
    kernels_chosen = "seconds" in selection.costs and kernel_choice.choice() != "torch"
    both = selection.torch_depths if kernels_chosen else ()
    return [
        (metric, case, estimator, depth)
        for case, estimator in selection.pairs
        for depth in selection.timed_depths
        for metric in (*selection.costs, *["seconds_torch"] * (depth in both))
        # No answer lies at depths that are not scored.
        if depth in case.depths
    ]


def drawn(case: Case, device: str) -> tuple[Problem, Algorithm]:
    """Return the problem of a case's first seed, with its Lipschitz constant computed where needed,
    and the algorithm.
    """
    # Cases of one problem share it.
    problem = _drawn(replace(case, name="any", algorithm="any", depths=(0,)), device)
    algorithm = case.make_algorithm()
    algorithm.step_size(problem)
    return problem, algorithm


@functools.lru_cache(maxsize=1)
def _drawn(case: Case, device: str) -> Problem:
    # The cache would keep the problem before until this one is drawn.
    _drawn.cache_clear()
    problem = case.make_problem(case.seeds[0], device)
    # At the first gradient of each kind torch imports parts of itself: copies then have them.
    one = torch.ones(1, requires_grad=True)
    torch.autograd.grad(2 * one, one, torch.ones(1))
    torch.func.vmap(lambda tangent: directional_derivative(torch.sin, one.detach(), tangent))(
        torch.ones(1, 1)
    )
    return problem


def measure_memory(metric: str, case: Case, estimator: str, depth: int, store: Store) -> CostRecord:
    """Measure a cell of memory in a copy of this process, and write its record to the store."""
    # From the first cell on: blocks that stay in the heap would serve later cells.
    return_freed_memory(at_once=True)
    cell = metric, case, estimator, depth
    _prepare([cell], store)

    def peak() -> dict[str, Any]:
        warnings.simplefilter("ignore", UserWarning)
        made, what = make_estimator(estimator), (*drawn(case, store.device), depth)
        touch(made, *what)
        estimate = functools.partial(made.estimate, *what)
        value, baseline = peak_memory(estimate, store.device)
        return {"value": value, "baseline": baseline}

    return _write(store, cell, run_in_copy(peak))


def measure_times(cells: Sequence[Cell], timeout: float, store: Store) -> list[CostRecord]:
    """Measure times of one problem in turns, and write their records to the store.

    Each estimator has a copy of this process, which is asked for one time at each depth in every
    round. Those at one depth follow each other, so that the k-th times of two estimators are of the
    same moment. A copy that dies, or takes longer than the `timeout`, costs its estimator that
    depth alone.
    """
    _prepare(cells, store)
    depths = sorted({cell[-1] for cell in cells})
    groups = [[cell for cell in cells if cell[-1] == depth] for depth in depths]
    taken: dict[Cell, list[float]] = {cell: [] for cell in cells}
    outcomes = {}
    copies: dict[str, Copy] = {}
    start = time.monotonic()

    def is_wide(group: list[Cell]) -> bool:
        """Return whether noise hides how the times of a depth lie to each other."""
        samples = np.array([taken[cell] for cell in group])
        ratios = paired.compare_many(samples, np.median(samples, axis=0))
        return bool((ratios.high > WIDE * ratios.low).any())

    with contextlib.ExitStack() as stack:
        for turn in range(MOST_ROUNDS):
            for group in groups:
                for cell in [group[n] for n in paired.order(turn, len(group))]:
                    if not getattr(copies.get(cell[2]), "number", 0):
                        copies[cell[2]] = stack.enter_context(Copy(timer(store.device)))
                    outcome = copies[cell[2]].ask(*cell, timeout=timeout)
                    if outcome.status == "ok":
                        taken[cell].append(outcome.result)
                    else:
                        outcomes[cell] = outcome
                        group.remove(cell)
            if turn + 1 == FEWEST_ROUNDS:
                medians = {cell: np.median(taken[cell]) for group in groups for cell in group}
                slow = SLOWER * min((medians[cell] for cell in groups[-1]), default=np.inf)
                # No answer rests on times of the torch path where there are kernels.
                groups = [
                    [cell for cell in group if medians[cell] <= slow and cell[0] != "seconds_torch"]
                    for group in groups
                ]
            if turn + 1 >= ROUNDS:
                late = time.monotonic() > start + SECONDS
                groups = [group for group in groups if group and not late and is_wide(group)]
            if not any(groups):
                break
    turns = uuid.uuid4().hex
    for cell in taken.keys() - outcomes.keys():
        value = float(np.median(taken[cell]))
        outcomes[cell] = Outcome({"value": value, "samples": taken[cell], "turns": turns})
    return [_write(store, cell, outcomes[cell]) for cell in cells]


def timer(device: str) -> Callable[..., float]:
    """Return what measures the seconds of a cell, in a process that measures nothing else."""
    chosen = kernel_choice.choice()

    @functools.lru_cache(maxsize=64)
    def warm(case: Case, spec: str, depth: int, path: str) -> Callable[[], Any]:
        problem, algorithm = drawn(case, device)
        if path != chosen and not kernels.is_plain(problem):
            raise MissingDependency(NO_KERNEL)
        estimate = functools.partial(make_estimator(spec).estimate, problem, algorithm, depth)
        # The first call fills caches, and may compile for this depth.
        estimate()
        return estimate

    def seconds(metric: str, *cell: Any) -> float:
        # What an estimator advises its caller is no line of a run's log.
        warnings.simplefilter("ignore", UserWarning)
        path = os.environ[kernel_choice.VARIABLE] = "torch" if metric == "seconds_torch" else chosen
        taken = sample(warm(*cell, path), clock(device))
        # A copy that waits for its turn holds little.
        return_freed_memory()
        if device.startswith("cuda"):
            torch.cuda.empty_cache()
        return taken

    return seconds


def _prepare(cells: Sequence[Cell], store: Store) -> None:
    """Load and compute here all that cells of one problem have in common: copies then have it."""
    kernels.prepare((DTYPES[cells[0][1].dtype],))
    for cell in cells:
        store.place("cost", *cell)
        # A copy of a process that uses CUDA could not use it.
        if store.device == "cpu":
            drawn(cell[1], store.device)
    # Last, because an estimate would use again, and seem not to need, whatever this process has
    # freed before.
    return_freed_memory()


def _write(store: Store, cell: Cell, outcome: Outcome) -> CostRecord:
    """Write the record of a cell: what was measured, or why nothing was."""
    said = {"status": outcome.status, "reason": outcome.reason}
    write = functools.partial(store.write, "cost", *cell, **outcome.result or said)
    # In a copy as well: the name of a GPU is part of the record, and who asks for it can no longer
    # be copied. What ends that copy is not the estimate: here its error is told.
    if store.device == "cpu" or run_in_copy(write).status != "ok":
        return write()
    return store.read("cost", *cell)


def touch(estimator: GradientEstimator, problem: Problem, algorithm: Algorithm, depth: int) -> None:
    """Estimate on one sample, so that the code that this needs lies in memory.

    Pages of libraries count as memory of a process once they are used, and some are imported at
    their first use: 20 to 70 MB, which the first estimate would seem to need.
    """
    # One sample may be too little work for the kernels.
    kernels.prepare((problem.theta.dtype,))
    # Whatever fails will fail again, where it is kept.
    with contextlib.suppress(Exception):
        estimator.estimate(next(split(problem, 1)), algorithm, min(depth, 2))
