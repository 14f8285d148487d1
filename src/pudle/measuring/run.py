"""One run: freeze the selection, then fill the store with scores, costs and experiments."""

import contextlib
import itertools
import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import UnreadableResult
from ..peers import require
from ..text import count
from ..workers import ONE_THREAD, Pool
from .case import Case
from .contents import RunList
from .experiment import ProgressCallback, silent
from .history import update_history
from .provenance import NoRepository, installed_commit, repository
from .runner import Task, fill, plan, plan_costs, plan_experiments, survey
from .selection import Selection
from .store import Store, locked

#: Said once where results cannot be told apart by commits.
NO_HISTORY = (
    "no git repository here: the results carry the version and a digest of the sources, and no"
    " history is kept"
)
#: Names that a line gives of the results that are without a number for one and the same reason.
MOST_NAMES = 3


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
    home: Path | None = None,
    workers: int | None = None,
    scores_only: bool = False,
    again: bool = False,
    progress: ProgressCallback = silent,
    scheduler: str | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> RunSummary:
    """Carry out a run, in `workers` processes of this machine, at most and by default one per core;
    with a Dask `scheduler`, scores and experiments run there.

    `say` is called with lines for the user about the scheduler, see
    `pudle.measuring.cluster.dask_cluster`.

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
    folder = (home or (root or Path.cwd()) / ".asv").resolve() / selection.profile
    store = Store(folder / "store", selection.profile, selection.device, commit, dirty)
    with locked(folder, "run"):
        tasks = begin(store, selection)
        os.environ.update(ONE_THREAD)
        workplace: contextlib.AbstractContextManager[Any] = Pool(workers)
        if scheduler is not None:
            require("distributed", "scale")
            from .cluster import dask_cluster

            workplace = dask_cluster(scheduler, selection.device, say)
        with workplace as executor:
            fill_here = partial(fill, executor=executor, progress=progress)
            records = fill_here(plan(tasks))
            if not scores_only:
                # On this machine, because on others they could not be compared with those stored;
                # in new processes, because memory that scores have given back would hide what a
                # gradient takes.
                memory, times = plan_costs(tasks, again=again)
                for stage, processes in ((memory, workers), (times, 1)):
                    measured = fill([stage], processes, progress=progress)
                    records["cost"] += itertools.chain(measured["cost"], *measured["times"])
            records |= {"experiment": fill_here(plan_experiments(tasks))["experiment"]}
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
        if not root and not scores_only:
            findings.append(NO_HISTORY)
        # Numbers of uncommitted code have no place in a history of commits.
        if root and selection.cases and not scores_only and not dirty:
            broken += update_history(folder, root, commit)
    here = " on this machine, not on the cluster" if scheduler else ""
    costs = count(len(records["cost"]), "time or memory", "times and memories")
    counts = [
        *_counted(records["score"], len(selection.pairs), "scores computed"),
        *([f"{costs} measured now{here}"] if records["cost"] else []),
        *_counted(records["experiment"], len(selection.experiments), "experiments carried out"),
    ]
    return RunSummary(folder, counts, findings, broken)


def _counted(records: Sequence[Any], total: int, what: str) -> list[str]:
    """Return how many records of a total are new, and how many of these have which status."""
    statuses = sorted(Counter(record.status for record in records).items())
    some = [f"{number} {status}" for status, number in statuses]
    return [f"{len(records)} of {total} {what} now", *some] if total else []


def by_reason(results: Iterable[tuple[str, str]]) -> list[str]:
    """Return a text for each reason that results have, after the names of the first of these and
    how many more there are.
    """
    labels = defaultdict[str, list[str]](list)
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
        selection.write(frozen)

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
