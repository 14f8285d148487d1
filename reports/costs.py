"""Errors with what they cost: fronts, and what a budget buys."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from pudle.reports import text
from pudle.reports.drawing import over_seeds
from pudle.reports.load import Results
from pudle.reports.tables import depth_to, seconds_at

#: Relative errors that the cheapest estimator is named for.
GOALS = (1e-1, 1e-3, 1e-6)
#: Most budgets of one kind that are shown.
BUDGETS = 2


def front(cost: pd.Series, error: pd.Series) -> pd.Series:
    """Return which points no other point beats: none has a cost and an error at most as large and one of them smaller."""
    order = np.lexsort((error.to_numpy(), cost.to_numpy()))
    best, best_cost = np.inf, -np.inf
    kept = np.zeros(len(cost), dtype=bool)
    for place in order:
        value, price = error.iloc[place], cost.iloc[place]
        # Twins of a point on the front are on it as well.
        kept[place] = value < best or (value == best and price == best_cost)
        if value < best:
            best, best_cost = value, price
    return pd.Series(kept, index=cost.index)


def with_costs(results: Results, case: str, metric: str) -> pd.DataFrame:
    """Return the errors of a case with what they cost, at the depths that were measured or lie between such.

    Time and memory are linear in depth, so that a depth between two measured ones has a known cost; beyond them it has not.

    Returns
    -------
    DataFrame
        ``estimator``, ``depth``; ``median``, ``least`` and ``greatest`` error over the seeds; ``cost``, whether it was
        ``measured`` at that very depth, and whether the point is on the ``front``.
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
    """Return, per case, which estimator to take for an accuracy wanted, a time, or a memory.

    Returns
    -------
    list of dict
        ``case`` and ``cells``, each cell with the ``budget`` in words, the ``estimator`` (empty where there is none) and
        what it reaches, ``value``.
    """
    priced = {
        metric: {case: with_costs(results, case, metric) for case in results.cases} for metric in ("seconds", "memory_bytes")
    }
    limits = {metric: _limits(found, unit) for (metric, found), unit in zip(priced.items(), (1.0, 2.0**20), strict=True)}
    rows = []
    for case in results.cases:
        cells = [_cheapest(results, case, goal) for goal in GOALS]
        for metric, words, show in (("seconds", "within", text.seconds), ("memory_bytes", "within", text.memory)):
            cells += [_best(priced[metric][case], limit, f"{words} {show(limit)}") for limit in limits[metric]]
        rows.append({"case": case, "cells": cells})
    return rows


def _cheapest(results: Results, case: str, goal: float) -> dict[str, str]:
    """Find the estimator that gets to an error in the least time; in the fewest layers where no time is known."""
    errors = results.scores(case, "relative_error")
    found = []
    for name, curves in errors.groupby("estimator", sort=False):
        depths = [depth_to(curve.set_index("depth")["value"], goal) for _, curve in curves.groupby("seed")]
        depth = float(np.median(depths))
        timings = results.timings
        timed = timings[(timings["case"] == case) & (timings["estimator"] == name)]
        seconds, outside = seconds_at(timed, depth)
        if math.isfinite(depth):
            found.append((math.isnan(seconds), seconds, depth, name, outside))
    cell = {"budget": f"error {text.number(goal, 1)}", "estimator": "", "value": "not reached"}
    if not found:
        return cell if len(errors) else cell | {"value": text.DASH}
    unknown, seconds, depth, name, outside = min(found)
    return cell | {
        "estimator": name,
        "value": f"{depth:.0f} layers" if unknown else text.seconds(seconds) + ("*" if outside else ""),
    }


def _best(priced: pd.DataFrame, limit: float, words: str) -> dict[str, str]:
    """Find the estimator with the least error among what a budget affords."""
    affordable = priced[priced["cost"] <= limit]
    if affordable.empty:
        return {"budget": words, "estimator": "", "value": "none" if len(priced) else text.DASH}
    best = affordable.loc[affordable["median"].astype(float).idxmin()]
    return {"budget": words, "estimator": best["estimator"], "value": f"error {text.number(best['median'])}"}


def _limits(priced: dict[str, pd.DataFrame], unit: float) -> list[float]:
    """Return a few round budgets that part what was measured: 1, 2 or 5 times a power of ten of a unit."""
    costs = np.concatenate([found["cost"].to_numpy(dtype=float) for found in priced.values()])
    costs = costs[costs > 0] / unit
    if not len(costs):
        return []
    shares = (np.arange(BUDGETS) + 1) / (BUDGETS + 1)
    return [value * unit for value in sorted({_round(value) for value in np.quantile(costs, shares)})]


def _round(value: float) -> float:
    power = 10.0 ** math.floor(math.log10(value))
    return power * min((1, 2, 5, 10), key=lambda step: abs(math.log(value / power / step)))
