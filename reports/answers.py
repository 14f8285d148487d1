"""Which estimator to use on each case: the answers that a report begins with, in sentences, and the
table of budgets.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from pudle import text
from pudle.reports.costs import Point, limits, points
from pudle.reports.curves import beats
from pudle.reports.load import Results
from pudle.reports.rates import BASE
from pudle.reports.summary import FEWEST_SEEDS, GOAL, Reach, reach
from pudle.reports.tables import between
from pudle.text import count

#: Relative errors for which the table of budgets names the cheapest estimator.
GOALS = (1e-1, 1e-3, 1e-6)
#: Median errors that differ by less than this share count as the same.
SAME_ERROR = 0.01


@dataclass(frozen=True)
class Wanted:
    """The error that a gradient should have, and the most time (s) and memory (bytes) that it may
    take.
    """

    error: float = GOAL
    seconds: float = math.inf
    memory: float = math.inf

    @property
    def limited(self) -> bool:
        """Tell whether time or memory is limited."""
        return math.isfinite(self.seconds) or math.isfinite(self.memory)

    def allows(self, seconds: float, memory: float) -> bool:
        """Tell whether time and memory are within the limits; an unknown one is not."""
        return all(
            math.isinf(limit) or cost <= limit
            for limit, cost in ((self.seconds, seconds), (self.memory, memory))
        )


class Choice(NamedTuple):
    """The estimator that `pick` has chosen, if there is any: what it needs for the wanted error, or
    the closest point.
    """

    best: Reach | Point | None
    #: Estimators that are not distinguishable from it in time.
    ties: Sequence[str] = ()
    #: Of what is not within the limits: all that was measured, and whether the error is reached
    #: beyond them.
    every: Sequence[Point] = ()
    beyond: bool = False


def answers(
    results: Results, summary: pd.DataFrame, wanted: Wanted | None = None, most: int | None = None
) -> list[dict[str, Any]]:
    """Return, per case, which estimator to use and why; of the first `most` cases if that is given.

    ``case`` and ``problem`` name the case. ``use`` is the estimator (empty if there is none),
    ``advice`` the same in words, ``short`` the reason in one sentence and ``why`` in a few.
    ``error``, ``depth``, ``time`` and ``memory`` are what it reaches and costs, with * after an
    extrapolated value.
    """
    by_case = dict(iter(summary.groupby("case", sort=False))) if len(summary) else {}
    found = []
    for name, case in list(results.cases.items())[:most]:
        chosen = choose(results, name, wanted or Wanted())
        chosen["why"] = f"{chosen['short']} {findings(by_case[name])}".strip()
        facts = {key: case[key] for key in ("dataset", "algorithm", "loss")}
        problem = "{dataset}, {algorithm}, {loss} loss".format(**facts)
        found.append(
            {"case": name, "problem": problem, "badge": results.badge(name), **facts, **chosen}
        )
    return found


def pick(results: Results, case: str, wanted: Wanted) -> Choice:
    """Pick the cheapest estimator that reaches an error within limits, else that with the fewest
    layers, else the closest.

    The `closest` is that at its deepest depth, or at any depth within the limits if there are some.
    On the page `templates/lookups.js` picks in the same way.
    """
    every = [reach(results, case, name, wanted.error) for name in results.estimators]
    possible = [found for found in every if math.isfinite(found.depth)]
    reached = [found for found in possible if wanted.allows(found.seconds[0], found.memory[0])]
    if reached:
        best = min(
            reached, key=lambda found: (np.nan_to_num(found.seconds[0], nan=math.inf), found.depth)
        )
        timed = [
            found for found in reached if found is not best and not math.isnan(found.seconds[0])
        ]
        return Choice(
            best, [found.estimator for found in timed if not beats(best.quartiles, found.quartiles)]
        )
    measured = points(results, case)
    found = [
        it
        for it in measured
        if (wanted.allows(it.seconds, it.memory) if wanted.limited else it.last)
    ]
    return Choice(closest(found), every=measured, beyond=wanted.limited and bool(possible))


def closest(found: Sequence[Point]) -> Point | None:
    """Return the point with the least error, and of those whose errors are nearly the same the
    cheapest.
    """
    least = min((point.error for point in found), default=math.nan)
    near = [point for point in found if point.error <= (1 + SAME_ERROR) * least]
    return min(
        near,
        key=lambda point: (np.nan_to_num(point.seconds, nan=math.inf), point.error),
        default=None,
    )


def choose(results: Results, case: str, wanted: Wanted) -> dict[str, Any]:
    """Say in words what `pick` picks."""
    goal, (best, ties, every, beyond) = text.number(wanted.error, 1), pick(results, case, wanted)
    if best is None:
        short = (
            "No measured gradient is within these limits." if every else "Nothing was scored here."
        )
        blank = dict.fromkeys(("error", "depth", "time", "memory"), text.Cell(text.DASH))
        return {"use": "", "advice": "No answer", "short": short, "ties": []} | blank
    seconds, memory = (
        results.line(case, best.estimator, cost).at(best.depth)
        for cost in ("seconds", "memory_bytes")
    )
    time, error = (
        text.starred(text.seconds(seconds[0]), seconds[1]),
        text.Cell(f"≤ {goal}", key=wanted.error),
    )
    if isinstance(best, Point):
        within = "these limits" if beyond else count(max(point.depth for point in every), "layer")
        short = f"No estimator reaches {goal} within {within}; this one comes closest."
        advice, error = "Closest:", text.number(best.error)
    elif math.isnan(seconds[0]):
        advice, short = (
            "Fewest layers:",
            f"Fewest layers to an error of {goal}; its time there is not known.",
        )
    else:
        names = [f"`{name}`" for name in ties]
        some = text.listing(
            names if len(names) <= 2 else [names[0], count(len(names) - 1, "other")]
        )
        advice, apart = "Use", f"; not distinguishable in time from {some}" if some else ""
        short = f"Cheapest to an error of {goal}{apart}."
        bounds = [
            bound for pair in best.quartiles.values() for bound in pair if math.isfinite(bound)
        ]
        ends = min(bounds, default=math.nan), max(bounds, default=math.nan)
        time = text.between(seconds[0], *ends, text.seconds, time)
    return {
        "use": best.estimator,
        "advice": f"{advice} `{best.estimator}`",
        "short": short,
        "ties": list(ties),
        "error": error,
        "depth": text.fixed(best.depth, 0),
        "time": time,
        "memory": text.starred(text.memory(memory[0]), memory[1]),
    }


def budgets(results: Results, cases: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Return, per case (all by default), the best estimator for some accuracies, times and
    memories.

    Each of the ``cells`` of a ``case`` has the ``budget`` in words, the ``estimator`` (empty if
    there is none) and its ``value``: the time to that accuracy, or the error within that budget.
    """
    chosen = list(results.cases) if cases is None else cases
    priced = [points(results, case) for case in chosen]
    wishes = [(f"error {text.number(goal, 1)}", Wanted(goal)) for goal in GOALS]
    for cost, unit, show in (("seconds", 1.0, text.seconds), ("memory", 2.0**20, text.memory)):
        for limit in limits(priced, cost, unit):
            wishes.append((f"within {show(limit)}", Wanted(**{"error": -math.inf, cost: limit})))
    return [
        {
            "case": case,
            "cells": [{"budget": words, **budget(results, case, wish)} for words, wish in wishes],
        }
        for case in chosen
    ]


def budget(results: Results, case: str, wanted: Wanted) -> dict[str, str]:
    """Return the estimator for an error, or for one limit and an error that none reaches, and its
    value.
    """
    best, ties, every, _ = pick(results, case, wanted)
    if best is None or isinstance(best, Point):
        if not every:
            return {"estimator": "", "value": text.DASH}
        if not wanted.limited:
            return {"estimator": "", "value": "not reached"}
        return (
            {"estimator": best.estimator, "value": f"error {text.number(best.error)}"}
            if best
            else {"estimator": "", "value": "none"}
        )
    time = text.starred(text.seconds(best.seconds[0]), best.seconds[1])
    value = count(int(best.depth), "layer") if time == text.DASH else str(time)
    value += f", not distinguishable from {count(len(ties), 'other')}" if ties else ""
    return {"estimator": best.estimator, "value": value}


def findings(rows: pd.DataFrame) -> str:
    """Say, for the summary of a case, what holds whatever error is wanted."""
    return " ".join(filter(None, [_most_accurate(rows), _floors(rows), _accelerations(rows)]))


def _most_accurate(rows: pd.DataFrame) -> str:
    deepest = rows["depth"].max()
    rows = rows[(rows["depth"] == deepest) & rows["error"].notna()]
    if rows.empty:
        return ""
    bound = rows[rows["seeds_at_floor"] == rows["seeds_measured"]]
    if len(bound) > 1:
        names = text.listing([f"`{name}`" for name in bound["estimator"]])
        floor = text.number(bound["error"].max())
        return (
            f"Most accurate at depth {deepest:.0f}: {names}, all at the certified bound ({floor})."
        )
    best = rows.loc[rows["error"].idxmin()]
    others = rows.loc[rows["estimator"] != best["estimator"], "errors_by_seed"]
    mine = best["errors_by_seed"]
    won = sum(
        all(error <= theirs.get(seed, math.inf) for theirs in others)
        for seed, error in mine.items()
    )
    several = len(others) and best["seeds_measured"] > 1
    seeds = f" (best in {won} of {best['seeds_measured']} seeds)" if several else ""
    return (
        f"Most accurate at depth {deepest:.0f}: `{best['estimator']}`,"
        f" {text.number(best['error'])}{seeds}."
    )


def _floors(rows: pd.DataFrame) -> str:
    rows = rows[rows["claims_floor"] & rows["error"].notna()]
    names = [f"`{row.estimator}` ({text.number(row.error)})" for row in rows.itertuples()]
    verb = "keeps" if len(names) == 1 else "keep"
    return (
        f"{text.listing(names)} {verb} an error on this loss that no depth removes."
        if names
        else ""
    )


def _accelerations(rows: pd.DataFrame) -> str:
    rows = rows[
        rows["acceleration"].notna() & (rows["predicted"].str.contains("ρ²ᵀ")) & ~rows["crooked"]
    ]
    found = [
        f"`{row['estimator']}` {between(row, 'acceleration', text.fixed, 2)}"
        for row in rows.to_dict("records")
    ]
    if not found:
        return ""
    fewest = rows["seeds_accelerated"].min()
    what = "mean and its 95% interval" if fewest >= FEWEST_SEEDS else "median and range"
    return (
        f"Rate of decay over that of `{BASE}` (theory: 2; {what} over {count(fewest, 'seed')}):"
        f" {text.listing(found)}."
    )
