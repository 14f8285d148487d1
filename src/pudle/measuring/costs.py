"""Time and memory of single estimates: cells of asv's benchmarks, each in a process of its own,
kept in the store.

asv's own runner measures each cell, as it does under `asv run`. Only the choice of cells and the
keeping of results differ: `asv run` skips by commit, so that uncommitted code counts as measured,
repeats a whole benchmark for one missing cell, saves at its end alone, and keeps no reason for a
failure.
"""

from __future__ import annotations

import functools
import importlib.resources
import itertools
import os
import resource
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from asv_runner.benchmarks._maxrss import get_maxrss
from asv_runner.discovery import get_benchmark_from_name

from ..algorithms import Algorithm, kernels
from ..algorithms.unrolling import directional_derivative
from ..files import read_json
from ..kernel_choice import choice
from ..problems import Problem
from ..processes import return_freed_memory, run_in_copy
from ..registry import list_datasets, list_estimators
from . import sources
from .case import DTYPES, Case
from .statuses import failure

if TYPE_CHECKING:
    # Only for annotations: how records are stored and cells are selected does not outdate them.
    from .selection import Selection
    from .store import Store

#: The costs that are measured, with the names that asv gives to their benchmarks; these all have
#: the same parameters.
BENCHMARKS = {
    "memory_bytes": "memory.Memory.peakmem_estimate",
    "seconds": "timing.Time.time_estimate",
    "seconds_torch": "timing.TorchTime.time_estimate",
}
#: Environment variable that names the file of a frozen selection; without it a plain `asv run`
#: measures the quick profile.
SELECTION_VARIABLE = "PUDLE_SELECTION"
#: Why a time on the torch path is skipped where that path is the only one.
NO_KERNEL = "no kernel applies here: the time is that of the torch path"
#: A time is repeated until it has so many samples, which its quartiles need, or these have taken so
#: many seconds ...
LEAST_SAMPLES, MOST_SECONDS_FOR_THESE = 3, 2.0
#: ... and further until the standard error of the median is this share of it, or all have taken so
#: many seconds.
PRECISION, MOST_SECONDS = 0.02, 0.1


class Cell(NamedTuple):
    """A cost of one estimate, and the number of its parameters among those of the benchmark."""

    metric: str
    case: Case
    estimator: str
    depth: int
    number: int

    @property
    def label(self) -> tuple[str, str, str, int]:
        """Metric, case by name, estimator and depth."""
        return self.metric, self.case.name, self.estimator, self.depth


def cells(selection: Selection) -> list[Cell]:
    """Return the cells of a selection, in the order in which to measure them.

    The estimators of a case at one depth follow each other, each on both paths, so that a machine
    whose speed drifts treats them alike.
    """
    # Without kernels, every time is one of the torch path.
    both = selection.torch_depths if "seconds" in selection.costs and choice() != "torch" else ()
    found = [
        Cell(metric, case, estimator, depth, number)
        for number, (case, estimator, depth) in enumerate(
            itertools.product(selection.cases, selection.estimators, selection.timed_depths)
        )
        for metric in (*selection.costs, *(["seconds_torch"] if depth in both else []))
        # No answer lies at depths that are not scored.
        if depth in case.depths and selection.holds(case.name, estimator)
    ]
    return sorted(found, key=lambda cell: (cell.case.name, cell.depth))


def benchmark_folder() -> Path:
    """Return the folder of asv's benchmarks, which asv and its runner find by its path."""
    return Path(str(importlib.resources.files("pudle.bench")))


def _first_gradients() -> None:
    """Compute a gradient of each kind, at the first of which torch imports parts of itself, so that
    copies have them.
    """
    one = torch.ones(1, requires_grad=True)
    torch.autograd.grad(2 * one, one, torch.ones(1))
    torch.func.vmap(lambda tangent: directional_derivative(torch.sin, one.detach(), tangent))(
        torch.ones(1, 1)
    )


@functools.lru_cache(maxsize=1)
def drawn(case: Case, device: str) -> tuple[Problem, Algorithm]:
    """Return the problem of a case's first seed, with its Lipschitz constant computed where needed,
    and the algorithm.
    """
    # The cache would keep the problem before until this one is drawn.
    drawn.cache_clear()
    problem, algorithm = case.make_problem(case.seeds[0], device), case.make_algorithm()
    algorithm.step_size(problem)
    _first_gradients()
    return problem, algorithm


def measure_cost(cell: Cell, selection: Path, store: Store) -> dict[str, Any]:
    """Measure a cell of the selection in a file, and write its record to the store.

    Each cell has a fresh process, as under `asv run`: the peak of a process covers its life.
    """
    # All that the cells have in common is loaded and computed here, so that copies of this process
    # have it.
    kernels.prepare((DTYPES[cell.case.dtype],))
    _load_benchmarks(selection, selection.stat().st_mtime_ns)
    if store.device == "cpu":
        # A copy of a process that uses CUDA could not use it.
        problem, _ = drawn(cell.case, store.device)
        if cell.metric == "seconds_torch" and not kernels.is_plain(problem):
            return fail_cost(cell, selection, store, "skipped", NO_KERNEL)
    sources.digest(
        "pudle.measuring.measurement", *list_estimators().values(), *list_datasets().values()
    )
    store.path(cell.case, cell.estimator), store.cost_path(cell)
    # Last, because an estimate would use again, and seem not to need, whatever this process has
    # freed before.
    return_freed_memory()
    code = run_in_copy(lambda: store.write_cost(cell, _measured(cell, selection, store.device)))
    if code:
        killed = "out-of-memory", "its process was killed (signal 9)"
        failed = killed if code == -9 else ("error", f"its process ended with exit code {code}")
        # In a copy as well: the name of a GPU is part of the record, and who asks for it can no
        # longer be copied.
        if run_in_copy(lambda: fail_cost(cell, selection, store, *failed)):
            # What ended that copy was not the estimate: here its error is told.
            fail_cost(cell, selection, store, *failed)
    return read_json(store.cost_path(cell))


@functools.lru_cache(maxsize=1)
def _load_benchmarks(selection: Path, changed: int) -> None:
    """Import the benchmarks, whose parameters are those of a selection that was written at some
    time.
    """
    folder = benchmark_folder()
    for name in [name for name in sys.modules if name.partition(".")[0] == folder.name]:
        del sys.modules[name]
    before = os.environ.get(SELECTION_VARIABLE)
    os.environ[SELECTION_VARIABLE] = str(selection)
    try:
        for name in BENCHMARKS.values():
            get_benchmark_from_name(str(folder), name)
    finally:
        del os.environ[SELECTION_VARIABLE]
        os.environ |= {SELECTION_VARIABLE: before} if before is not None else {}


def fail_cost(
    cell: Cell, selection: Path, store: Store, status: str, reason: str
) -> dict[str, Any]:
    """Write a record that says only why there is no number."""
    return store.write_cost(cell, {"status": status, "reason": reason, "value": None})


def _measured(cell: Cell, selection: Path, device: str) -> dict[str, Any]:
    """Return status, reason, value, and what else is known: the samples of a time, or the memory
    without the estimate.
    """
    os.environ[SELECTION_VARIABLE] = str(selection)
    try:
        benchmark = get_benchmark_from_name(
            str(benchmark_folder()), f"{BENCHMARKS[cell.metric]}-{cell.number}"
        )
        if benchmark.do_setup():
            return {
                "status": "skipped",
                "reason": "the benchmark's setup skips this cell",
                "value": None,
            }
        if cell.metric == "memory_bytes":
            return {
                "status": "ok",
                "reason": "",
                **(_device_memory if device == "cuda" else _memory)(benchmark),
            }
        samples = _repeat(benchmark)
        return {
            "status": "ok",
            "reason": "",
            "value": float(np.median(samples)),
            "samples": samples,
        }
    except Exception as error:  # noqa: BLE001  # whatever an estimator raises is a result to report, with its reason
        status, reason = failure(error)
        return {"status": status, "reason": reason, "value": None}


def _memory(benchmark: Any) -> dict[str, int]:
    """Return the peak memory of an estimate, beyond that of the same process with the same imports
    and the same problem.
    """
    baseline = get_maxrss()
    # Less than a page cannot be told from nothing.
    return {
        "value": max(benchmark.do_run() - baseline, resource.getpagesize()),
        "baseline": baseline,
    }


def _device_memory(benchmark: Any) -> dict[str, int]:
    """Return the peak of what an estimate holds on the GPU, beyond what was there before."""
    torch.cuda.reset_peak_memory_stats()
    baseline = torch.cuda.memory_allocated()
    benchmark.do_run()
    return {"value": torch.cuda.max_memory_allocated() - baseline, "baseline": baseline}


def _repeat(benchmark: Any) -> list[float]:
    """Return the seconds of repeated calls, as many as their spread needs.

    The standard error of a median is about 0.93 interquartile ranges over the root of the number of
    samples, which is exact for a normal distribution.
    """
    samples: list[float] = benchmark.do_run()["samples"]
    benchmark.warmup_time = 0.0
    while sum(samples) < (
        MOST_SECONDS if len(samples) >= LEAST_SAMPLES else MOST_SECONDS_FOR_THESE
    ):
        low, median, high = np.quantile(samples, (0.25, 0.5, 0.75))
        if (
            len(samples) >= LEAST_SAMPLES
            and 0.93 * (high - low) <= PRECISION * median * len(samples) ** 0.5
        ):
            break
        samples += benchmark.do_run()["samples"]
    return samples
