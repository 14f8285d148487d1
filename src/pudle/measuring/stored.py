"""Read what runs of a profile stored: the list of a run, and the records that it names."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Generic, TypeVar

from msgspec.structs import asdict, replace

from ..errors import MissingResults, UnreadableResult
from ..files import lies_at, read_each
from .case import Case
from .checked import NOT_CHECKED, verdict
from .contents import RunList, StoredFile
from .results.cost import CostRecord
from .results.experiment import ExperimentRecord
from .results.score import ScoreRecord

#: Case and estimator, and metric, case, estimator and depth.
Pair = tuple[str, str]
CostCell = tuple[str, str, str, int]

Kind = TypeVar("Kind", bound=StoredFile)
Experiment = TypeVar("Experiment", bound=ExperimentRecord)
Identity = TypeVar("Identity")


@dataclass(frozen=True)
class Stored(Generic[Experiment]):
    """The records of a run by what they are of, without the missing and the damaged ones."""

    #: The selected cases, and the selected estimators.
    cases: Mapping[Pair, Case]
    estimators: tuple[str, ...]
    scores: Mapping[Pair, ScoreRecord]
    #: The costs that the run lists; None for one that is not measured.
    costs: Mapping[CostCell, CostRecord | None]
    #: The costs at depths that answers name: others than those that all estimators are timed at.
    of_answers: frozenset[CostCell]
    experiments: Mapping[str, Experiment]
    #: What `pudle check` found of each plug-in, at the latest when it was run.
    checks: Mapping[str, str]
    #: A line for each damaged file, with the remedy.
    damaged: list[str]


def _read(
    kind: type[Kind], folder: Path, places: Mapping[Identity, str], damaged: list[str]
) -> dict[Identity, Kind]:
    """Return records by their identities; a damaged one adds a line to a list."""
    return {
        identity: record
        for identity, place in places.items()
        for record in read_each(
            filter(lies_at, [folder / place]), partial(kind.read, identity=identity), damaged
        )
    }


def _run_list(folder: Path, commit: str, damaged: list[str]) -> RunList:
    """Return the list of the last run, or of the last run at a commit."""
    # A run with uncommitted changes stands for its commit only in what no other run measured, cases
    # or experiments.
    names = [f"runs/{commit}-dirty.json", f"runs/{commit}.json"] if commit else ["run.json"]
    merged = RunList(commit=commit, dirty=False)
    for name in names:
        for listed in _read(RunList, folder, {commit or None: name}, damaged).values():
            stated = {key: each for key, each in asdict(listed).items() if each}
            merged = replace(merged, **stated)
    return merged


def read_stored(
    home: Path, profile: str, kind: type[Experiment], commit: str = ""
) -> Stored[Experiment]:
    """Read the records that the list of a run names, see `pudle.reports.load.load`; `kind` is the
    type of those of experiments.
    """
    folder, damaged = home / profile, list[str]()
    run, store = _run_list(folder, commit, damaged), folder / "store"
    pairs = run.selection.pairs if run.selection else ()
    cases = {(case.name, estimator): case for case, estimator in pairs}
    scores = {
        (case, estimator): place
        for case, estimator, place in run.records
        if (case, estimator) in cases
    }
    costs = {
        (metric, case, estimator, depth): place
        for metric, case, estimator, depth, place in run.costs
        if (case, estimator) in cases
    }
    stored = Stored(
        cases=cases,
        estimators=run.selection.estimators if run.selection else (),
        experiments=_read(kind, store, dict(sorted(run.experiments.items())), damaged),
        scores=_read(ScoreRecord, store, scores, damaged),
        of_answers=frozenset(
            cell
            for cell in costs
            if run.selection
            and run.selection.timed_errors
            and cell[-1] not in run.selection.timed_depths
        ),
        costs=dict.fromkeys(costs) | _read(CostRecord, store, costs, damaged),
        checks={
            name: said if (now := verdict(key)) == NOT_CHECKED else now
            for name, (key, said) in run.plugins.items()
        },
        damaged=damaged,
    )
    if not stored.scores and not stored.experiments:
        if damaged:
            raise UnreadableResult("; ".join(damaged))
        instead = f"run `pudle run --profile {profile}` first"
        if lies_at(home / "selection.json"):
            instead = f"{home} is a profile's own folder, did you mean --home {home.parent}?"
        raise MissingResults(f"no results for profile {profile!r} under {folder}: {instead}")
    return stored
