"""The files of a run and its store, one type for each; a selection is the other.

Each has a line with the digest of all else, and a reader refuses a file whose digest is another.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from msgspec import Struct, convert, defstruct, field

from ..files import read_record, write_record
from .case import Case
from .scoring import ERRORS
from .selection import Selection
from .statuses import STATUSES, worst

#: Number of the format of records; part of every record's key, and what readers check.
SCHEMA = 4
Version: Any = Literal[SCHEMA]
Status: Any = Literal[STATUSES]


class StoredFile(Struct, kw_only=True):
    """What is read from a file, and written to it, as a whole."""

    schema: Version = SCHEMA

    @classmethod
    def read(cls, path: Path, identity: Any = None) -> Self:
        """Read a file, or raise UnreadableResult; with an `identity`, it must hold that result."""
        return read_record(path, cls, identity)

    def write(self, path: Path) -> None:
        """Write a file, atomically."""
        write_record(path, self)


class Record(StoredFile, kw_only=True):
    """What every result has: its key, what became of it, and where it comes from.

    A table's row is a mapping from plain names to plain values; a number that is not finite is
    stored as null.
    """

    key: str
    status: Status = "ok"
    reason: str = ""
    provenance: dict[str, Any]


_FIELDS: Any = [("seed", int), ("depth", int), ("target", str), ("status", Status, "ok")]
#: What readers rely on in a row of scores.
_ROW: Any = defstruct("_ROW", _FIELDS + [(name, float | None, None) for name in ERRORS])


class ScoreRecord(Record, kw_only=True):
    """The scores of one estimator on one case.

    A row of `scores` has seed, depth, target, the fields of a `pudle.Score` and diagnostics; one of
    `references` has seed, target, the fields of a certificate, the step and the contraction factor.
    """

    case: Case
    estimator: str
    computes: str
    consistent_for: list[str] | None
    #: Whether the case's algorithm leads to the minimizer, as others do, and whether its iterations
    #: can be differentiated.
    proximal: bool = True
    differentiable: bool = True
    scores: list[dict[str, Any]]
    references: list[dict[str, Any]]
    seconds: float | None

    def __post_init__(self) -> None:
        convert(self.scores, list[_ROW])

    @property
    def identity(self) -> tuple[str, str]:
        """Case and estimator."""
        return self.case.name, self.estimator

    def at(self, depth: int, target: str | None = None) -> Mapping[str, str]:
        """Return status and reason at one depth (and target), or those of the whole record where it
        has no such depth.

        An estimator that diverges at a large depth still has a time and a peak memory at smaller
        ones.
        """
        rows = [row for row in self.scores if row["depth"] == depth]
        return worst(
            [row for row in rows if target in (None, row["target"])]
            or [{"status": self.status, "reason": self.reason}]
        )


class CostRecord(Record, kw_only=True):
    """A time or memory of one estimator on one case at one depth."""

    metric: str
    case: str
    estimator: str
    depth: int
    value: float | None = None
    #: A time in each round, and a text that is the same for all that was measured in these rounds:
    #: only then the k-th time of one can be compared with that of another.
    samples: list[float] = []
    turns: str = ""
    #: The memory of the process without the estimate.
    baseline: float | None = None

    @property
    def identity(self) -> tuple[str, str, str, int]:
        """Metric, case, estimator and depth, as a cell's label."""
        return self.metric, self.case, self.estimator, self.depth


class ExperimentRecord(Record, kw_only=True):
    """The result of one experiment; the digest is that of the file of its arrays."""

    kind: str
    study: str
    name: str
    options: dict[str, Any]
    summary: dict[str, Any] = {}
    rows: list[dict[str, Any]] = []
    arrays: list[str] = []
    arrays_digest: str = ""
    seconds: float | None = None

    @property
    def identity(self) -> str:
        """The experiment's name."""
        return self.name


class Artifact(Record, kw_only=True):
    """A surface or curve of one case, on one seed."""

    kind: str
    case: str
    seed: int
    rows: list[dict[str, Any]] = []

    @property
    def identity(self) -> tuple[str, str]:
        """Case and kind."""
        return self.case, self.kind


class RunList(StoredFile, kw_only=True):
    """What a run selects, and which files of the store hold its results.

    A record is kept as long as nothing that it depends on changes, and carries the commit that
    first measured it. Without this list nobody could tell which of the records in a store belong
    together.
    """

    commit: str
    dirty: bool
    #: None for a run of experiments alone.
    selection: Selection | None = None
    #: Case, estimator and place.
    records: list[tuple[str, str, str]] = []
    #: Metric, case, estimator, depth and place.
    costs: list[tuple[str, str, str, int, str]] = []
    #: Case, kind and key of surfaces and curves: one file holds those of all keys in turn.
    artifacts: list[tuple[str, str, str]] = []
    #: Place by name.
    experiments: dict[str, str] = field(default_factory=dict)

    @property
    def identity(self) -> str:
        """The commit."""
        return self.commit


class Rounds(StoredFile, kw_only=True):
    """Times of two commits measured in turns; see `pudle.measuring.commits.turns`."""

    #: Rows with case, estimator, depth, round, reason, base and head.
    rounds: list[dict[str, Any]]
    #: Whether a time limit has left something out.
    partial: bool = False
    #: Why each side lacks something, by side and name.
    lacking: dict[str, dict[str, str]] = {}
