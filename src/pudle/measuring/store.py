"""The store: one file per result, named by the hash of all that the result depends on; the lock on
a folder of results, and what runs of a profile left there.
"""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeVar

from filelock import FileLock, Timeout
from msgspec.structs import asdict, replace

from ..errors import ChangedSources, PudleError
from ..files import lies_at, read_each, remove_leftovers, sweep_temporary_folders
from ..kernel_choice import chosen_path
from . import sources
from .case import Case
from .check_results import NOT_CHECKED, check_status
from .provenance import make_results_folder
from .results.cost import CostRecord
from .results.reference import CaseReference
from .results.result import Result
from .results.score import ScoreRecord, Scores
from .selection import Selection
from .stored_files import Record, RunList, StoredFile


class ResultPlace(NamedTuple):
    """Where a result is kept, and its key."""

    path: Path
    key: str


@dataclass
class Store:
    """The results of one profile, as files.

    Writing is atomic, so that a process can be killed at any moment and any number of processes can
    share a store. A file that is damaged counts as missing, so that a run measures it again and
    replaces it.

    Parameters
    ----------
    folder : Path
        Folder of the files; made when first written to.
    profile : str
        Name of the profile.
    device : str
        Device that estimates are computed on.
    commit, dirty : str, bool
        Label of the records that are written: the commit that is measured, and whether files differ
        from it.
    planned : frozenset of str, optional
        Keys under which results may be written, by default all. A result of another key is refused
        with ChangedSources: its sources or data have changed since, and nobody knows which of them
        it comes from.
    """

    folder: Path
    profile: str
    device: str = "cpu"
    commit: str = ""
    dirty: bool = False
    planned: frozenset[str] | None = None

    @property
    def kernels(self) -> str:
        """The path that computations take in this process now, ``numba`` or ``torch``, which
        results depend on.
        """
        return chosen_path()

    def place(self, result: Result[object]) -> ResultPlace:
        """Return the file of a result, whether or not it exists, and its key, of the sources as
        they were first read.
        """
        key = result.key(self)
        return ResultPlace(self.folder / result.file(key), key)

    def unchanged_place(self, result: Result[object]) -> ResultPlace:
        """Return the place of a result to be written; its key is computed anew from the files as
        they are now if the store takes planned results alone.

        ChangedSources says that this key is not among those planned.
        """
        if self.planned is not None:
            sources.forget()
        place = self.place(result)
        if self.planned is not None and place.key not in self.planned:
            raise ChangedSources(
                "sources or data were changed during the run: finished results are kept; run again"
            )
        return place

    def path(self, case: Case, estimator: str) -> Path:
        """Return where the record of an estimator (a spec) on a case is kept, whether or not it
        exists.
        """
        return self.place(Scores(case, estimator)).path

    def reference_path(self, case: Case, seed: int, target: str) -> Path:
        """Return where the reference of a seed is kept, whether or not it exists."""
        return self.place(CaseReference(case, seed, target)).path


@contextlib.contextmanager
def locked(folder: Path, writer: str) -> Iterator[None]:
    """Hold the lock of a folder, or raise PudleError at once if it is held: two commands never
    write to it at once.

    The folder is made if missing. Unfinished files in it, and temporary folders of commands that
    were killed, are removed. `writer` names, for the error text, the command that writes to the
    folder, such as a run.
    """
    make_results_folder(folder)
    try:
        with FileLock(folder / "lock", timeout=0):
            remove_leftovers(folder)
            sweep_temporary_folders()
            yield
    except Timeout:
        raise PudleError(
            f"another {writer} is writing to {folder}: wait for it to end, or choose another --home"
        ) from None


# -- what runs stored

#: Case and estimator, and metric, case, estimator and depth.
Pair = tuple[str, str]
CostCell = tuple[str, str, str, int]

FileKind = TypeVar("FileKind", bound=StoredFile)
Identity = TypeVar("Identity")


@dataclass(frozen=True)
class Stored:
    """The results that a run lists, and their records without the missing and the damaged ones."""

    #: An empty one where the run was of experiments alone.
    selection: Selection
    scores: Mapping[Pair, ScoreRecord]
    #: The costs that the run lists; None for one that is not measured.
    costs: Mapping[CostCell, CostRecord | None]
    #: The files of experiments by name.
    experiments: Mapping[str, Path]
    #: What `pudle check` found of each plug-in, at the latest when it was run.
    checks: Mapping[str, str]
    #: A line for each damaged file, with the remedy.
    damaged: list[str]


def read_all(
    kind: type[FileKind], places: Mapping[Identity, Path], damaged: list[str]
) -> dict[Identity, FileKind]:
    """Return the records of a kind that lie at their places, by identity; one that is missing is
    left out.

    A damaged one, or one of another identity, is left out too and adds a line to the list
    `damaged`.
    """
    return {
        identity: record
        for identity, path in places.items()
        for record in read_each(
            filter(lies_at, [path]), partial(kind.read, identity=identity), damaged
        )
    }


def _run_list(folder: Path, commit: str, damaged: list[str]) -> RunList:
    """Return the list of the last run, or of the last run at a commit; an empty one where there is
    none.

    The list of a clean run counts before one with uncommitted changes. A damaged one adds a line to
    the list `damaged`.
    """
    # A run with uncommitted changes stands for its commit only in what no other run measured, cases
    # or experiments.
    names = [f"runs/{commit}-dirty.json", f"runs/{commit}.json"] if commit else ["run.json"]
    merged = RunList(commit=commit)
    for name in names:
        for listed in read_all(RunList, {commit or None: folder / name}, damaged).values():
            filled = {key: value for key, value in asdict(listed).items() if value}
            merged = replace(merged, **filled)
    return merged


def _clean_places(folder: Path, commit: str) -> set[str]:
    """Return where the scores and costs lie that a run without uncommitted changes listed at a
    commit; none if there was no such run.
    """
    path = folder / "runs" / f"{commit}.json"
    lists = read_all(RunList, {commit: path}, []).values() if commit else ()
    return {str(row[-1]) for listed in lists for row in (*listed.records, *listed.costs)}


def _attribute(record: Record, asked: str, listed_at: str, is_clean: bool) -> None:
    """Let a record bear the commit that it belongs to, and whether files differed from it.

    It carries those of its first measurement. What a clean run lists belongs to that run's commit
    `listed_at`, whichever commit or changes first measured it. With a commit `asked` for it bears
    that one.
    """
    origin = record.provenance
    if is_clean and origin.dirty:
        origin.commit, origin.dirty = listed_at, False
    elif asked and not is_clean:
        origin.dirty = origin.dirty or origin.commit != asked
    origin.commit = asked or origin.commit


def _latest_check_status(key: str, at_run: str) -> str:
    """Return the last result of `pudle check` on a plug-in: that known here or, where none is, that
    at a run.
    """
    known_here = check_status(key)
    return at_run if known_here == NOT_CHECKED else known_here


def read_stored(home: Path, profile: str, commit: str = "") -> Stored:
    """Read the records that the list of a run in a home names: of the last run or, with a `commit`
    (full hash), of the last run at it.

    Files that are damaged are named in the result and nothing is raised; without a list the result
    is empty. See `pudle.reports.load.load`.
    """
    folder, damaged = home / profile, list[str]()
    run, store = _run_list(folder, commit, damaged), folder / "store"
    selection = run.selection or Selection(profile, (), (), (), ())
    pairs = {(case.name, estimator) for case, estimator in selection.pairs}
    scores = {(case, name): store / at for case, name, at in run.records if (case, name) in pairs}
    costs = {
        (metric, case, name, depth): store / at
        for metric, case, name, depth, at in run.costs
        if (case, name) in pairs
    }
    read_scores = read_all(ScoreRecord, scores, damaged)
    read_costs = read_all(CostRecord, costs, damaged)
    clean = {store / place for place in _clean_places(folder, run.commit)}
    for pair, score in read_scores.items():
        _attribute(score, commit, run.commit, scores[pair] in clean)
    for cell, cost in read_costs.items():
        _attribute(cost, commit, run.commit, costs[cell] in clean)
    return Stored(
        selection=selection,
        scores=read_scores,
        costs=dict.fromkeys(costs) | read_costs,
        experiments={name: store / at for name, at in sorted(run.experiments.items())},
        checks={
            name: _latest_check_status(key, at_run) for name, (key, at_run) in run.plugins.items()
        },
        damaged=damaged,
    )
