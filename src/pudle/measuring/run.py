"""One run: freeze the selection, then fill the store with scores, costs and experiments."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from .. import names
from ..errors import UnreadableResult
from ..files import read_json, write_atomically
from ..peers import require
from ..workers import ONE_THREAD, Pool
from ..workers import run as run_command
from .case import Case
from .contents import RunList
from .experiment import ProgressCallback
from .locking import locked
from .provenance import NoRepository, installed_commit, repository
from .runner import fill, plan, plan_costs, plan_experiments, surfaces
from .selection import Selection
from .statuses import BROKEN
from .store import Store
from .survey import Result, Survey, survey

#: Said once where results cannot be told apart by commits.
NO_HISTORY = (
    "no git repository here: the results carry the version and a digest of the sources, and no"
    " history is kept"
)

#: Names that a line gives of the results that are without a number for one and the same reason.
MOST_NAMES = 3


class RunSummary(NamedTuple):
    """The profile's folder, the new results by kind of task, and lines about results without a
    number.

    `findings` has a line for each reason that lies in the problem, and `broken` the name and the
    reason of each result where something broke.
    """

    folder: Path
    records: dict[str, list[Any]]
    findings: list[str]
    broken: list[tuple[str, str]]


def execute(
    selection: Selection,
    *,
    home: Path | None,
    workers: int,
    scores_only: bool,
    again: bool,
    progress: ProgressCallback,
    scheduler: str | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> RunSummary:
    """Carry out a run, in `workers` processes of this machine; with a Dask `scheduler`, scores and
    experiments run there.

    `say` is called with lines for the user about the scheduler, see
    `pudle.measuring.cluster.dask_cluster`.

    Outside any repository results have no commit, and no history is written; the version and the
    digest of the sources label them everywhere. A run is refused, before anything is written, if
    the installed package is not the checkout's, or another run holds the profile's folder.
    """
    root, commit, dirty = None, "", False
    with contextlib.suppress(NoRepository):
        root = repository(Path.cwd())
        commit, dirty = installed_commit(root)
    folder = (home or (root or Path.cwd()) / ".asv").resolve() / selection.profile
    store = Store(folder / "store", selection.profile, selection.device, commit, dirty)
    with locked(folder, "run"):
        stored = begin(folder, store, selection)
        os.environ.update(ONE_THREAD)
        with _executor(scheduler, selection.device, say, workers) as executor:
            fill_here = partial(fill, executor=executor, progress=progress)
            records = fill_here(plan(selection, store, stored))
            stored.update(records)
            if not scores_only:
                # On this machine, because on others they could not be compared with those stored;
                # in new processes, because memory that scores have given back would hide what a
                # gradient takes.
                memory, times = plan_costs(selection, store, stored, again=again)
                with Pool(workers) as processes:
                    peaks = fill([memory], executor=processes, progress=progress)
                seconds = fill([times], progress=progress)
                records |= {"memory": peaks["memory"], "time": seconds["time"]}
            experiments = fill_here(plan_experiments(selection, store, stored))
        stored.update(experiments)
        records["experiment"] = experiments["experiment"]
        findings, broken = _judged(stored, records)
        if not root and not scores_only:
            findings.append(NO_HISTORY)
        # Numbers of uncommitted code have no place in a history of commits.
        if root and selection.cases and not scores_only and not dirty:
            broken += update_history(folder, root, commit)
        return RunSummary(folder, records, findings, broken)


def _judged(
    stored: Survey, records: Mapping[str, Sequence[Any]]
) -> tuple[list[str], list[tuple[str, str]]]:
    """Return a line for each reason why results have no number, and the names and reasons of those
    that broke.
    """
    measured = [(f"{spec} on {case}", result) for (case, spec), result in stored.scores.items()]
    measured += list(stored.experiments.items())
    measured += [
        (f"{kind} of {record.estimator} on {record.case} at depth {record.depth}", record)
        for kind in ("memory", "time")
        for record in records[kind]
        # A case without kernels has no time on the torch path beside its own: that is nothing to
        # tell.
        if (record.metric, record.status) != ("seconds_torch", "skipped")
    ]
    told = [
        (name, result.status, f"{result.status}: {result.reason}")
        for name, result in measured
        if result.reason or result.status not in ("", "ok")
    ]
    broken = [(name, reason) for name, status, reason in told if status in BROKEN]
    return by_reason(
        (name, reason) for name, status, reason in told if status not in BROKEN
    ), broken


def by_reason(results: Iterable[tuple[str, str]]) -> list[str]:
    """Return a text for each reason that results have, after the names of the first of these and
    how many more there are.
    """
    names = defaultdict[str, list[str]](list)
    for name, reason in results:
        names[reason].append(name)
    return [f"{_first(those)}: {reason}" for reason, those in names.items()]


def _first(names: Sequence[str]) -> str:
    more = len(names) - MOST_NAMES
    return ", ".join(names[:MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


def _executor(
    scheduler: str | None, device: str, say: Callable[[str], None], workers: int
) -> contextlib.AbstractContextManager[Any]:
    """Return where scores and experiments run: on this machine, if there is no scheduler."""
    if scheduler is None:
        return Pool(workers)
    require("distributed", "scale")
    from .cluster import dask_cluster

    return dask_cluster(scheduler, device, say)


def begin(folder: Path, store: Store, selection: Selection) -> Survey:
    """Freeze a selection and write down which files hold its results, for the folder and for the
    commit; return what is there already.

    It is written first, so that it holds for a run that is interrupted; what a run of experiments,
    or of cases alone, does not select stays listed.
    """
    frozen, stored = folder / "selection.json", survey(selection, store)
    if selection.cases or not frozen.exists():
        selection.write(frozen)

    def place(result: Result) -> str:
        return str(result.path.relative_to(store.folder))

    # A run with uncommitted changes must not pass for the commit it started from.
    label = f"{store.commit}{'-dirty' if store.dirty else ''}"
    of_commit = [folder / "runs" / f"{label}.json"] if store.commit else []
    for path in (folder / "run.json", *of_commit):
        run = RunList(commit=store.commit, dirty=store.dirty)
        # One that is damaged or of an older version begins anew.
        with contextlib.suppress(UnreadableResult):
            if path.exists():
                run = RunList.read(path)
                run.commit, run.dirty = store.commit, store.dirty
        if selection.cases:
            run.selection = selection
            run.records = [(*pair, place(result)) for pair, result in stored.scores.items()]
            run.costs = [(*cell.label, place(result)) for cell, result in stored.costs.items()]
            run.artifacts = [
                (case.name, kind, store.artifact_place(kind, case, windows)[1])
                for kind, case, windows in surfaces(selection)
            ]
        run.experiments |= {name: place(result) for name, result in stored.experiments.items()}
        run.write(path)
    return stored


def take_part(folder: Path, store: Store, selection: Selection, case: Case, estimator: str) -> None:
    """Begin a run, for a result that is measured outside `execute`, unless one that holds it has
    begun.
    """
    place = str(store.path(case, estimator).relative_to(store.folder))
    with contextlib.suppress(UnreadableResult):
        if (case.name, estimator, place) in RunList.read(folder / "run.json").records:
            return
    begin(folder, store, selection)


def update_history(folder: Path, root: Path, commit: str) -> list[tuple[str, str]]:
    """Write asv's results of a commit from the store, unless they are those of the files that the
    run lists; return what failed and why.
    """
    run, path = RunList.read(folder / "run.json"), folder / "runs" / f"{commit}.history"
    listed = [record[-1] for record in run.records] + [cost[-1] for cost in run.costs]
    places = [folder / "store" / place for place in listed]
    changed = [(file.name, file.stat().st_mtime_ns if file.exists() else None) for file in places]
    state = hashlib.sha256(repr((run.selection, changed)).encode()).hexdigest()
    if has_history(folder, commit) and path.exists() and path.read_text() == state:
        return []
    configuration = write_asv_configuration(folder, root)
    command = [sys.executable, "-m", "pudle.measuring.history", str(configuration), commit]
    # Paths in the selection are seen from the folder that this process works in.
    done = run_command(command)
    if done.returncode:
        why = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        return [("asv's history of commits was not written", why)]
    write_atomically(path, state)
    return []


def has_history(folder: Path, commit: str) -> bool:
    """Return whether asv's results of a commit are there and whole."""
    for path in folder.glob(f"results/*/{commit[:8]}-*.json"):
        with contextlib.suppress(UnreadableResult):
            if read_json(path).get("commit_hash") == commit:
                return True
    return False


def write_asv_configuration(folder: Path, repository: Path) -> Path:
    """Write asv's configuration and return its path: existing environments, with the results in the
    same folder.

    The commits of `repository` label the results.
    """
    path, benchmarks = folder / "asv.conf.json", names.entries("benchmarks")["asv"]
    content = {
        "version": 1,
        "project": "pudle",
        "repo": os.path.relpath(repository, folder),
        "branches": ["HEAD"],
    }
    content |= {
        "environment_type": "existing",
        "benchmark_dir": os.path.relpath(benchmarks.__path__[0], folder),
    }
    # asv works in the folder of its configuration, which can therefore be copied elsewhere with all
    # that it names.
    content |= {f"{name}_dir": name for name in ("results", "html", "env")}
    write_atomically(path, json.dumps(content, indent=1))
    return path
