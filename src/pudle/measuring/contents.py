"""What stored files hold, as types that readers check them against; of each, the fields that some
reader uses.

A field that is not named here is passed over, so that a later version can add one.
"""

from __future__ import annotations

import sys
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct, defstruct

from ..references.certified import SCORED
from .scoring import ERRORS
from .statuses import STATUSES

#: Number of the format of records; part of every record's key, and what readers check.
SCHEMA = 2

#: A seed, a depth or a number of items: tables hold them in 64 bits.
Count = Annotated[int, Meta(ge=0, le=2**63 - 1)]
#: A number, or null where it is not finite or was not measured.
Number = Annotated[float, Meta(ge=-sys.float_info.max, le=sys.float_info.max)] | None
#: An error, and one that is never below a bound and so never zero.
Error = Annotated[float, Meta(ge=0, le=sys.float_info.max)] | None
PositiveError = Annotated[float, Meta(gt=0, le=sys.float_info.max)] | None
#: One value of a table.
Value = bool | Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | Number | str
Version: Any = Literal[SCHEMA]
Status: Any = Literal[STATUSES]
ReferenceStatus: Any = Literal[(*SCORED, "uncertified", "degenerate")]


class Provenance(Struct):
    """Where and when a record was measured; see `pudle.measuring.provenance`."""

    date: str
    commit: str | None = None
    machine: str | None = None
    dirty: bool = False
    cpu: str | None = None
    cores: int | None = None
    memory_gib: Number = None
    threads: int | None = None
    device: str | None = None


class SelectedCase(Struct):
    """A `pudle.measuring.case.Case`, which its readers need not be able to make."""

    name: str
    dataset: str
    algorithm: str
    loss: str
    seeds: Annotated[list[Count], Meta(min_length=1)]
    depths: Annotated[list[Count], Meta(min_length=1)]
    targets: Annotated[list[str], Meta(min_length=1)]
    dtype: str = "float64"


class StoredSelection(Struct):
    """A `pudle.measuring.selection.Selection`, which its readers need not be able to make."""

    cases: list[SelectedCase]
    estimators: list[str]
    timed_depths: list[Count] = []
    timeout: float = 600.0
    device: str = "cpu"
    limited: list[tuple[str, str]] = []


Score = defstruct(
    "Score",
    [
        ("seed", Count),
        ("depth", Count),
        ("target", str),
        ("status", Status),
        ("relative_error", PositiveError),
        ("reason", str | None, None),
        ("at_floor", bool, False),
        *((name, Error, None) for name in ERRORS if name != "relative_error"),
    ],
)


class DescribedReference(Struct):
    """The certificate of a reference as scores keep it."""

    seed: Count
    target: str
    status: ReferenceStatus
    bound: Number
    reason: str = ""
    gradient_norm: Number = None
    kkt_residual: Number = None
    smallest_eigenvalue: Number = None
    condition_number: Number = None
    dual_margin: Number = None
    smallest_amplitude: Number = None
    zero_codes: Number = None
    uncertified: Number = None
    samples: Number = None
    step: Number = None
    rho: Number = None


class ScoreRecord(Struct):
    """The scores of one estimator on one case."""

    schema: Version
    case: SelectedCase
    estimator: str
    status: Status
    reason: str
    scores: list[Score]  # type: ignore[valid-type]
    references: list[DescribedReference]
    provenance: Provenance
    computes: str | None = None
    consistent_for: list[str] | None = None
    seconds: Number = None

    @property
    def identity(self) -> tuple[str, str]:
        """Case and estimator."""
        return self.case.name, self.estimator


class Options(Struct):
    """The fields of an experiment that its readers know; those of a training that it contains stand
    in `training`.
    """

    estimator: str | None = None
    depth: Count | None = None
    seed: int | None = None
    training: Options | None = None


class HistoryRow(Struct):
    """What every row of a history has, or no row."""

    step: Count = 0


class ExperimentRecord(Struct):
    """The result of one experiment."""

    schema: Version
    kind: str
    study: str
    name: str
    options: Options
    status: Status
    reason: str
    summary: dict[str, Any]
    rows: list[dict[str, Value]]
    arrays: list[str]
    provenance: Provenance

    @property
    def identity(self) -> str:
        """The experiment's name."""
        return self.name


class Artifact(Struct):
    """A surface or curve of one case; of a kind that only a later version knows, the rows may be
    anything.
    """

    kind: str
    case: str
    seed: Count
    rows: list[dict[str, Value]]
    key: str = ""


class WindowSurfaceRow(Struct):
    """A row of `pudle.measuring.surfaces.window_surface`."""

    depth: Count
    window: Count
    relative_error: Error
    status: Status


class JacobianErrorRow(Struct):
    """A row of `pudle.measuring.surfaces.jacobian_error`."""

    depth: Count
    relative_error: Error


#: The rows of artifacts by their kind.
ROWS: dict[str, type[Struct]] = {
    "window_surface": WindowSurfaceRow,
    "jacobian_error": JacobianErrorRow,
}


class CostRecord(Struct):
    """A time or memory of one estimator on one case at one depth."""

    schema: Version
    metric: str
    case: str
    estimator: str
    depth: Count
    status: Status
    reason: str
    value: Number
    provenance: Provenance
    samples: list[Annotated[float, Meta(ge=0, le=sys.float_info.max)]] | None = None
    baseline: Number = None

    @property
    def identity(self) -> tuple[str, str, str, int]:
        """Metric, case, estimator and depth, as the cell's label."""
        return self.metric, self.case, self.estimator, self.depth


#: The place of a record in the store, which it does not lead out of.
Place = Annotated[str, Meta(pattern=r"^(?!/)(?!([^\0]*/)?\.\./)[^\0]+\.json$")]


class RunList(Struct):
    """Which files of the store hold a run's results, by what they hold."""

    commit: str
    #: Case, estimator and place.
    records: list[tuple[str, str, Place]] = []
    #: Metric, case, estimator, depth and place.
    costs: list[tuple[str, str, str, Count, Place]] = []
    #: Place by name.
    experiments: dict[str, Place] = {}
    #: Key by case and kind of a surface or curve: one file holds those of all keys in turn.
    artifacts: dict[str, str] = {}
    selection: StoredSelection | None = None

    @property
    def identity(self) -> str:
        """The commit."""
        return self.commit


class AsvResults(Struct):
    """What asv keeps of one commit, as far as is needed to see that it is whole."""

    commit_hash: str
    results: dict[str, Any]

    @property
    def identity(self) -> str:
        """The commit."""
        return self.commit_hash


class Rounds(Struct):
    """Times of two commits measured in turns; see `pudle.measuring.commits.turns`."""

    rounds: list[Round]
    #: Whether a time limit has left something out.
    partial: bool = False
    #: Why each side lacks something, by side and name.
    lacking: dict[str, dict[str, str]] = {}


class Round(Struct):
    """The times of one round of one cell, or why there are none."""

    case: str
    estimator: str
    depth: Count
    round: int
    reason: str
    base: Number
    head: Number
