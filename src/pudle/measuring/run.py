"""One run: freeze the selection, then fill the store with scores, costs and experiments."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from .. import names
from ..errors import UnreadableResult
from ..files import read_json, write_atomically
from ..peers import require
from ..workers import ONE_THREAD, Pool
from ..workers import run as run_command
from .contents import RunList
from .experiment import ProgressCallback
from .locking import locked
from .provenance import NoRepository, check_installed, commit_of, repository
from .runner import Executor, fill, plan, plan_costs, plan_experiments, surfaces
from .selection import Selection
from .statuses import BROKEN
from .store import Store
from .survey import Survey, survey

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

    def __repr__(self) -> str:
        counts = [f"{len(results)} {kind}" for kind, results in self.records.items() if results]
        counts += [
            f"{len(lines)} {name}"
            for name, lines in (("findings", self.findings), ("broken", self.broken))
            if lines
        ]
        return f"RunSummary({', '.join(counts) or 'nothing new'}; {self.folder})"


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
    if root:
        check_installed(root)
        commit, dirty = commit_of(root)
    folder = (home or (root or Path.cwd()) / ".asv").resolve() / selection.profile
    store, frozen = (
        Store(folder / "store", selection.profile, selection.device, commit, dirty),
        folder / "selection.json",
    )
    with locked(folder, "run"):
        # A run of experiments alone must not make a report forget the cases that were measured
        # before.
        if selection.cases or not frozen.exists():
            selection.write(frozen)
        known = survey(selection, store)
        remember(folder, store, selection, known)
        os.environ.update(ONE_THREAD)
        with _executor(scheduler, selection.device, say, workers) as executor:
            records = fill(plan(selection, store, known), executor=executor, progress=progress)
            known.update(records)
            if not scores_only:
                # On this machine, because on others they could not be compared with those stored;
                # in new processes, because memory that scores have given back would hide what a
                # gradient takes.
                memory, times = plan_costs(selection, store, known, again=again)
                with Pool(workers) as processes:
                    records |= {
                        "memory": fill([memory], executor=processes, progress=progress)["memory"]
                    }
                records |= {"time": fill([times], progress=progress)["time"]}
            experiments = fill(
                plan_experiments(selection, store, known), executor=executor, progress=progress
            )
        known.update(experiments)
        records |= {"experiment": experiments["experiment"]}
        measured = [
            (f"{spec} on {case}", found.status, found.reason)
            for (case, spec), found in known.scores.items()
        ]
        measured += [
            (name, found.status, found.reason) for name, found in known.experiments.items()
        ]
        for kind in ("memory", "time"):
            for record in records[kind]:
                # A case without kernels has no time on the torch path beside its own: that is
                # nothing to tell.
                if record.metric == "seconds_torch" and record.status == "skipped":
                    continue
                where = f"{record.estimator} on {record.case} at depth {record.depth}"
                measured.append((f"{kind} of {where}", record.status, record.reason))
        broken, found = list[tuple[str, str]](), list[tuple[str, str]]()
        for name, status, reason in measured:
            if status and (status != "ok" or reason):
                (broken if status in BROKEN else found).append((name, f"{status}: {reason}"))
        summary = RunSummary(folder, records, by_reason(found), broken)
        if not root and not scores_only:
            summary.findings.append(NO_HISTORY)
        # Numbers of uncommitted code have no place in a history of commits.
        if root and selection.cases and not scores_only and not dirty:
            state, written = _state(selection, known), folder / "runs" / f"{commit}.history"
            if (
                not has_history(folder, commit)
                or not written.exists()
                or written.read_text() != state
            ):
                failed = _write_history(folder, root, commit)
                summary.broken.extend(failed)
                if not failed:
                    write_atomically(written, state)
    return summary


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
) -> contextlib.AbstractContextManager[Executor]:
    """Return where scores and experiments run: on this machine, if there is no scheduler."""
    if scheduler is None:
        return Pool(workers)
    require("distributed", "scale")
    from .cluster import dask_cluster

    return dask_cluster(scheduler, device, say)


def remember(folder: Path, store: Store, selection: Selection, known: Survey) -> None:
    """Write down which files hold the results of this run, for the folder and for the commit.

    It is written first, so that it holds for a run that is interrupted; what a run of experiments,
    or of cases alone, does not select stays listed.
    """

    def place(path: Path) -> str:
        return str(path.relative_to(store.folder))

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
            run.records = [(*pair, place(found.path)) for pair, found in known.scores.items()]
            run.costs = [(*cell.label, place(found.path)) for cell, found in known.costs.items()]
            run.artifacts = [
                (case.name, kind, store.artifact_place(kind, case, windows)[1])
                for kind, case, windows in surfaces(selection)
            ]
        run.experiments |= {name: place(found.path) for name, found in known.experiments.items()}
        run.write(path)


def _state(selection: Selection, known: Survey) -> str:
    """Return a digest of the selection and of the stored scores and costs that asv's history of a
    commit is made of.
    """
    paths = [found.path for found in (*known.scores.values(), *known.costs.values())]
    files = [(path.name, path.stat().st_mtime_ns if path.exists() else None) for path in paths]
    return hashlib.sha256(repr((selection, files)).encode()).hexdigest()


def has_history(folder: Path, commit: str) -> bool:
    """Return whether asv's results of a commit are there and whole."""
    for path in folder.glob(f"results/*/{commit[:8]}-*.json"):
        with contextlib.suppress(UnreadableResult):
            if read_json(path).get("commit_hash") == commit:
                return True
    return False


def _write_history(folder: Path, root: Path, commit: str) -> list[tuple[str, str]]:
    """Write asv's results of a commit from the store; return what failed and why, or nothing."""
    configuration = write_asv_configuration(folder, root)
    command = [sys.executable, "-m", "pudle.measuring.history", str(configuration), commit]
    # Paths in the selection are seen from the folder that this process works in.
    done = run_command(command)
    why = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
    return [("asv's history of commits was not written", why)] if done.returncode else []


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
