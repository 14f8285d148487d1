"""The files of a run and its store, one type for each; a selection is the other.

Each has a line with the digest of all else, and a reader refuses a file whose digest is another.
"""

from collections.abc import Iterable
from operator import attrgetter
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, Self

from msgspec import Meta, Struct

from ..files import read_record, write_record
from .provenance import Origin
from .scoring import LARGEST
from .selection import Selection

#: What may become of a measurement, from good to bad; the index of a status is the code that asv's
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
Status = Annotated[str, Meta(pattern=f"^({'|'.join(STATUSES)})$")]
#: Statuses that mean that something broke, as opposed to a finding about an estimator; a later run
#: tries these again.
BROKEN = ("timeout", "out-of-memory", "error")
#: Number of the format of records; part of every record's key, and what readers check.
SCHEMA: Literal[4] = 4
#: Whole numbers that floats hold, and what costs are possible.
Whole = Annotated[int, Meta(ge=0, le=2**53)]
Amount = Annotated[float, Meta(ge=0, le=1e18)]
#: Errors, sizes of other kinds, and shares.
Error = Annotated[float, Meta(ge=0, le=LARGEST)]
Size = Annotated[float, Meta(ge=0)]
Share = Annotated[float, Meta(ge=0, le=1)]
#: What a text, a number or a table in JSON is.
Plain = str | int | float | bool | None | list[Any] | dict[str, Any]


class MeasurementStatus(NamedTuple):
    """The status of a measurement, and the reason where it has no number."""

    status: str = "ok"
    reason: str = ""

    @property
    def severity(self) -> int:
        """The index of the status, from good to bad."""
        return STATUSES.index(self.status)


def worst(statuses: Iterable[MeasurementStatus]) -> MeasurementStatus:
    """Return the worst status; of several that are equally bad, the first."""
    return max(statuses, key=attrgetter("severity"))


class StoredFile(Struct, kw_only=True):
    """A file that is read and written as a whole; its ``identity`` says whose file it is."""

    schema: Literal[4] = SCHEMA

    @classmethod
    def read(cls, path: Path, identity: object = None) -> Self:
        """Read a file, or raise UnreadableResult; with an `identity`, it must hold that result."""
        return read_record(path, cls, identity)

    def write(self, path: Path) -> None:
        """Write a file, atomically."""
        write_record(path, self)


class Record(StoredFile, kw_only=True):
    """The part that the records of all results share: key, status, reason and origin.

    A number that is not finite is stored as null.
    """

    key: str
    status: Status = "ok"
    reason: str = ""
    provenance: Origin


class RunList(StoredFile, kw_only=True):
    """The selection of a run, and the files of the store that hold its results.

    A record is kept as long as nothing that it depends on changes, and carries the commit that
    first measured it. Without this list nobody could tell which of the records in a store belong
    together.
    """

    identity = property(attrgetter("commit"))
    commit: str
    #: None for a run of experiments alone.
    selection: Selection | None = None
    #: Case, estimator and place.
    records: list[tuple[str, str, str]] = []
    #: Metric, case, estimator, depth and place.
    costs: list[tuple[str, str, str, Whole, str]] = []
    #: Place by name.
    experiments: dict[str, str] = {}
    #: Of each estimator that is a plug-in the key, and what `pudle check` had found.
    plugins: dict[str, tuple[str, str]] = {}


class Round(Struct, kw_only=True):
    """Seconds of a cell at two commits in one round, or the reason why one is missing."""

    case: str
    estimator: str
    depth: Whole
    reason: str = ""
    base: float | None = None
    head: float | None = None


class CommitRounds(StoredFile, kw_only=True):
    """Times of two commits measured in turns; see `pudle.measuring.commits.turns`."""

    rounds: list[Round]
    #: Whether a time limit has left something out.
    partial: bool = False
    #: Why each side lacks something, by side and name.
    lacking: dict[str, dict[str, str]] = {}
