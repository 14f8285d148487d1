"""Fill the store: every missing result becomes a task, which runs in a process that can be killed without harm."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import as_completed
from typing import Any, NamedTuple

import torch
from pebble import ProcessExpired, ProcessPool

from ..errors import InvalidArgument, first_line
from .experiment import ProgressCallback, carry_out, fail_experiment, silent
from .measurement import fail_scores, measure, stored_reference
from .selection import Selection
from .statuses import BROKEN
from .store import Store
from .surfaces import fail_surface, measure_surface

#: For each kind of task the function that does the work in another process, and the one that writes down its failure here.
#: A failed reference is not written down, because the scores that need it give the reason.
WORK: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "reference": (stored_reference, lambda *_: None),
    "score": (measure, fail_scores),
    "surface": (measure_surface, fail_surface),
    "experiment": (carry_out, fail_experiment),
}


class Task(NamedTuple):
    """A piece of work for another process: its kind, the text to show when it ends, arguments, and seconds it may take."""

    kind: str
    label: str
    arguments: tuple[Any, ...]
    timeout: float


def plan(selection: Selection, store: Store) -> list[list[Task]]:
    """Return the tasks for the results that the store lacks, in stages: each stage needs the one before it.

    A record that says that something broke counts as missing.
    """

    def missing(record: dict[str, Any] | None) -> bool:
        return record is None or record["status"] in BROKEN

    def task(kind: str, label: str, *arguments: Any) -> Task:
        timeout = selection.experiment_timeout if kind == "experiment" else selection.timeout
        return Task(kind, label, (*arguments, store), timeout)

    pairs = [pair for pair in selection.pairs if missing(store.read(*pair))]
    # Every estimator of a case needs its references: in the same stage, two workers would both compute them.
    needed = [(case, seed, target) for case, _ in pairs for seed in case.seeds for target in case.targets]
    references = {store.reference_path(*item): item for item in needed if store.read_reference(*item) is None}
    surfaces = [("window_surface", case, selection.windows) for case in selection.cases if selection.windows]
    surfaces += [("jacobian_error", case, ()) for case in selection.cases if selection.jacobian_error]
    surfaces = [surface for surface in surfaces if not store.has_artifact(*surface)]
    experiments = [name for name in selection.experiments if missing(store.read_experiment(name))]
    return [
        [task("reference", f"reference of {item[0].name}, seed {item[1]}", *item) for item in references.values()],
        [task("surface", f"{item[0]} of {item[1].name}", *item) for item in surfaces]
        + [task("score", f"{estimator} on {case.name}", case, estimator) for case, estimator in pairs],
        [task("experiment", name, name) for name in experiments],
    ]


def fill(selection: Selection, store: Store, workers: int, *, progress: ProgressCallback = silent) -> dict[str, list[Any]]:
    """Measure the results that the store lacks, in worker processes of one thread each, and return them by kind of task.

    A worker that runs out of time or memory, or crashes, costs its own task only: its record says so. The results of kind
    ``score`` and ``experiment`` are the new records.
    """
    stages = plan(selection, store)
    total = sum(map(len, stages))
    results: dict[str, list[Any]] = {kind: [] for kind in WORK}
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
                tasks: dict[Any, Task] = {
                    pool.schedule(WORK[task.kind][0], task.arguments, timeout=task.timeout): task for task in stage
                }
                for future in as_completed(tasks):
                    task, error = tasks[future], future.exception()
                    failed = WORK[task.kind][1]
                    yield task, failed(*task.arguments, *_why(error, task.timeout)) if error else future.result()
        except BaseException:
            pool.stop()
            raise


def _why(error: BaseException, timeout: float) -> tuple[str, str]:
    """Return the status and the reason for an error that ended a task."""
    if isinstance(error, TimeoutError):
        return "timeout", f"not finished after {timeout:g} s: raise the profile's timeout, or use fewer depths or samples"
    if isinstance(error, ProcessExpired):
        if error.exitcode == -9:
            return "out-of-memory", "the process was killed (signal 9), most likely because memory ran out"
        return "error", f"the process ended with exit code {error.exitcode}"
    return "error", ("" if isinstance(error, InvalidArgument) else f"{type(error).__name__}: ") + first_line(error)


def _prepare_worker(parent: int) -> None:
    """Use one thread, and end with the parent: a killed run must not leave workers behind."""
    torch.set_num_threads(1)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
