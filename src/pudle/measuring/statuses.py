"""The statuses of a measurement, and which of them mean that something broke."""

from collections.abc import Iterable, Mapping
from typing import Any

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
