"""Fill the store: what is missing becomes tasks, each of which runs in a process that can be killed without harm."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import as_completed
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from pebble import ProcessExpired, ProcessPool

from ..errors import InvalidArgument
from .case import Case
from .experiment import ExperimentResult, ProgressCallback, carry_out, silent
from .measurement import measure, stored_reference
from .selection import Selection
from .statuses import BROKEN, first_line
from .store import Store
from .surfaces import measure_surface


@dataclass(frozen=True)
class Task:
    """A piece of work for another process.

    Attributes
    ----------
    label : str
        Text to show when the task ends.
    work : callable
        Function to call in the other process.
    arguments : tuple
    timeout : float
        Seconds that the work may take.
    failed : callable
        Called here with a status and a reason if the work fails; what it returns takes the place of the result.
    kind : str
        ``reference``, ``score``, ``surface`` or ``experiment``.
    """

    label: str
    work: Callable[..., Any]
    arguments: tuple[Any, ...]
    timeout: float
    failed: Callable[[str, str], Any]
    kind: str


def plan(selection: Selection, store: Store) -> list[list[Task]]:
    """Return the tasks that measure what is missing from the store, in stages: a stage needs the one before it.

    A record that says that something broke counts as missing.
    """
    pairs = [pair for pair in selection.pairs if _missing(store.read(*pair))]
    # Every estimator of a case needs its references: in one stage with the scores, two workers would both compute them.
    needed = {
        store.reference_path(case, seed, target): (case, seed, target)
        for case, _ in pairs for seed in case.seeds for target in case.targets
    }  # fmt: skip
    wanted: dict[str, tuple[int, ...]] = {"window_surface": selection.windows} if selection.windows else {}
    if selection.jacobian_error:
        wanted["jacobian_error"] = ()
    surfaces = [(kind, case, windows) for case in selection.cases for kind, windows in wanted.items()]
    references = [
        Task(
            f"reference of {case.name}, seed {seed}", stored_reference, (case, seed, target, store), selection.timeout,
            # The records of the estimators give the reason.
            failed=lambda status, reason: None, kind="reference",
        )
        for case, seed, target in needed.values() if store.read_reference(case, seed, target) is None
    ]  # fmt: skip
    cases = [
        Task(
            f"{kind} of {case.name}", measure_surface, (kind, case, windows, store), selection.timeout,
            failed=partial(_write_failed_surface, store, kind, case, windows), kind="surface",
        )
        for kind, case, windows in surfaces if not store.has_artifact(kind, case, windows)
    ] + [
        Task(
            f"{estimator} on {case.name}", measure, (case, estimator, store), selection.timeout,
            failed=partial(store.write_failure, case, estimator), kind="score",
        )
        for case, estimator in pairs
    ]  # fmt: skip
    experiments = [
        Task(
            name, carry_out, (name, store), selection.experiment_timeout,
            failed=partial(_write_failed_experiment, store, name), kind="experiment",
        )
        for name in selection.experiments if _missing(store.read_experiment(name))
    ]  # fmt: skip
    return [references, cases, experiments]


def _missing(record: dict[str, Any] | None) -> bool:
    return record is None or record["status"] in BROKEN


def _write_failed_surface(store: Store, kind: str, case: Case, windows: tuple[int, ...], status: str, reason: str) -> None:
    store.write_artifact(kind, case, windows, [], f"{status}: {reason}")


def _write_failed_experiment(store: Store, name: str, status: str, reason: str) -> dict[str, Any]:
    return store.write_experiment(name, ExperimentResult([], status=status, reason=reason), None)


def fill(
    selection: Selection, store: Store, workers: int, *, progress: ProgressCallback = silent
) -> dict[str, list[dict[str, Any]]]:
    """Measure what is missing from the store, in worker processes.

    A worker that runs out of time or memory, or crashes, costs its own task only: its record says so.

    Parameters
    ----------
    selection : Selection
    store : Store
    workers : int
        Number of processes, each with one thread.
    progress : callable
        Called after every task with the tasks done, the tasks in all, and the label of the task.

    Returns
    -------
    dict of list
        The results by the kind of task; those of ``score`` and ``experiment`` are the new records.
    """
    stages = plan(selection, store)
    total = sum(map(len, stages))
    results: dict[str, list[Any]] = {"reference": [], "score": [], "surface": [], "experiment": []}
    with contextlib.closing(run_tasks(stages, workers)) as finished:
        for done, (task, result) in enumerate(finished, start=1):
            results[task.kind].append(result)
            progress(done, total, task.label)
    return results


def run_tasks(stages: Iterable[Iterable[Task]], workers: int) -> Generator[tuple[Task, Any], None, None]:
    """Run stages of tasks in worker processes, one stage after the other, and yield every task that ends with its result.

    Nothing else knows where tasks run, so that another executor can take the place of this function.
    """
    context = multiprocessing.get_context("spawn")
    with ProcessPool(max_workers=workers, context=context, initializer=_prepare_worker, initargs=(os.getpid(),)) as pool:
        try:
            for stage in stages:
                futures: dict[Any, Task] = {
                    pool.schedule(task.work, task.arguments, timeout=task.timeout): task for task in stage
                }
                for future in as_completed(futures):
                    task, error = futures[future], future.exception()
                    yield task, future.result() if error is None else task.failed(*_failure(error, task.timeout))
        except BaseException:
            pool.stop()
            raise


def _failure(error: BaseException, timeout: float) -> tuple[str, str]:
    """Return the status and the reason for an error that ended a task."""
    if isinstance(error, TimeoutError):
        return "timeout", f"not finished after {timeout:g} s: raise the profile's timeout, or use fewer depths or samples"
    if isinstance(error, ProcessExpired):
        if error.exitcode == -9:
            return "out-of-memory", "the process was killed (signal 9), most likely because memory ran out"
        return "error", f"the process ended with exit code {error.exitcode}"
    if isinstance(error, InvalidArgument):
        return "error", first_line(error)
    return "error", f"{type(error).__name__}: {first_line(error)}"


def _prepare_worker(parent: int) -> None:
    """Use one thread, and end with the parent: a killed run must not leave workers behind."""
    torch.set_num_threads(1)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
