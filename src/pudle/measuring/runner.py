"""Fill the store: every missing result becomes a task, which runs in a process that can be killed without harm."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterable
from functools import partial
from typing import Any, NamedTuple

import torch

from .experiment import ProgressCallback, carry_out, fail_experiment, silent
from .measurement import fail_scores, measure, store_reference
from .pool import Job, Pool
from .selection import Selection
from .statuses import BROKEN
from .store import Store
from .surfaces import fail_surface, measure_surface

#: For each kind of task the function that does the work in another process, and the one that writes down its failure here.
#: A failed reference is not written down, because the scores that need it give the reason.
WORK: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "reference": (store_reference, lambda *_: None),
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

    A worker that runs out of time or memory, or crashes, costs its own task only, and of that the depths that are left: the
    record says so. The results of kind
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
    with Pool(workers, _prepare_worker) as pool:
        for stage in stages:
            jobs = [Job(task, partial(_carry_out, task.kind, task.arguments), task.timeout) for task in stage]
            for task, outcome in pool.run(jobs):
                result = outcome.result
                if outcome.status != "ok":
                    kept = {"parts": outcome.parts} if outcome.parts else {}
                    result = WORK[task.kind][1](*task.arguments, outcome.status, outcome.reason, **kept)
                yield task, result


def _carry_out(kind: str, arguments: tuple[Any, ...], keep: Callable[[Any], None]) -> Any:
    """Do the work of a task in its worker; scores are kept depth by depth."""
    return WORK[kind][0](*arguments, **({"keep": keep} if kind == "score" else {}))


def _prepare_worker() -> None:
    torch.set_num_threads(1)
