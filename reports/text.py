"""Numbers as a reader wants them: few digits, a unit, and a dash for what is not known."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

DASH = "–"
STARRED = "* beyond the measured depths, along their line"


class Cell(str):
    """A cell of a table that knows more than its text.

    Attributes
    ----------
    estimator : str
        The estimator it is about, empty where it is about none.
    best : bool
        Whether no other cell of its column is better.
    """

    estimator: str
    best: bool

    def __new__(cls, value: str, estimator: str = "", best: bool = False) -> Cell:
        cell = super().__new__(cls, value)
        cell.estimator, cell.best = estimator, best
        return cell


def number(value: float, digits: int = 2) -> str:
    """Return a number with a few significant digits: ``0.83``, ``1.5e-15``."""
    if value is None or math.isnan(value):
        return DASH
    if value == 0 or 0.01 <= abs(value) < 1e4:
        shown = f"{value:.{digits}g}"
        return f"{float(shown):.0f}" if "e" in shown else shown
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    return f"{mantissa}e{int(exponent)}"


def seconds(value: float) -> str:
    """Return a duration with its unit."""
    return _scaled(value, ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")))


def memory(value: float) -> str:
    """Return a number of bytes with its unit."""
    return _scaled(value, ((2.0**30, "GiB"), (2.0**20, "MiB"), (2.0**10, "KiB")))


def between(middle: float, low: float, high: float, show=number) -> str:
    """Return a median with its interval, which is left out where it is one point to the digits shown."""
    if math.isnan(middle):
        return DASH
    ends = show(low), show(high)
    return show(middle) if ends[0] == ends[1] == show(middle) else f"{show(middle)} ({ends[0]} to {ends[1]})"


def listing(words: Sequence[str]) -> str:
    """Join words as a sentence does: ``a, b and c``."""
    words = list(words)
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]])) if words else ""


def numbers(values: Sequence[int]) -> str:
    """Return whole numbers in short: ``1, 2, 5`` up to five of them, then ``1 ... 600 (14)``."""
    values = sorted(set(values))
    return ", ".join(map(str, values)) if len(values) <= 5 else f"{values[0]} ... {values[-1]} ({len(values)})"


#: What a unit at the end of a number multiplies it with.
UNITS = {"s": 1.0, "ms": 1e-3, "µs": 1e-6, "GiB": 2.0**30, "MiB": 2.0**20, "KiB": 2.0**10, "B": 1.0}


def key(value: str) -> float | None:
    """Return the number to sort a cell by, infinite for "not reached"; None where the cell is words or unknown."""
    if value.startswith(("not reached", "beyond")):
        return math.inf
    found = re.match(r"≤?\s*([-+]?[\d.]+(?:e[-+]?\d+)?)[\s%*]*(GiB|MiB|KiB|ms|µs|s|B)?\b", value)
    return float(found[1]) * UNITS.get(found[2] or "", 1.0) if found else None


def _scaled(value: float, units: Sequence[tuple[float, str]]) -> str:
    if value is None or math.isnan(value):
        return DASH
    size, unit = next(((size, unit) for size, unit in units if abs(value) >= size), units[-1])
    return f"{number(value / size, 3)} {unit}"
