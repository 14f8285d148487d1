"""Rows of the census, as they are stored; in the standard library alone."""

import json
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path

#: Verdict where the audit reached none.
NONE = "none"
#: Verdict where the one gradient that is not right is missing altogether, which nothing promises.
NO_GRADIENT = "no gradient"
#: Text of a row whose audit has begun.
UNFINISHED = "not finished"


class Status(StrEnum):
    """What the page says of a row, in the page's order."""

    RIGHT = "right"
    APPROXIMATION = "approximation that says so"
    DOCUMENTED = "documented"
    TICKET = "known ticket"
    SILENT = "gives no gradient, and does not say so"
    NEW = "new"
    UNCONFIRMED = "not confirmed"
    NO_VERDICT = "no verdict"


@dataclass(frozen=True)
class Row:
    """What is known of a layer.

    Attributes
    ----------
    file, package : str
        Name of the package's file here, and of the package.
    layer, asked : str
        Name of the layer in the file, empty if that does not import, and what is asked.
    text : str
        What the audit says, or why there is no verdict.
    status : Status
    verdict, mistake : str
    error, known_to : float, optional
        How far off the gradient is, relative to its norm, and how exact that is.
    seconds : float, optional
        Of the audit.
    versions : dict of str to str
        Of the distributions that matter, the package's first.
    known : str
        What is known where the gradient is not right, in Markdown.
    differences, other, apart : float, optional
        See `census.Confirmation`.
    """

    file: str
    package: str
    layer: str
    asked: str
    text: str
    status: Status = Status.NO_VERDICT
    verdict: str = NONE
    mistake: str = ""
    error: float | None = None
    known_to: float | None = None
    seconds: float | None = None
    versions: dict[str, str] = field(default_factory=dict)
    known: str = ""
    differences: float | None = None
    other: float | None = None
    apart: float | None = None


def line(row: Row) -> str:
    """Return a row as a line of JSON."""
    return json.dumps(asdict(row), allow_nan=False, ensure_ascii=False)


def read(text: str) -> list[Row]:
    """Return the rows in lines of JSON, of each layer the last; the order is that of the first."""
    rows: dict[tuple[str, str], Row] = {}
    for entry in text.splitlines():
        if entry.startswith("{"):
            row = Row(**json.loads(entry))
            rows[row.file, row.layer] = row
    return [*rows.values()]


def stored(path: Path) -> list[Row]:
    """Return the rows in a file, which lacks some or is not there before the first census."""
    return read(path.read_text(encoding="utf-8")) if path.exists() else []
