"""A run: a task for every result that a selection asks for, with what the store has of it, and how
workers here or on a cluster fill in what is missing.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from .. import names, text
from ..algorithms import kernels
from ..errors import UnreadableResult
from ..files import files_in, is_large, write_record
from ..workers import ONE_THREAD, Job, Outcome, Pool
from . import sources
from .case import DTYPES, Case, labels
from .contents import BROKEN, RunList
from .costs import cells, measure_memory, measure_times
from .experiment import ProgressCallback, carry_out, silent
from .history import update_history
from .measurement import measure, stored_reference, write_scores
from .provenance import NoRepository, installed_commit, repository, results_home
from .selection import Selection
from .store import RECORDS, Place, Store, locked, objects
from .surfaces import measure_surface

#: Seconds that compiling the kernels may take, which is a dozen for each dtype on a quiet machine.
MOST_COMPILING = 900.0
#: What a worker does for a task, by kind.
WORK: dict[str, Callable[..., Any]] = {
    "kernels": kernels.prepare,
    "reference": stored_reference,
    "score": measure,
    "surface": measure_surface,
    "cost": measure_memory,
    "times": measure_times,
    "experiment": carry_out,
}
#: Names that a line gives of the results that are without a number for one and the same reason.
MOST_NAMES = 3


@dataclass(eq=False)
class Task:
    """A result that is asked for: its kind, the text to show when it is there, what the function
    that works for it is called with before the store, the seconds that it may take, and its record,
    if there is one.

    One of kind ``times`` has no record but those of its `members`.
    """

    kind: str
    label: str
    what: tuple[Any, ...]
    store: Store
    timeout: float
    record: Any = None
    members: Sequence[Task] = ()

    @functools.cached_property
    def place(self) -> Place:
        """The file of the result, and its key: the digest of all that the result depends on."""
        return self.store.place(self.kind, *self.what)

    @property
    def missing(self) -> bool:
        """Tell whether there is no record, or one of something that broke: it is tried again."""
        return self.record is None or self.record.status in BROKEN

    @property
    def references(self) -> list[Path]:
        """The references that the task reads."""
        most = {"score": None, "surface": 1}.get(self.kind, 0)
        case = self.case
        places = itertools.product(case.seeds[:most], case.targets[:most]) if case else ()
        return [self.store.reference_path(case, *place) for place in places]

    @property
    def case(self) -> Any:
        """The case that is measured, or None."""
        return next((each for each in self.what if isinstance(each, Case)), None)

    @property
    def input_files(self) -> list[tuple[Path, bool]]:
        """The files of the user that the task reads, each with whether it is small enough to travel
        to another machine.

        They are the files that specs name classes in, and those that options name, such as the data
        of a dataset.
        """
        files: dict[Path, bool] = {}
        estimator = self.what[1] if self.kind == "score" else ""
        for each in objects(self.case, estimator) if self.case else ():
            for cls in sources.classes(each):
                files |= dict.fromkeys(names.files_of(cls.__module__), True)
            for name in names.path_options(each):
                if isinstance(value := getattr(each, name), str):
                    path = Path(value).expanduser()
                    large = is_large(path)
                    files |= dict.fromkeys([path] if large else files_in(path), not large)
        return [(path.absolute(), travels) for path, travels in files.items()]

    def planned(self) -> Task:
        """Let the store take the result, and references that it lacks, only under the keys that
        they have now.
        """
        keys = {each.place.key for each in self.members or [self]}
        keys |= {path.stem for path in self.references}
        self.store = replace(self.store, planned=frozenset(keys))
        return self

    def concluded(self, outcome: Outcome) -> Any:
        """Return the result or, of a task that failed, the record that says so, written here."""
        result, status, reason, parts = outcome
        if self.members:
            result = result or [each.concluded(outcome) for each in self.members]
            for each, record in zip(self.members, result, strict=True):
                each.record = record
        if status != "ok":
            if self.kind == "score":
                case, estimator = self.what
                result = write_scores(case, estimator, self.store, status, reason, parts)
            elif self.kind in RECORDS:
                result = self.store.write(self.kind, *self.what, status=status, reason=reason)
        self.record = result
        return result


def survey(selection: Selection, store: Store) -> list[Task]:
    """Return a task for every result of a selection; a damaged file counts as missing."""
    limit, called = selection.timeout, labels({case.name: vars(case) for case in selection.cases})
    tasks = [
        Task("score", f"{pair[1]} on {called[pair[0].name]}", pair, store, limit)
        for pair in selection.pairs
    ]
    surfaces = [
        ("window_surface", case, selection.windows) for case in selection.cases if selection.windows
    ]
    if selection.jacobian_error:
        # The Jacobian of the codes does not depend on the outer loss: the first case stands for
        # all.
        alike = {
            (case.dataset, case.algorithm, case.seeds, case.dtype): case
            for case in reversed(selection.cases)
        }
        surfaces += [("jacobian_error", case, ()) for case in reversed(alike.values())]
    tasks += [
        Task("surface", f"{what[0]} of {called[what[1].name]}", what, store, limit)
        for what in surfaces
        if what[1].make_algorithm().differentiable
    ]
    for cell in cells(selection):
        metric, case, estimator, depth = cell
        what = "memory" if metric == "memory_bytes" else "time"
        label = f"{what} of {estimator} on {called[case.name]} at depth {depth}"
        tasks.append(Task("cost", label, cell, store, limit))
    tasks += [
        Task("experiment", name, (name,), store, selection.experiment_timeout)
        for name in selection.experiments
    ]
    for task in tasks:
        task.record = store.read_at(task.kind, task.place)
    return tasks


def plan(tasks: Iterable[Task]) -> list[list[Task]]:
    """Return those of a survey's tasks whose scores and surfaces are missing, in stages, after what
    they need.
    """
    missing = [
        task.planned() for task in tasks if task.missing and task.kind in ("score", "surface")
    ]
    # Every estimator of a case needs its references: in the same stage, two workers would both
    # compute them.
    references: dict[Path, Task] = {}
    for task in {task.case: task for task in missing if task.kind == "score"}.values():
        for what in itertools.product([task.case], task.case.seeds, task.case.targets):
            label = f"reference of {task.label.partition(' on ')[2]}, seed {what[1]}"
            reference = Task("reference", label, what, task.store, task.timeout)
            if task.store.read_reference(*what) is None:
                references.setdefault(reference.place.path, reference)
    # One process compiles the kernels while the others do what takes none. What is short comes
    # last: all end together.
    first = [task for task in missing if task.what[0] == "jacobian_error"]
    if missing:
        dtypes = {DTYPES[task.case.dtype] for task in missing}
        first.insert(0, Task("kernels", "kernels", (dtypes,), missing[0].store, MOST_COMPILING))
    return [[*first, *references.values()], [task for task in missing if task not in first]]


def plan_costs(tasks: Sequence[Task], *, again: bool = False) -> list[list[Task]]:
    """Return the tasks that measure the missing costs of a survey, or all if `again`, of estimates
    whose scores are ok.

    Memory is measured before time, which one process measures at a time. The times of all cases
    of one problem are measured as a whole, also where one is missing: only those of the same rounds
    can be compared.
    """
    scores = {task.what: task.record for task in tasks if task.kind == "score"}
    memory, times = [], defaultdict(list)
    for task in tasks:
        if task.kind == "cost":
            metric, *pair, depth = task.what
            record = scores[tuple(pair)]
            if record and record.at(depth)["status"] == "ok":
                if metric != "memory_bytes":
                    times[task.case.problem].append(task)
                elif again or task.missing:
                    memory.append(task.planned())
    together = []
    for members in times.values():
        turns = {task.record.turns for task in members if task.record and task.record.value}
        if again or len(turns) > 1 or any(task.missing for task in members):
            first = members[0]
            on = (task.label.partition(" on ")[2].rpartition(" at depth ")[0] for task in members)
            label = f"times on {text.listing([*dict.fromkeys(on)])}"
            what = ([task.what for task in members], first.timeout)
            task = Task("times", label, what, first.store, math.inf, members=members)
            together.append(task.planned())
    return [memory, together]


def fill(
    stages: list[list[Task]],
    workers: int = 1,
    *,
    executor: Any = None,
    progress: ProgressCallback = silent,
) -> dict[str, list[Any]]:
    """Carry out tasks, one stage after the other, and return their results by kind of task.

    They run in `workers` processes of this machine, or where another `executor` runs them: a
    `Pool`, or what runs jobs as it does. A process that runs out of time or memory, or crashes,
    costs its own task only, and of that the depths that are left: its record says so.
    """
    total, done = sum(map(len, stages)), 0
    results = defaultdict(list)
    with contextlib.ExitStack() as stack:
        executor = executor or stack.enter_context(Pool(workers))
        for stage in stages:
            jobs = [
                Job(
                    WORK[task.kind],
                    task.what if task.kind == "kernels" else (*task.what, task.store),
                    task.timeout,
                    task,
                )
                for task in stage
            ]
            outcomes = stack.enter_context(contextlib.closing(executor.run(jobs)))
            for task, outcome in outcomes:
                done += 1
                results[task.kind].append(task.concluded(outcome))
                progress(done, total, task.label)
    return results


class RunSummary(NamedTuple):
    """The profile's folder; how much was measured now; a line for each reason that lies in the
    problem why results have no number; and the name and the reason of each result where something
    broke.
    """

    folder: Path
    counts: list[str]
    findings: list[str]
    broken: list[tuple[str, str]]


def execute(
    selection: Selection,
    *,
    home: Path | None,
    workers: int | None = None,
    scores_only: bool = False,
    again: bool = False,
    progress: ProgressCallback = silent,
    cluster: contextlib.AbstractContextManager[Any] | None = None,
) -> RunSummary:
    """Carry out a run, in `workers` processes of this machine, at most and by default one per core;
    with a `cluster`, see `pudle.measuring.cluster.dask_cluster`, scores and experiments run there.

    Outside any repository results have no commit, and no history is written; the version and the
    digest of the sources label them everywhere. A run is refused, before anything is written, if
    the installed package is not the checkout's, or another run holds the profile's folder.
    """
    cores = os.cpu_count() or 1
    workers = min(workers or cores, cores)
    root, commit, dirty = None, "", False
    with contextlib.suppress(NoRepository):
        root = repository(Path.cwd())
        commit, dirty = installed_commit(root)
    folder = (home or results_home()).resolve() / selection.profile
    store = Store(folder / "store", selection.profile, selection.device, commit, dirty)
    with locked(folder, "run"):
        tasks = begin(store, selection)
        os.environ.update(ONE_THREAD)
        with cluster or Pool(workers) as executor:
            fill_here = functools.partial(fill, executor=executor, progress=progress)
            records = fill_here(plan(tasks))
            if not scores_only:
                # On this machine, because on others they could not be compared with those stored;
                # in new processes, because memory that scores have given back would hide what a
                # gradient takes.
                stages = plan_costs(tasks, again=again)
                for stage, processes in zip(stages, (workers, 1), strict=True):
                    measured = fill([stage], processes, progress=progress)
                    records["cost"] += itertools.chain(measured["cost"], *measured["times"])
            missing = [
                each.planned() for each in tasks if each.kind == "experiment" and each.missing
            ]
            records["experiment"] = fill_here([missing])["experiment"]
        # A case without kernels has no time on the torch path beside its own: that is nothing to
        # tell.
        failed = [
            (task, f"{task.record.status}: {task.record.reason}")
            for task in tasks
            if task.record
            and task.record.status != "ok"
            and (task.record.status, task.what[0]) != ("skipped", "seconds_torch")
            and not (scores_only and task.kind == "cost")
        ]
        # Nobody asked for the surfaces that a case cannot have.
        findings = by_reason(
            (task.label, why) for task, why in failed if not task.missing and task.kind != "surface"
        )
        broken = [(task.label, why) for task, why in failed if task.missing]
        # Numbers of uncommitted code have no place in a history of commits.
        if root and selection.cases and not scores_only and not dirty:
            broken += update_history(folder, root, commit)
    here = " on this machine, not on the cluster" if cluster else ""
    costs = text.count(len(records["cost"]), "time or memory", "times and memories")
    counts = [
        *_counted(records["score"], len(selection.pairs), "scores computed"),
        *([f"{costs} measured now{here}"] if records["cost"] else []),
        *_counted(records["experiment"], len(selection.experiments), "experiments carried out"),
    ]
    return RunSummary(folder, counts, findings, broken)


def _counted(records: Sequence[Any], total: int, what: str) -> list[str]:
    """Return how many records of a total are new, and how many of these have which status."""
    statuses = Counter(record.status for record in records)
    some = [f"{number} {status}" for status, number in sorted(statuses.items())]
    return [f"{len(records)} of {total} {what} now", *some] if total else []


def by_reason(results: Iterable[tuple[str, str]]) -> list[str]:
    """Return a text for each reason that results have, after the names of the first of these and
    how many more there are.
    """
    labels = defaultdict(list)
    for label, reason in results:
        labels[reason].append(label)
    texts = []
    for reason, those in labels.items():
        more = len(those) - MOST_NAMES
        first = ", ".join(those[:MOST_NAMES]) + (f" and {more} more" if more > 0 else "")
        texts.append(f"{first}: {reason}")
    return texts


def begin(store: Store, selection: Selection) -> list[Task]:
    """Freeze a selection and write down which files hold its results, for the folder and for the
    commit; return its tasks, which say what is there already.

    It is written first, so that it holds for a run that is interrupted; what a run of experiments,
    or of cases alone, does not select stays listed.
    """
    folder, tasks = store.folder.parent, survey(selection, store)
    frozen = folder / "selection.json"
    if selection.cases or not frozen.exists():
        write_record(frozen, selection)

    def places(kind: str) -> list[Any]:
        return [
            (
                *(getattr(each, "name", each) for each in task.what),
                task.place.path.relative_to(store.folder).as_posix(),
            )
            for task in tasks
            if task.kind == kind
        ]

    # A run with uncommitted changes must not pass for the commit it started from.
    named = folder / "runs" / f"{store.commit}{'-dirty' * store.dirty}.json"
    for path in (folder / "run.json", *[named] * bool(store.commit)):
        run = RunList(commit=store.commit, dirty=store.dirty)
        # One that is damaged or of an older version begins anew.
        with contextlib.suppress(UnreadableResult):
            run = RunList.read(path)
            run.commit, run.dirty = store.commit, store.dirty
        if selection.cases:
            run.selection, run.records, run.costs = selection, places("score"), places("cost")
            run.artifacts = [
                (task.case.name, task.what[0], task.place.key)
                for task in tasks
                if task.kind == "surface"
            ]
        run.experiments |= dict(places("experiment"))
        run.write(path)
    return tasks


def take_part(store: Store, selection: Selection, case: Case, estimator: str) -> None:
    """Begin a run, for a result that is measured outside `execute`, unless one that holds it has
    begun.
    """
    place = str(store.path(case, estimator).relative_to(store.folder))
    with contextlib.suppress(UnreadableResult):
        run = RunList.read(store.folder.parent / "run.json")
        if (case.name, estimator, place) in run.records:
            return
    begin(store, selection)
