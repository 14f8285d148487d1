"""Errors against costs: fronts, and round budgets that divide the costs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from pudle.reports.load import Results

#: Most budgets of time, and of memory, that are shown.
BUDGETS = 2


class Point(NamedTuple):
    """The median error of an estimator at a depth, and what it costs there where that was measured,
    else NaN.
    """

    estimator: str
    depth: int
    error: float
    least: float
    greatest: float
    seconds: float
    memory: float
    #: Whether no greater depth was measured.
    last: bool


def points(results: Results, case: str) -> list[Point]:
    """Return the errors of a case with their costs, which are known between the first and the last
    measured depth.

    Time and memory are linear in depth, so a depth between two measured ones has a known cost.
    """
    found = []
    for name in results.estimators:
        spread = results.curve(case, name).spread
        costs = (
            results.line(case, name, cost).inside(spread[:, 0])
            for cost in ("seconds", "memory_bytes")
        )
        rows = np.column_stack((spread, *costs)).tolist()
        found += [
            Point(name, int(depth), *values, last=depth == rows[-1][0]) for depth, *values in rows
        ]
    return found


def front(cost: pd.Series, error: pd.Series) -> pd.Series:
    """Return which points are not beaten: no other has a cost and an error at most as large, and
    one of them smaller.
    """
    both = pd.DataFrame({"cost": cost, "error": error})
    # Of points with one cost only the most accurate count; a point is kept if no cheaper one is as
    # accurate.
    least = both.groupby("cost")["error"].min().sort_index()
    cheaper = least.cummin().shift(fill_value=np.inf)
    return (both["error"] == both["cost"].map(least)) & (both["error"] < both["cost"].map(cheaper))


def limits(priced: Sequence[Sequence[Point]], cost: str, unit: float) -> list[float]:
    """Return a few round budgets that divide the measured costs: 1, 2 or 5 times a power of ten of
    a unit.
    """
    values = (
        np.array([getattr(point, cost) for found in priced for point in found], dtype=float) / unit
    )
    values = values[values > 0]
    if not len(values):
        return []
    shares = (np.arange(BUDGETS) + 1) / (BUDGETS + 1)
    return [
        value * unit for value in sorted({_round(value) for value in np.quantile(values, shares)})
    ]


def _round(value: float) -> float:
    power = 10.0 ** math.floor(math.log10(value))
    return power * min((1, 2, 5, 10), key=lambda step: abs(math.log(value / power / step)))
