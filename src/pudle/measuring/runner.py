"""Fill the store: every missing result becomes a task, which runs in a process that can be killed without harm."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator, Iterable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch

from ..algorithms import kernels
from .costs import cells, fail_cost, measure_cost
from .experiment import ProgressCallback, carry_out, fail_experiment, silent
from .measurement import fail_scores, measure, store_reference
from .pool import Job, Pool
from .selection import Selection
from .statuses import BROKEN, at_depth
from .store import Store
from .surfaces import fail_surface, measure_surface

#: Seconds that compiling the kernels may take, which is some twenty on a quiet machine.
MOST_COMPILING = 900.0
#: For each kind of task the function that does the work in another process, and the one that writes down its failure here.
#: A failed reference is not written down, because the scores that need it give the reason.
WORK: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "reference": (store_reference, lambda *_: None),
    "score": (measure, fail_scores),
    "surface": (measure_surface, fail_surface),
    "kernels": (kernels.prepare, lambda *_: None),
    "memory": (measure_cost, fail_cost),
    "time": (measure_cost, fail_cost),
    "experiment": (carry_out, fail_experiment),
}


class Task(NamedTuple):
    """A piece of work for another process: its kind, the text to show when it ends, arguments, and seconds it may take."""

    kind: str
    label: str
    arguments: tuple[Any, ...]
    timeout: float


def plan(selection: Selection, store: Store) -> list[list[Task]]:
    """Return the tasks for the scores and surfaces that the store lacks, in stages: the second needs the first."""
    pairs = [pair for pair in selection.pairs if _missing(store.read(*pair))]
    # Every estimator of a case needs its references: in the same stage, two workers would both compute them.
    needed = [(case, seed, target) for case, _ in pairs for seed in case.seeds for target in case.targets]
    references = {store.reference_path(*item): item for item in needed if store.read_reference(*item) is None}
    surfaces = [("window_surface", case, selection.windows) for case in selection.cases if selection.windows]
    surfaces += [("jacobian_error", case, ()) for case in selection.cases if selection.jacobian_error]
    surfaces = [surface for surface in surfaces if not store.has_artifact(*surface)]

    def task(kind: str, label: str, *arguments: Any) -> Task:
        return Task(kind, label, (*arguments, store), selection.timeout)

    # One process compiles the kernels while the others do what takes none.
    first = [Task("kernels", "kernels", (), MOST_COMPILING)] if pairs or surfaces else []
    first += [task("reference", f"reference of {item[0].name}, seed {item[1]}", *item) for item in references.values()]
    second = [task("score", f"{estimator} on {case.name}", case, estimator) for case, estimator in pairs]
    for kind, case, windows in surfaces:
        stage = first if kind == "jacobian_error" else second
        stage.append(task("surface", f"{kind} of {case.name}", kind, case, windows))
    return [first, second]


def plan_costs(selection: Selection, store: Store, path: Path, *, again: bool = False) -> list[list[Task]]:
    """Return the tasks for the costs that the store lacks, or for all if `again`, of estimates whose scores are ok.

    The file at `path` holds the selection. Memory is measured before time, which one process measures at a time.
    """
    records = {(case.name, estimator): store.read(case, estimator) for case, estimator in selection.pairs}
    stages: dict[str, list[Task]] = {"memory": [], "time": []}
    for cell in cells(selection):
        record = records[cell.case.name, cell.estimator]
        if record and at_depth(record, cell.depth)["status"] == "ok" and (again or _missing(store.read_cost(cell))):
            kind = "memory" if cell.metric == "memory_bytes" else "time"
            label = f"{kind} of {cell.estimator} on {cell.case.name} at depth {cell.depth}"
            stages[kind].append(Task(kind, label, (cell, path, store), selection.timeout))
    return list(stages.values())


def plan_experiments(selection: Selection, store: Store) -> list[list[Task]]:
    """Return the tasks for the experiments that the store lacks."""
    names = [name for name in selection.experiments if _missing(store.read_experiment(name))]
    return [[Task("experiment", name, (name, store), selection.experiment_timeout) for name in names]]


def _missing(record: dict[str, Any] | None) -> bool:
    """Return whether there is no record, or one that says that something broke, which is tried again."""
    return record is None or record["status"] in BROKEN


def fill(stages: list[list[Task]], workers: int, *, progress: ProgressCallback = silent) -> dict[str, list[Any]]:
    """Carry out tasks in worker processes of one thread each, and return their results by kind of task.

    A worker that runs out of time or memory, or crashes, costs its own task only, and of that the depths that are left: its
    record says so. The results are records, but for those of kind ``reference`` and ``surface``.
    """
    total = sum(map(len, stages))
    results: dict[str, list[Any]] = {kind: [] for kind in WORK}
    with contextlib.closing(run_tasks(stages, min(workers, max(total, 1)))) as finished:
        for done, (task, result) in enumerate(finished, start=1):
            results[task.kind].append(result)
            progress(done, total, task.label)
    return results


def run_tasks(stages: Iterable[Iterable[Task]], workers: int) -> Generator[tuple[Task, Any], None, None]:
    """Run stages of tasks in worker processes, one stage after the other, and yield every task that ends with its result.

    Nothing else knows where tasks run, so that another executor can take the place of this function.
    """
    with Pool(workers, _prepare_worker) as pool:
        for stage in map(list, stages):
            jobs = [Job(task, partial(_carry_out, task.kind, task.arguments), task.timeout) for task in stage]
            # Two times measured at once would disturb each other.
            for task, outcome in pool.run(jobs, most=1 if stage and stage[0].kind == "time" else None):
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
