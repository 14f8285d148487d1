"""A run from its beginning to its summary: `pudle run`, and results of experiments apart."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path

from ..workers import ONE_THREAD, Pool
from .experiment import ExperimentResult, ProgressCallback, silent
from .grouping import grouped
from .history import update_history
from .provenance import NoRepository, installed_commit, repository, results_home
from .results.cost import NO_KERNEL, PRELOADED
from .results.experiment import CarriedExperiment
from .results.reference import CaseReference
from .run import Run
from .selection import Selection
from .stages import Executor
from .store import Store, locked
from .stored_files import BROKEN, RunList

#: Names that a line gives of the results that are without a number for one and the same reason.
MOST_NAMES = 3


def store_of(selection: Selection, home: Path | None) -> tuple[Store, Path | None]:
    """Return the store of a selection in a home, by default the repository's, and the root of the
    repository around the working folder, None outside any.

    Nothing is made or written. Outside any repository the home is ``.asv`` in the working folder,
    and results have no commit; the version and the digest of the sources label them everywhere.
    PudleError says that the installed package is not the checkout's. Runs git.
    """
    root, commit, dirty = None, "", False
    with contextlib.suppress(NoRepository):
        root = repository(Path.cwd())
        commit, dirty = installed_commit(root)
    folder = (home or results_home()).resolve() / selection.profile
    return Store(folder / "store", selection.profile, selection.device, commit, dirty), root


@dataclass(frozen=True)
class RunSummary:
    """The end of a run.

    Attributes
    ----------
    folder : Path
        The profile's folder.
    counts : list of str
        How much was measured now.
    findings : list of str
        A line for each reason, lying in the problem, why results have no number.
    broken : list of pairs of str
        The name and the reason of each result where something broke.
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
    remeasure: bool = False,
    progress: ProgressCallback = silent,
    cluster: contextlib.AbstractContextManager[Executor] | None = None,
) -> RunSummary:
    """Carry out a run: measure what is missing, write it to the store, and return a summary.

    Scores and experiments run in `workers` processes of this machine, at most and by default one
    per core or, with a `cluster` (see `pudle.measuring.cluster.dask_cluster`), there; costs always
    run here. With `scores_only` no time and no memory is measured, with `remeasure` all are, also
    those that are stored. `progress` is called after each task.

    A run is refused, before anything is written, if the installed package is not the checkout's, or
    another run holds the profile's folder. asv's history is written for a clean commit of a
    repository, if there are cases and costs. Sets the environment variables of this process to one
    thread, lastingly.
    """
    cores = os.cpu_count() or 1
    workers = min(workers or cores, cores)
    store, root = store_of(selection, home)
    with locked(store.folder.parent, "run"):
        run = Run(selection, store)
        run.begin()
        os.environ.update(ONE_THREAD)
        with cluster or Pool(workers, module=PRELOADED) as executor:
            measured_now = run.fill(
                executor,
                workers=workers,
                costs=not scores_only,
                remeasure=remeasure,
                progress=progress,
            )
        findings, broken = _sort_failures(run, scores_only)
        # Numbers of uncommitted code have no place in a history of commits.
        if root and selection.cases and not scores_only and not store.dirty:
            broken += update_history(run.folder, root, store.commit)
    where = " on this machine, not on the cluster" if cluster else ""
    return RunSummary(run.folder, run.counts(measured_now, where), by_reason(findings), broken)


def _sort_failures(
    run: Run, scores_only: bool
) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """Return the label, and the status with its reason, of each result without a number: first the
    findings about an estimator or a problem, then the results where something broke, references and
    the compilation of kernels included.

    In neither are scores that lack nothing but a reference, which is there itself, and times on the
    torch path that are skipped because no kernel applies.
    """
    findings: list[tuple[str, str]] = []
    broken = [
        (task.label, f"{status.status}: {status.reason}") for task, status in run.unrecorded.items()
    ]
    # The reasons that `Scores.measure` gives.
    of_failed_references = {
        (status.status, f"the reference of seed {result.seed} failed: {status.reason}")
        for work, status in run.unrecorded.items()
        for result in work.results
        if isinstance(result, CaseReference)
    }
    for result, status in run.failures(costs=not scores_only):
        if status in of_failed_references:
            continue
        if status == ("skipped", NO_KERNEL):
            # A case without kernels has no time on the torch path beside its own.
            continue
        failure = run.label(result), f"{status.status}: {status.reason}"
        if status.status in BROKEN:
            broken.append(failure)
        else:
            findings.append(failure)
    return findings, broken


def by_reason(failures: Iterable[tuple[str, str]]) -> list[str]:
    """Return a text for each reason that results have, after the names of the first three of these
    and how many more there are.

    A failure is a label and a reason.
    """
    texts = []
    for reason, group in grouped(failures, itemgetter(1)).items():
        names = ", ".join(label for label, _ in group[:MOST_NAMES])
        if len(group) > MOST_NAMES:
            names += f" and {len(group) - MOST_NAMES} more"
        texts.append(f"{names}: {reason}")
    return texts


def write_apart(
    folder: Path, carried_out: Iterable[tuple[CarriedExperiment, ExperimentResult]], device: str
) -> None:
    """Write results of experiments, which need not be registered, into a folder of their own, which
    `pudle report` reads like that of a run.

    The records lie in ``store``, and ``run.json``, which lists these experiments alone, replaces
    one that is there; they have no commit.
    """
    store = Store(folder / "store", folder.name, device)
    run = RunList(commit="")
    for carried, result in carried_out:
        carried.write_result(store, result)
        run.experiments[carried.name] = carried.file(carried.key(store))
    run.write(folder / "run.json")
