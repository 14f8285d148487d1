"""Fill the store: every missing result becomes a task, which runs in a process that can be killed
without harm.
"""

from __future__ import annotations

import contextlib
from typing import Any

from .case import DTYPES, Case
from .executors import Executor, LocalProcesses
from .experiment import ProgressCallback, silent
from .selection import Selection
from .store import Store
from .survey import Survey, survey
from .tasks import WORK, Task, planned

#: Seconds that compiling the kernels may take, which is a dozen for each dtype on a quiet machine.
MOST_COMPILING = 900.0


def surfaces(selection: Selection) -> list[tuple[str, Case, tuple[int, ...]]]:
    """Return kind, case and windows of the surfaces and curves that a selection measures beside its
    scores.
    """
    found = [
        ("window_surface", case, selection.windows) for case in selection.cases if selection.windows
    ]
    return found + [
        ("jacobian_error", case, ()) for case in selection.cases if selection.jacobian_error
    ]


def plan(selection: Selection, store: Store, known: Survey | None = None) -> list[list[Task]]:
    """Return the tasks for the scores and surfaces that the store lacks, in stages: the second
    needs the first.

    What is `known` of the store is not read again.
    """
    scores = (known or survey(selection, store)).scores
    pairs = [
        (case, estimator)
        for case, estimator in selection.pairs
        if scores[case.name, estimator].missing
    ]
    # Every estimator of a case needs its references: in the same stage, two workers would both
    # compute them.
    needed = [
        (case, seed, target) for case, _ in pairs for seed in case.seeds for target in case.targets
    ]
    references = {
        store.reference_path(*item): item for item in needed if store.read_reference(*item) is None
    }
    missing = [surface for surface in surfaces(selection) if not store.has_artifact(*surface)]

    def task(kind: str, label: str, *arguments: Any, key: str = "") -> Task:
        return planned(kind, label, (*arguments, store), selection.timeout, key)

    # One process compiles the kernels while the others do what takes none. What is short comes
    # last: all end together.
    dtypes = {
        DTYPES[case.dtype]
        for case in [case for case, _ in pairs] + [case for _, case, _ in missing]
    }
    first = [Task("kernels", "kernels", (dtypes,), MOST_COMPILING)] if dtypes else []
    second = [
        task(
            "score",
            f"{estimator} on {case.name}",
            case,
            estimator,
            key=scores[case.name, estimator].path.stem,
        )
        for case, estimator in pairs
    ]
    for kind, case, windows in missing:
        stage = first if kind == "jacobian_error" else second
        stage.append(task("surface", f"{kind} of {case.name}", kind, case, windows))
    first += [
        task("reference", f"reference of {item[0].name}, seed {item[1]}", *item)
        for item in references.values()
    ]
    return [first, second]


def plan_costs(
    selection: Selection,
    store: Store,
    known: Survey | None = None,
    *,
    again: bool = False,
) -> list[list[Task]]:
    """Return the tasks for the costs that the store lacks, or for all if `again`, of estimates
    whose scores are ok.

    Memory is measured before time, which one process
    measures at a time.
    """
    known = known or survey(selection, store)
    stages: dict[str, list[Task]] = {"memory": [], "time": []}
    for cell, found in known.costs.items():
        if known.scores[cell.case.name, cell.estimator].at(cell.depth) == "ok" and (
            again or found.missing
        ):
            kind = "memory" if cell.metric == "memory_bytes" else "time"
            label = f"{kind} of {cell.estimator} on {cell.case.name} at depth {cell.depth}"
            stages[kind].append(
                planned(kind, label, (cell, store), selection.timeout, found.path.stem)
            )
    return list(stages.values())


def plan_experiments(
    selection: Selection, store: Store, known: Survey | None = None
) -> list[list[Task]]:
    """Return the tasks for the experiments that the store lacks."""
    missing = {
        name: found
        for name, found in (known or survey(selection, store)).experiments.items()
        if found.missing
    }
    return [
        [
            planned(
                "experiment", name, (name, store), selection.experiment_timeout, found.path.stem
            )
            for name, found in missing.items()
        ]
    ]


def fill(
    stages: list[list[Task]],
    workers: int = 1,
    *,
    executor: Executor | None = None,
    progress: ProgressCallback = silent,
) -> dict[str, list[Any]]:
    """Carry out tasks, one stage after the other, and return their results by kind of task.

    They run in `workers` processes of this machine, or where another `executor` runs them. A
    process that runs out of time or memory, or crashes, costs its own task only, and of that the
    depths that are left: its record says so. The results are records, but for those of kind
    ``reference`` and ``surface``.
    """
    total = sum(map(len, stages))
    results: dict[str, list[Any]] = {kind: [] for kind in WORK}
    done = 0
    with contextlib.ExitStack() as stack:
        executor = executor or stack.enter_context(LocalProcesses(min(workers, max(total, 1))))
        for stage in stages:
            for task, result in stack.enter_context(contextlib.closing(executor.run(stage))):
                done += 1
                results[task.kind].append(result)
                progress(done, total, task.label)
    return results
