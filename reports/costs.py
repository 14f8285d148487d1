"""Errors against costs: fronts, and the best estimator for a budget."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from pudle.reports import text
from pudle.reports.curves import beats
from pudle.reports.load import Results
from pudle.reports.summary import reach

#: Relative errors for which the cheapest estimator is named.
GOALS = (1e-1, 1e-3, 1e-6)
#: Most budgets of time, and of memory, that are shown.
BUDGETS = 2


#: Median errors that differ by less than this share count as the same.
SAME_ERROR = 0.01


class Point(NamedTuple):
    """The median error of an estimator at a depth, and what it costs there where that was measured, else NaN."""

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
    """Return the errors of a case with their costs, which are known between the first and the last measured depth.

    Time and memory are linear in depth, so a depth between two measured ones has a known cost.
    """
    found = []
    for name in results.estimators:
        spread = results.curve(case, name).spread
        costs = (results.line(case, name, cost).inside(spread[:, 0]) for cost in ("seconds", "memory_bytes"))
        rows = np.column_stack((spread, *costs)).tolist()
        found += [Point(name, int(depth), *values, last=depth == rows[-1][0]) for depth, *values in rows]
    return found


def front(cost: pd.Series, error: pd.Series) -> pd.Series:
    """Return which points are not beaten: no other has a cost and an error at most as large, and one of them smaller."""
    both = pd.DataFrame({"cost": cost, "error": error})
    # Of points with one cost only the most accurate count; a point is kept if no cheaper one is as accurate.
    least = both.groupby("cost")["error"].min().sort_index()
    cheaper = least.cummin().shift(fill_value=np.inf)
    return (both["error"] == both["cost"].map(least)) & (both["error"] < both["cost"].map(cheaper))


def budgets(results: Results, cases: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Return, per case (all by default), the best estimator for some accuracies, times and memories.

    Each of the ``cells`` of a ``case`` has the ``budget`` in words, the ``estimator`` (empty if there is none) and its
    ``value``: the time to that accuracy, or the error within that budget.
    """
    chosen = list(results.cases) if cases is None else cases
    rows = [{"case": case, "cells": [cheapest(results, case, goal) for goal in GOALS]} for case in chosen]
    priced = [points(results, case) for case in chosen]
    for cost, unit in (("seconds", 1.0), ("memory", 2.0**20)):
        for limit in limits(priced, cost, unit):
            for row, found in zip(rows, priced, strict=True):
                row["cells"].append(most_accurate(found, cost, limit))
    return rows


def cheapest(results: Results, case: str, goal: float) -> dict[str, str]:
    """Find the estimator that reaches an error in the least time, or in the fewest layers if no time is known."""
    scored = [name for name in results.estimators if results.curve(case, name).by_seed]
    found = [item for name in scored if math.isfinite((item := reach(results, case, name, goal)).depth)]
    cell = {"budget": f"error {text.number(goal, 1)}", "estimator": "", "value": "not reached" if scored else text.DASH}
    if found:
        best = min(found, key=lambda item: (math.isnan(item.seconds[0]), np.nan_to_num(item.seconds[0]), item.depth))
        unknown = math.isnan(best.seconds[0])
        value = f"{best.depth:.0f} layers" if unknown else text.starred(text.seconds(best.seconds[0]), best.seconds[1])
        timed = [] if unknown else [item for item in found if item is not best and not math.isnan(item.seconds[0])]
        ties = [item for item in timed if not beats(best.quartiles, item.quartiles)]
        value += f", not distinguishable from {len(ties)} other{'s' if len(ties) > 1 else ''}" if ties else ""
        cell |= {"estimator": best.estimator, "value": value}
    return cell


def most_accurate(found: Sequence[Point], cost: str, limit: float) -> dict[str, str]:
    """Find the estimator with the least error at a cost (``seconds`` or ``memory``) within a limit."""
    cell = {"budget": f"within {(text.seconds if cost == 'seconds' else text.memory)(limit)}", "estimator": ""}
    priced = [point for point in found if not math.isnan(getattr(point, cost))]
    affordable = [point for point in priced if getattr(point, cost) <= limit]
    if not affordable:
        return cell | {"value": "none" if priced else text.DASH}
    best = closest(affordable, cost)
    return cell | {"estimator": best.estimator, "value": f"error {text.number(best.error)}"}


def closest(found: Sequence[Point], cost: str = "seconds") -> Point:
    """Return the point with the least error, and of those whose errors are nearly the same the cheapest."""
    least = min(point.error for point in found)
    near = [point for point in found if point.error <= (1 + SAME_ERROR) * least]
    return min(near, key=lambda point: (np.nan_to_num(getattr(point, cost), nan=math.inf), point.error))


def limits(priced: Sequence[Sequence[Point]], cost: str, unit: float) -> list[float]:
    """Return a few round budgets that divide the measured costs: 1, 2 or 5 times a power of ten of a unit."""
    values = np.array([getattr(point, cost) for found in priced for point in found], dtype=float) / unit
    values = values[values > 0]
    if not len(values):
        return []
    shares = (np.arange(BUDGETS) + 1) / (BUDGETS + 1)
    return [value * unit for value in sorted({_round(value) for value in np.quantile(values, shares)})]


def _round(value: float) -> float:
    power = 10.0 ** math.floor(math.log10(value))
    return power * min((1, 2, 5, 10), key=lambda step: abs(math.log(value / power / step)))
