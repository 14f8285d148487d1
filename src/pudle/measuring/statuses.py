"""The statuses of a measurement, and which of them mean that something broke."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

#: From good to bad; the index of a status is the code that asv's `track_status` records.
STATUSES = (
    "ok", "skipped", "unsupported", "degenerate", "uncertified", "diverged", "timeout", "out-of-memory", "error"
)  # fmt: skip
#: Statuses that mean that something broke, as opposed to a finding about an estimator; a later run tries these again.
BROKEN = ("timeout", "out-of-memory", "error")


def worst(statuses: Iterable[str]) -> str:
    """Return the worst of some statuses; ``ok`` for none."""
    return max(statuses, key=STATUSES.index, default="ok")


def at_depth(record: Mapping[str, Any], depth: int) -> dict[str, str]:
    """Return status and reason of a stored record at one depth, or those of the whole record where it has no such depth.

    An estimator that diverges at a large depth still has a time and a peak memory at smaller ones.
    """
    rows = [row for row in record["scores"] if row["depth"] == depth] or [record]
    status = worst(row["status"] for row in rows)
    return {"status": status, "reason": next(row["reason"] for row in rows if row["status"] == status)}


def first_line(error: BaseException) -> str:
    """Return the first line of an error's text; empty where it has none."""
    return (str(error).splitlines() or [""])[0]
