"""Errors against costs: fronts, and the best estimator for a budget."""

from __future__ import annotations

import functools
import math
from typing import Any

import numpy as np
import pandas as pd

from pudle.reports import text
from pudle.reports.load import Results
from pudle.reports.tables import beats, depths_to, over_seeds, seconds_at, seconds_by_seed

#: Relative errors for which the cheapest estimator is named.
GOALS = (1e-1, 1e-3, 1e-6)
#: Most budgets of time, and of memory, that are shown.
BUDGETS = 2


def front(cost: pd.Series, error: pd.Series) -> pd.Series:
    """Return which points are not beaten: no other has a cost and an error at most as large, and one of them smaller."""
    points = pd.DataFrame({"cost": cost, "error": error})
    # Of points with one cost only the most accurate count; a point is kept if no cheaper one is as accurate.
    least = points.groupby("cost")["error"].min().sort_index()
    cheaper = least.cummin().shift(fill_value=np.inf)
    return (points["error"] == points["cost"].map(least)) & (points["error"] < points["cost"].map(cheaper))


@functools.lru_cache(maxsize=256)
def with_costs(results: Results, case: str, metric: str) -> pd.DataFrame:
    """Return the errors of a case with their costs, at the depths between the first and the last with a measured cost.

    Time and memory are linear in depth, so a depth between two measured ones has a known cost. To the columns of
    `over_seeds` come ``cost``, whether it was ``measured`` at that very depth, and whether the point is on the ``front``.
    """
    costs = results.measured(case, metric)
    parts = []
    for name, part in over_seeds(results.scores(case, "relative_error")).groupby("estimator", sort=False):
        known = costs[costs["estimator"] == name].astype({"depth": "int64"}).sort_values("depth")
        if known.empty:
            continue
        depths = known["depth"].to_numpy()
        part = part[(part["depth"] >= depths[0]) & (part["depth"] <= depths[-1])]
        cost = np.interp(part["depth"], depths, known["value"])
        parts.append(part.assign(cost=cost, measured=part["depth"].isin(depths)))
    columns = ["estimator", "depth", "median", "least", "greatest", "cost", "measured"]
    found = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)
    return found.assign(front=front(found["cost"], found["median"]))


def budgets(results: Results) -> list[dict[str, Any]]:
    """Return, per case, the best estimator for some accuracies, times and memories.

    Each of the ``cells`` of a ``case`` has the ``budget`` in words, the ``estimator`` (empty if there is none) and its
    ``value``: the time to that accuracy, or the error within that budget.
    """
    rows = [{"case": case, "cells": [_cheapest(results, case, goal) for goal in GOALS]} for case in results.cases]
    for metric, unit, show in (("seconds", 1.0, text.seconds), ("memory_bytes", 2.0**20, text.memory)):
        priced = [with_costs(results, case, metric) for case in results.cases]
        for limit in _limits(priced, unit):
            for row, points in zip(rows, priced, strict=True):
                row["cells"].append({"budget": f"within {show(limit)}", **_best(points, limit)})
    return rows


def _cheapest(results: Results, case: str, goal: float) -> dict[str, str]:
    """Find the estimator that reaches an error in the least time, or in the fewest layers if no time is known."""
    errors = results.scores(case, "relative_error")
    found = []
    for name, curves in errors.groupby("estimator", sort=False):
        depths = depths_to(curves, goal)
        depth, timed = float(np.median(list(depths.values()))), results.times(case, name)
        seconds, outside = seconds_at(timed, depth)
        if math.isfinite(depth):
            found.append((math.isnan(seconds), seconds, depth, name, outside, seconds_by_seed(timed, depths)))
    cell = {"budget": f"error {text.number(goal, 1)}", "estimator": "", "value": "not reached" if len(errors) else text.DASH}
    if found:
        unknown, seconds, depth, name, outside, mine = min(found, key=lambda row: row[:4])
        value = f"{depth:.0f} layers" if unknown else text.starred(text.seconds(seconds), outside)
        ties = [row for row in found if row[3] != name and not row[0] and not unknown and not beats(mine, row[5])]
        value += f", not distinguishable from {len(ties)} other{'s' if len(ties) > 1 else ''}" if ties else ""
        cell |= {"estimator": name, "value": value}
    return cell


def _best(points: pd.DataFrame, limit: float) -> dict[str, str]:
    """Find the estimator with the least error at a cost within a limit."""
    affordable = points[points["cost"] <= limit]
    if affordable.empty:
        return {"estimator": "", "value": "none" if len(points) else text.DASH}
    best = affordable.loc[affordable["median"].astype(float).idxmin()]
    return {"estimator": best["estimator"], "value": f"error {text.number(best['median'])}"}


def _limits(priced: list[pd.DataFrame], unit: float) -> list[float]:
    """Return a few round budgets that divide the measured costs: 1, 2 or 5 times a power of ten of a unit."""
    costs = np.concatenate([points["cost"].to_numpy(dtype=float) for points in priced])
    costs = costs[costs > 0] / unit
    if not len(costs):
        return []
    shares = (np.arange(BUDGETS) + 1) / (BUDGETS + 1)
    return [value * unit for value in sorted({_round(value) for value in np.quantile(costs, shares)})]


def _round(value: float) -> float:
    power = 10.0 ** math.floor(math.log10(value))
    return power * min((1, 2, 5, 10), key=lambda step: abs(math.log(value / power / step)))
