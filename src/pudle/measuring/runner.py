"""Fill the store: every missing result becomes a task for workers, here or on a cluster."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from .. import names
from ..algorithms import kernels
from ..files import files_in, is_large
from ..names import make_dataset, make_estimator
from ..workers import Job, Outcome, Pool
from . import sources
from .case import DTYPES, Case
from .costs import fail_cost, measure_cost
from .experiment import ProgressCallback, carry_out, fail_experiment, silent
from .measurement import fail_scores, measure, store_reference
from .selection import Selection
from .store import Store
from .surfaces import fail_surface, measure_surface
from .survey import Survey, survey

#: Seconds that compiling the kernels may take, which is a dozen for each dtype on a quiet machine.
MOST_COMPILING = 900.0


class Kind(NamedTuple):
    """What a worker does for a task, what writes down its failure here, and the method of a store
    that places its result.
    """

    work: Callable[..., Any]
    fail: Callable[..., Any]
    place: str = ""


KINDS = {
    # The scores that need a reference give the reason why there is none.
    "reference": Kind(store_reference, lambda *_, **__: None, "reference_path"),
    "score": Kind(measure, fail_scores, "path"),
    "surface": Kind(measure_surface, fail_surface, "artifact_place"),
    "kernels": Kind(kernels.prepare, lambda *_, **__: None),
    "memory": Kind(measure_cost, fail_cost, "cost_path"),
    "time": Kind(measure_cost, fail_cost, "cost_path"),
    "experiment": Kind(carry_out, fail_experiment, "experiment_path"),
}


class Task(NamedTuple):
    """A missing result: its kind, the text to show when it is there, what its kind's functions are
    called with, and the seconds that it may take.

    The last argument is the store; only a task of kind ``kernels`` has none, and names dtypes.
    """

    kind: str
    label: str
    arguments: tuple[Any, ...]
    timeout: float

    @property
    def job(self) -> Job:
        """The work of the task, known by the task."""
        return Job(KINDS[self.kind].work, self.arguments, self.timeout, self)

    def concluded(self, outcome: Outcome) -> Any:
        """Return the result or, of a task that failed, the record that says so, written here."""
        if outcome.status == "ok":
            return outcome.result
        kept = {"parts": outcome.parts} if outcome.parts else {}
        fail = KINDS[self.kind].fail
        return fail(*self.arguments, outcome.status, outcome.reason, **kept)

    @property
    def place(self) -> tuple[Path, str]:
        """The file of the result, and its key: the digest of all that the result depends on."""
        *what, store = self.arguments
        place = getattr(store, KINDS[self.kind].place)(*what)
        return (place, place.stem) if isinstance(place, Path) else place

    @property
    def case(self) -> Case | None:
        """The case that is measured, if it is one."""
        return next((each for each in self.arguments if isinstance(each, Case)), None)

    @property
    def references(self) -> list[Path]:
        """The references that the task reads."""
        case, store = self.case, self.arguments[-1]
        if case is None or self.kind == "reference":
            return []
        first = None if self.kind == "score" else 1
        places = itertools.product(case.seeds[:first], case.targets[:first])
        return [store.reference_path(case, *place) for place in places]

    @property
    def input_files(self) -> list[tuple[Path, bool]]:
        """The files of the user that the task reads, each with whether it is small enough to travel
        to another machine.

        They are the files that specs name classes in, and those that options name, such as the data
        of a dataset.
        """
        if self.case is None:
            return []
        made = [make_dataset(self.case.dataset), self.case.make_algorithm()]
        made += [make_estimator(self.arguments[1])] if self.kind == "score" else []
        classes = itertools.chain(*map(sources.classes, made))
        files = [(path, True) for cls in classes for path in names.files_of(cls.__module__)]
        for each in made:
            for value in (getattr(each, name) for name in names.path_options(each)):
                if isinstance(value, str):
                    path = Path(value).expanduser()
                    if is_large(path):
                        files.append((path, False))
                    else:
                        files += [(file, True) for file in files_in(path)]
        return [(path.absolute(), travels) for path, travels in dict.fromkeys(files)]


def planned(kind: str, label: str, arguments: Sequence[Any], timeout: float, key: str = "") -> Task:
    """Return a task whose store takes its result, and references that it lacks, only under the keys
    that they have now.

    The result's own `key` is given where it is known.
    """
    task = Task(kind, label, tuple(arguments), timeout)
    keys = {key or task.place[1], *(path.stem for path in task.references)}
    store = dataclasses.replace(arguments[-1], planned=frozenset(keys))
    return task._replace(arguments=(*arguments[:-1], store))


def surfaces(selection: Selection) -> list[tuple[str, Case, tuple[int, ...]]]:
    """Return kind, case and windows of the surfaces and curves that a selection measures beside its
    scores.
    """
    windows, errors = selection.windows, selection.jacobian_error
    cases = selection.cases
    surfaces = [("window_surface", case, windows) for case in cases if windows]
    return surfaces + [("jacobian_error", case, ()) for case in cases if errors]


def plan(selection: Selection, store: Store, stored: Survey | None = None) -> list[list[Task]]:
    """Return the tasks for the scores and surfaces that the store lacks, in stages: the second
    needs the first.

    What a survey says is `stored` is not read again.
    """
    scores = (stored or survey(selection, store)).scores
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
    # One process compiles the kernels while the others do what takes none. What is short comes
    # last: all end together.
    dtypes = {DTYPES[case.dtype] for case in [pair[0] for pair in pairs] + [s[1] for s in missing]}
    stages = [[Task("kernels", "kernels", (dtypes,), MOST_COMPILING)] if dtypes else [], []]

    def add(stage: int, kind: str, label: str, *arguments: Any, key: str = "") -> None:
        stages[stage].append(planned(kind, label, (*arguments, store), selection.timeout, key))

    for case, estimator in pairs:
        key = scores[case.name, estimator].path.stem
        add(1, "score", f"{estimator} on {case.name}", case, estimator, key=key)
    for kind, case, windows in missing:
        stage = 0 if kind == "jacobian_error" else 1
        add(stage, "surface", f"{kind} of {case.name}", kind, case, windows)
    for case, seed, target in references.values():
        add(0, "reference", f"reference of {case.name}, seed {seed}", case, seed, target)
    return stages


def plan_costs(
    selection: Selection,
    store: Store,
    stored: Survey | None = None,
    *,
    again: bool = False,
) -> list[list[Task]]:
    """Return the tasks for the costs that the store lacks, or for all if `again`, of estimates
    whose scores are ok.

    Memory is measured before time, which one process measures at a time.
    """
    stored = stored or survey(selection, store)
    stages: dict[str, list[Task]] = {"memory": [], "time": []}
    for cell, found in stored.costs.items():
        if stored.scores[cell.case.name, cell.estimator].at(cell.depth) == "ok" and (
            again or found.missing
        ):
            kind = "memory" if cell.metric == "memory_bytes" else "time"
            label = f"{kind} of {cell.estimator} on {cell.case.name} at depth {cell.depth}"
            cost = planned(kind, label, (cell, store), selection.timeout, found.path.stem)
            stages[kind].append(cost)
    return list(stages.values())


def plan_experiments(
    selection: Selection, store: Store, stored: Survey | None = None
) -> list[list[Task]]:
    """Return the tasks for the experiments that the store lacks."""
    experiments = (stored or survey(selection, store)).experiments
    timeout = selection.experiment_timeout
    return [
        [
            planned("experiment", name, (name, store), timeout, found.path.stem)
            for name, found in experiments.items()
            if found.missing
        ]
    ]


def fill(
    stages: list[list[Task]],
    workers: int = 1,
    *,
    executor: Any = None,
    progress: ProgressCallback = silent,
) -> dict[str, list[Any]]:
    """Carry out tasks, one stage after the other, and return their results by kind of task.

    They run in `workers` processes of this machine, or where another `executor` runs them: a
    `Pool`, or what runs jobs as it does. A
    process that runs out of time or memory, or crashes, costs its own task only, and of that the
    depths that are left: its record says so. The results are records, but for those of kind
    ``reference`` and ``surface``.
    """
    total, done = sum(map(len, stages)), 0
    results: dict[str, list[Any]] = {kind: [] for kind in KINDS}
    with contextlib.ExitStack() as stack:
        executor = executor or stack.enter_context(Pool(min(workers, max(total, 1))))
        for stage in stages:
            # Two times measured at once would disturb each other.
            most = 1 if stage and stage[0].kind == "time" else None
            outcomes = executor.run([task.job for task in stage], most)
            for task, outcome in stack.enter_context(contextlib.closing(outcomes)):
                done += 1
                results[task.kind].append(task.concluded(outcome))
                progress(done, total, task.label)
    return results
