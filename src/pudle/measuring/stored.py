"""Read what runs of a profile stored: the list of a run, and the records that it names."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from msgspec.structs import asdict, replace

from ..files import lies_at, read_each
from .checked import NOT_CHECKED, verdict
from .contents import RunList, StoredFile
from .results.cost import CostRecord
from .results.score import ScoreRecord
from .selection import Selection

#: Case and estimator, and metric, case, estimator and depth.
Pair = tuple[str, str]
CostCell = tuple[str, str, str, int]

Kind = TypeVar("Kind", bound=StoredFile)
Identity = TypeVar("Identity")


@dataclass(frozen=True)
class Stored:
    """What a run lists, and its records by what they are of, without the missing and the damaged
    ones.
    """

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
    kind: type[Kind], places: Mapping[Identity, Path], damaged: list[str]
) -> dict[Identity, Kind]:
    """Return records by their identities; a damaged one adds a line to a list."""
    return {
        identity: record
        for identity, path in places.items()
        for record in read_each(
            filter(lies_at, [path]), partial(kind.read, identity=identity), damaged
        )
    }


def _run_list(folder: Path, commit: str, damaged: list[str]) -> RunList:
    """Return the list of the last run, or of the last run at a commit."""
    # A run with uncommitted changes stands for its commit only in what no other run measured, cases
    # or experiments.
    names = [f"runs/{commit}-dirty.json", f"runs/{commit}.json"] if commit else ["run.json"]
    merged = RunList(commit=commit, dirty=False)
    for name in names:
        for listed in read_all(RunList, {commit or None: folder / name}, damaged).values():
            stated = {key: each for key, each in asdict(listed).items() if each}
            merged = replace(merged, **stated)
    return merged


def read_stored(home: Path, profile: str, commit: str = "") -> Stored:
    """Read what the list of a run names, see `pudle.reports.load.load`."""
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
    return Stored(
        selection=selection,
        scores=read_all(ScoreRecord, scores, damaged),
        costs=dict.fromkeys(costs) | read_all(CostRecord, costs, damaged),
        experiments={name: store / at for name, at in sorted(run.experiments.items())},
        checks={
            name: said if (now := verdict(key)) == NOT_CHECKED else now
            for name, (key, said) in run.plugins.items()
        },
        damaged=damaged,
    )
