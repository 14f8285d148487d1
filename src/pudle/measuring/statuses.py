"""The statuses of a measurement, and which of them mean that something broke."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from ..errors import MissingDependency, PudleError, UnsupportedProblem, first_line

#: From good to bad; the index of a status is the code that asv's `track_status` records.
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


def worst(rows: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """Return the status and the reason of the worst row; of several that are equally bad, those of
    the first.
    """
    row = max(rows, key=lambda row: STATUSES.index(row["status"]))
    return {"status": row["status"], "reason": row["reason"]}


def at_depth(record: Mapping[str, Any], depth: int) -> dict[str, str]:
    """Return status and reason of a stored record at one depth, or those of the whole record where
    it has no such depth.

    An estimator that diverges at a large depth still has a time and a peak memory at smaller ones.
    """
    return worst([row for row in record["scores"] if row["depth"] == depth] or [record])


def failure(error: BaseException) -> tuple[str, str]:
    """Return the status and the reason of whatever could not be computed because of an error."""
    if isinstance(error, SystemExit):
        return (
            "error",
            f"it tried to end the program with sys.exit({error.code!r}): raise an error instead",
        )
    if isinstance(error, MissingDependency):
        return "skipped", first_line(error)
    if isinstance(error, UnsupportedProblem):
        return "unsupported", first_line(error)
    # torch has an error of its own for a full GPU, and a plain RuntimeError for a full memory.
    kinds = [kind.__name__ for kind in type(error).__mro__]
    full = {"MemoryError", "OutOfMemoryError"}.intersection(
        kinds
    ) or "can't allocate memory" in str(error)
    # The texts of this package's own errors stand alone.
    kind = "" if isinstance(error, PudleError) else f"{type(error).__name__}: "
    return "out-of-memory" if full else "error", f"{kind}{first_line(error)}"
