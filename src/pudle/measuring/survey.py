"""What a store holds of a selection: where each result is kept, found once, and its status, read
once.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import UnreadableResult
from ..files import read_struct
from .contents import CostRecord, ExperimentRecord, ScoreRecord
from .costs import Cell, cells
from .selection import Selection
from .statuses import BROKEN, worst
from .store import Store


@dataclass(frozen=True)
class Found:
    """A result: where it is kept and, if it is there, its status and reason; of scores also the
    worst of each depth.
    """

    path: Path
    status: str = ""
    reason: str = ""
    depths: Mapping[int, str] = field(default_factory=dict)

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
    """The results of a selection: scores by case and estimator, costs by cell, experiments by name."""

    scores: dict[tuple[str, str], Found]
    costs: dict[Cell, Found]
    experiments: dict[str, Found]

    def update(self, records: Mapping[str, Iterable[Mapping[str, Any]]]) -> None:
        """Take over the records of scores and experiments, by kind, that were measured since."""
        for record in records["score"]:
            name = record["case"]["name"], record["estimator"]
            self.scores[name] = _found(
                self.scores[name].path, record["status"], record["reason"], record["scores"]
            )
        for record in records["experiment"]:
            name = record["name"]
            self.experiments[name] = Found(
                self.experiments[name].path, record["status"], record["reason"]
            )


def survey(selection: Selection, store: Store) -> Survey:
    """Look for all results of a selection; a damaged file counts as missing."""
    pairs = {(case.name, spec): store.path(case, spec) for case, spec in selection.pairs}
    scores = {pair: _read(path, ScoreRecord, pair) for pair, path in pairs.items()}
    costs = {
        cell: _read(path, CostRecord, cell.label)
        for cell, path in store.cost_paths(cells(selection)).items()
    }
    experiments = {
        name: _read(store.experiment_path(name), ExperimentRecord, name)
        for name in selection.experiments
    }
    return Survey(scores, costs, experiments)


def _read(path: Path, kind: Any, identity: Any) -> Found:
    try:
        record = read_struct(path, kind, identity)
    except UnreadableResult:
        return Found(path)
    rows = [
        {"depth": row.depth, "status": row.status, "reason": ""}
        for row in getattr(record, "scores", ())
    ]
    return _found(path, record.status, record.reason, rows)


def _found(path: Path, status: str, reason: str, rows: Iterable[Mapping[str, Any]]) -> Found:
    by_depth: dict[int, list[Mapping[str, Any]]] = {}
    for row in rows:
        by_depth.setdefault(row["depth"], []).append(row)
    return Found(
        path, status, reason, {depth: worst(those)["status"] for depth, those in by_depth.items()}
    )
