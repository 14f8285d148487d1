"""Read what runs of a profile stored: the list of a run, and the records that it names."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from msgspec.structs import replace

from pudle.errors import MissingResults, UnreadableResult
from pudle.files import lies_at, read_each
from pudle.measuring.case import Case
from pudle.measuring.contents import CostRecord, RunList, ScoreRecord, StoredFile
from pudle.reports.records import ExperimentRecord

#: Case and estimator, and metric, case, estimator and depth.
Pair = tuple[str, str]
CostCell = tuple[str, str, str, int]

Kind = TypeVar("Kind", bound=StoredFile)
Identity = TypeVar("Identity")


@dataclass(frozen=True)
class Stored:
    """The records of a run by what they are of, without the missing and the damaged ones."""

    #: The selected cases, and the selected estimators.
    cases: Mapping[Pair, Case]
    estimators: tuple[str, ...]
    scores: Mapping[Pair, ScoreRecord]
    #: The costs that the run lists; None for one that is not measured.
    costs: Mapping[CostCell, CostRecord | None]
    experiments: Mapping[str, ExperimentRecord]
    #: A line for each damaged file, with the remedy.
    damaged: list[str]


@dataclass(frozen=True)
class _Folder:
    """The folder of a profile; `damaged` gets a line for each file that cannot be read."""

    place: Path
    damaged: list[str]

    def read(self, kind: type[Kind], places: Mapping[Identity, str]) -> dict[Identity, Kind]:
        """Return records by their identities."""
        return {
            identity: record
            for identity, place in places.items()
            for record in read_each(
                filter(lies_at, [self.place / place]),
                partial(kind.read, identity=identity),
                self.damaged,
            )
        }

    def run_list(self, commit: str) -> RunList:
        """Return the list of the last run, or of the last run at a commit."""
        # A run with uncommitted changes stands for its commit only in what no other run measured,
        # cases or experiments.
        names = [f"runs/{commit}-dirty.json", f"runs/{commit}.json"] if commit else ["run.json"]
        merged = RunList(commit=commit, dirty=False)
        for name in names:
            for listed in self.read(RunList, {commit or None: name}).values():
                values = {field: getattr(listed, field) for field in listed.__struct_fields__}
                merged = replace(merged, **{key: each for key, each in values.items() if each})
        return merged


def read_stored(home: Path, profile: str, commit: str = "") -> Stored:
    """Read the records that the list of a run names, see `pudle.reports.load.load`."""
    folder = _Folder(home / profile, [])
    run = folder.run_list(commit)
    pairs = run.selection.pairs if run.selection else ()
    cases = {(case.name, estimator): case for case, estimator in pairs}
    experiments = {name: f"store/{place}" for name, place in sorted(run.experiments.items())}
    scores = {
        (case, estimator): f"store/{place}"
        for case, estimator, place in run.records
        if (case, estimator) in cases
    }
    costs = {
        (metric, case, estimator, depth): f"store/{place}"
        for metric, case, estimator, depth, place in run.costs
        if (case, estimator) in cases
    }
    stored = Stored(
        cases=cases,
        estimators=run.selection.estimators if run.selection else (),
        experiments=folder.read(ExperimentRecord, experiments),
        scores=folder.read(ScoreRecord, scores),
        costs=dict.fromkeys(costs) | folder.read(CostRecord, costs),
        damaged=folder.damaged,
    )
    if not stored.scores and not stored.experiments:
        if folder.damaged:
            raise UnreadableResult("; ".join(folder.damaged))
        instead = f"run `pudle run --profile {profile}` first"
        if lies_at(home / "selection.json"):
            instead = f"{home} is a profile's own folder, did you mean --home {home.parent}?"
        raise MissingResults(f"no results for profile {profile!r} under {folder.place}: {instead}")
    return stored
