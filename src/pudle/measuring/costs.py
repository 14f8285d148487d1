"""Time and memory of single estimates: each is measured in a copy of a process, and kept in the
store.
"""

from __future__ import annotations

import contextlib
import functools
import os
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from .. import kernel_choice
from ..algorithms import Algorithm, kernels
from ..algorithms.unrolling import directional_derivative
from ..batches import split
from ..estimator import GradientEstimator
from ..names import make_estimator
from ..problems import Problem
from ..workers import failure, return_freed_memory, run_in_copy
from . import meter
from .case import DTYPES, Case

if TYPE_CHECKING:
    from .contents import CostRecord
    from .selection import Selection
    from .store import Store

#: Why a time on the torch path is skipped where that path is the only one.
NO_KERNEL = "no kernel applies here: the time is that of the torch path"


#: A cost of one estimate: its metric (``memory_bytes``, ``seconds``, or ``seconds_torch``, the time
#: without kernels), the case, the estimator and the depth.
Cell = tuple[str, Case, str, int]


def cells(selection: Selection) -> list[Cell]:
    """Return the cells of a selection, in the order in which to measure them.

    The estimators of a case at one depth follow each other, each on both paths, so that a machine
    whose speed drifts treats them alike.
    """
    # Without kernels, every time is one of the torch path.
    kernels_chosen = "seconds" in selection.costs and kernel_choice.choice() != "torch"
    both = selection.torch_depths if kernels_chosen else ()
    chosen = [
        (metric, case, estimator, depth)
        for case, estimator in selection.pairs
        for depth in selection.timed_depths
        for metric in (*selection.costs, *(["seconds_torch"] if depth in both else []))
        # No answer lies at depths that are not scored.
        if depth in case.depths
    ]
    return sorted(chosen, key=lambda cell: (cell[1].name, cell[3]))


@functools.lru_cache(maxsize=1)
def drawn(case: Case, device: str) -> tuple[Problem, Algorithm]:
    """Return the problem of a case's first seed, with its Lipschitz constant computed where needed,
    and the algorithm.
    """
    # The cache would keep the problem before until this one is drawn.
    drawn.cache_clear()
    problem, algorithm = case.make_problem(case.seeds[0], device), case.make_algorithm()
    algorithm.step_size(problem)
    # At the first gradient of each kind torch imports parts of itself: copies then have them.
    one = torch.ones(1, requires_grad=True)
    torch.autograd.grad(2 * one, one, torch.ones(1))
    torch.func.vmap(lambda tangent: directional_derivative(torch.sin, one.detach(), tangent))(
        torch.ones(1, 1)
    )
    return problem, algorithm


def measure_cost(metric: str, case: Case, estimator: str, depth: int, store: Store) -> CostRecord:
    """Measure a cell in a copy of this process, and write its record to the store."""
    cell = metric, case, estimator, depth
    if metric == "memory_bytes":
        # From the first cell on: blocks that stay in the heap would serve later cells.
        return_freed_memory(at_once=True)
    # All that the cells have in common is loaded and computed here, so that copies have it.
    kernels.prepare((DTYPES[case.dtype],))
    store.place("cost", *cell)
    if store.device == "cpu":
        # A copy of a process that uses CUDA could not use it.
        drawn(case, store.device)
    # Last, because an estimate would use again, and seem not to need, whatever this process has
    # freed before.
    return_freed_memory()
    code, _ = run_in_copy(lambda: store.write("cost", *cell, **_measured(*cell, store.device)))
    if code:
        status, reason = "error", f"its process ended with exit code {code}"
        if code == -9:
            status, reason = "out-of-memory", "its process was killed (signal 9)"
        fail = functools.partial(store.write, "cost", *cell, status=status, reason=reason)
        # In a copy as well: the name of a GPU is part of the record, and who asks for it can no
        # longer be copied.
        if run_in_copy(fail)[0]:
            # What ended that copy was not the estimate: here its error is told.
            fail()
    return store.read("cost", *cell)


def _measured(metric: str, case: Case, spec: str, depth: int, device: str) -> dict[str, Any]:
    """Return the value, and the samples of a time or the memory without the estimate; or why there
    is none.
    """
    # What an estimator advises its caller is no line of a run's log.
    warnings.simplefilter("ignore", UserWarning)
    try:
        problem, algorithm = drawn(case, device)
        estimator = make_estimator(spec)
        estimate = functools.partial(estimator.estimate, problem, algorithm, depth)
        if metric == "memory_bytes":
            touch(estimator, problem, algorithm, depth)
            value, baseline = meter.peak_memory(estimate, device)
            return {"value": value, "baseline": baseline}
        if metric == "seconds_torch":
            if not kernels.is_plain(problem):
                return {"status": "skipped", "reason": NO_KERNEL}
            os.environ[kernel_choice.VARIABLE] = "torch"
        samples = meter.samples(estimate, meter.clock(device))
        return {"value": float(np.median(samples)), "samples": samples}
    except Exception as error:  # noqa: BLE001  # whatever an estimator raises is a result to report
        status, reason = failure(error)
        return {"status": status, "reason": reason}


def touch(estimator: GradientEstimator, problem: Problem, algorithm: Algorithm, depth: int) -> None:
    """Estimate on one sample, so that the code that this needs lies in memory.

    Pages of libraries count as memory of a process once they are used, and some are imported at
    their first use: 20 to 70 MB, which the first estimate would seem to need.
    """
    # Whatever fails will fail again, where it is kept.
    with contextlib.suppress(Exception):
        estimator.estimate(next(split(problem, 1)), algorithm, min(depth, 2))
