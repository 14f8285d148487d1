"""The files of a run and its store, one type for each; a selection is the other.

Each has a line with the digest of all else, and a reader refuses a file whose digest is another.
"""

from collections.abc import Iterable, Mapping
from dataclasses import fields
from operator import attrgetter
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from msgspec import Meta, Struct, convert, defstruct

from ..files import read_record, write_record
from ..references.records import Certificate
from .case import Case
from .scoring import ERRORS
from .selection import Selection

#: Statuses of a measurement, from good to bad; the index of one is the code that asv's
#: `track_status` records.
STATUSES = (
    "ok",
    "skipped",
    "unsupported",
    "degenerate",
    "uncertified",
    "diverged",
    "timeout",
    "out-of-memory",
    "error",
)
#: Statuses that mean that something broke, as opposed to a finding about an estimator; a later run
#: tries these again.
BROKEN = ("timeout", "out-of-memory", "error")
#: Number of the format of records; part of every record's key, and what readers check.
SCHEMA = 4
#: A row of a table, or what a record holds, by name.
Row = dict[str, Any]
Version: Any = Literal[SCHEMA]
Status: Any = Literal[STATUSES]
#: Whole numbers that floats hold, and what costs are possible.
Whole = Annotated[int, Meta(ge=0, le=2**53)]
Cost = Annotated[float, Meta(ge=0, le=1e18)]


def _mapping(optional: Iterable[str], kind: Any = float, **required: Any) -> Any:
    """Return the type of what readers rely on in a mapping, which may hold more."""
    return defstruct(
        "Mapping", [*required.items(), *((name, kind | None, None) for name in optional)]
    )


_PLACE = {"seed": Whole, "target": str, "reason": str}
_ROW: Any = _mapping(ERRORS, depth=Whole, status=Status, **_PLACE)
_REFERENCE: Any = _mapping(
    ["bound", "gradient_norm", "step", "rho", *(each.name for each in fields(Certificate))],
    status=str,
    **_PLACE,
)
_POINT: Any = _mapping(["window", "relative_error"], depth=Whole)
_ORIGIN = _mapping(["commit", "machine", "system", "blas"], str, date=str)


def worst(rows: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Return the status and the reason of the worst row; of several that are equally bad, those of
    the first.
    """
    row = max(rows, key=lambda row: STATUSES.index(row["status"]))
    return {"status": row["status"], "reason": row["reason"]}


class StoredFile(Struct, kw_only=True):
    """What is read from a file, and written to it, as a whole; its ``identity`` says what it is
    of.
    """

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
    provenance: dict[str, str | int | float | bool | None]

    def __post_init__(self) -> None:
        convert(self.provenance, _ORIGIN)


class ScoreRecord(Record, kw_only=True):
    """The scores of one estimator on one case.

    A row of `scores` has seed, depth, target, the fields of a `pudle.Score` and diagnostics; one of
    `references` has seed, target, the fields of a certificate, the step and the contraction factor.
    """

    identity = property(attrgetter("case.name", "estimator"))
    case: Case
    estimator: str
    computes: str
    consistent_for: list[str] | None
    #: Whether the case's algorithm leads to the minimizer, as others do, and whether its iterations
    #: can be differentiated.
    proximal: bool = True
    differentiable: bool = True
    scores: list[Row]
    references: list[Row]
    seconds: float | None

    def __post_init__(self) -> None:
        super().__post_init__()
        convert(self.scores, list[_ROW])
        convert(self.references, list[_REFERENCE])

    def at(self, depth: int, target: str | None = None) -> Mapping[str, str]:
        """Return status and reason at one depth (and target), or those of the whole record where it
        has no such depth.

        An estimator that diverges at a large depth still has a time and a peak memory at smaller
        ones.
        """
        rows = [
            row for row in self.scores if row["depth"] == depth and target in (None, row["target"])
        ]
        return worst(rows or [{"status": self.status, "reason": self.reason}])


class CostRecord(Record, kw_only=True):
    """A time or memory of one estimator on one case at one depth."""

    identity = property(attrgetter("metric", "case", "estimator", "depth"))
    metric: str
    case: str
    estimator: str
    depth: Whole
    value: Cost | None = None
    #: A time in each round, and a text that is the same for all that was measured in these rounds:
    #: only then the k-th time of one can be compared with that of another.
    samples: list[Cost] = []
    turns: str = ""
    #: The memory of the process without the estimate.
    baseline: float | None = None


class ExperimentRecord(Record, kw_only=True):
    """The result of one experiment; the digest is that of the file of its arrays."""

    identity = property(attrgetter("name"))
    kind: str
    study: str
    name: str
    options: Row
    summary: Row = {}
    rows: list[Row] = []
    arrays: list[str] = []
    arrays_digest: str = ""
    seconds: float | None = None


class Artifact(Record, kw_only=True):
    """A surface or curve of one case, on one seed."""

    identity = property(attrgetter("case", "kind"))
    kind: str
    case: str
    seed: Whole
    rows: list[Row] = []

    def __post_init__(self) -> None:
        super().__post_init__()
        convert(self.rows, list[_POINT])


class RunList(StoredFile, kw_only=True):
    """What a run selects, and which files of the store hold its results.

    A record is kept as long as nothing that it depends on changes, and carries the commit that
    first measured it. Without this list nobody could tell which of the records in a store belong
    together.
    """

    identity = property(attrgetter("commit"))
    commit: str
    dirty: bool
    #: None for a run of experiments alone.
    selection: Selection | None = None
    #: Case, estimator and place.
    records: list[tuple[str, str, str]] = []
    #: Metric, case, estimator, depth and place.
    costs: list[tuple[str, str, str, Whole, str]] = []
    #: Case, kind and key of surfaces and curves: one file holds those of all keys in turn.
    artifacts: list[tuple[str, str, str]] = []
    #: Place by name.
    experiments: dict[str, str] = {}


class Rounds(StoredFile, kw_only=True):
    """Times of two commits measured in turns; see `pudle.measuring.commits.turns`."""

    #: Rows with case, estimator, depth, round, reason, base and head.
    rounds: list[Row]
    #: Whether a time limit has left something out.
    partial: bool = False
    #: Why each side lacks something, by side and name.
    lacking: dict[str, dict[str, str]] = {}
