"""What a store holds of a selection: where each result is kept, found once, and its status, read
once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import UnreadableResult
from .contents import CostRecord, ExperimentRecord, Record, ScoreRecord
from .costs import Cell, cells
from .selection import Selection
from .statuses import BROKEN
from .store import Store


@dataclass(frozen=True)
class Result:
    """Where a result is kept and, if it is there, its status and reason; of scores also the status
    at each depth.
    """

    path: Path
    status: str = ""
    reason: str = ""
    depths: Mapping[int, str] = field(default_factory=dict)

    @classmethod
    def of(cls, path: Path, record: Record) -> Result:
        """Return what a record says."""
        depths: dict[int, str] = {}
        if isinstance(record, ScoreRecord):
            depths = {depth: record.at(depth)["status"] for depth in record.case.depths}
        return cls(path, record.status, record.reason, depths)

    @property
    def missing(self) -> bool:
        """Return whether there is no record, or one that says that something broke, which is tried
        again.
        """
        return not self.status or self.status in BROKEN

    def at(self, depth: int) -> str:
        """Return the status at one depth, or that of the whole where it has no such depth."""
        return self.depths.get(depth, self.status)


@dataclass(frozen=True)
class Survey:
    """Results of a selection: scores by case and estimator, costs by cell, experiments by name."""

    scores: dict[tuple[str, str], Result]
    costs: dict[Cell, Result]
    experiments: dict[str, Result]

    def update(self, records: Mapping[str, Iterable[Any]]) -> None:
        """Take over the records of scores and experiments, by kind, that were measured since."""
        for kind, results in (("score", self.scores), ("experiment", self.experiments)):
            for record in records[kind]:
                name = record.identity
                results[name] = Result.of(results[name].path, record)


def survey(selection: Selection, store: Store) -> Survey:
    """Look for all results of a selection; a damaged file counts as missing."""
    pairs = {(case.name, spec): store.path(case, spec) for case, spec in selection.pairs}
    costs = store.cost_paths(cells(selection))
    experiments = {name: store.experiment_path(name) for name in selection.experiments}
    return Survey(
        {pair: _read(path, ScoreRecord, pair) for pair, path in pairs.items()},
        {cell: _read(path, CostRecord, cell.label) for cell, path in costs.items()},
        {name: _read(path, ExperimentRecord, name) for name, path in experiments.items()},
    )


def _read(path: Path, kind: type[Record], identity: Any) -> Result:
    try:
        return Result.of(path, kind.read(path, identity))
    except UnreadableResult:
        return Result(path)
