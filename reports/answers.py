"""The answers that a report begins with: which estimator to use on each case and why, in sentences."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import pandas as pd

from pudle.reports import text
from pudle.reports.costs import closest, points
from pudle.reports.curves import beats
from pudle.reports.load import Results
from pudle.reports.rates import BASE
from pudle.reports.summary import FEWEST_SEEDS, GOAL, Reach, reach
from pudle.reports.tables import between


@dataclass(frozen=True)
class Wanted:
    """The error that a gradient should have, and the most time (s) and memory (bytes) that it may take."""

    error: float = GOAL
    seconds: float = math.inf
    memory: float = math.inf

    @property
    def limited(self) -> bool:
        """Tell whether time or memory is limited."""
        return math.isfinite(self.seconds) or math.isfinite(self.memory)

    def allows(self, found: Reach) -> bool:
        """Tell whether the time and memory of a gradient are within the limits; an unknown one is not."""
        return all(math.isinf(limit) or cost[0] <= limit for limit, cost in
                   ((self.seconds, found.seconds), (self.memory, found.memory)))  # fmt: skip


def answers(
    results: Results, summary: pd.DataFrame, wanted: Wanted | None = None, most: int | None = None
) -> list[dict[str, Any]]:
    """Return, per case, which estimator to use and why; of the first `most` cases if that is given.

    ``case`` and ``problem`` name the case. ``use`` is the estimator (empty if there is none), ``advice`` the same in
    words, ``short`` the reason in one sentence and ``why`` in a few. ``error``, ``depth``, ``time`` and ``memory`` are what
    it reaches and costs, with * after an extrapolated value.
    """
    by_case = dict(iter(summary.groupby("case", sort=False))) if len(summary) else {}
    found = []
    for name, case in list(results.cases.items())[:most]:
        chosen = choose(results, name, wanted or Wanted())
        chosen["why"] = f"{chosen['short']} {findings(by_case[name])}".strip()
        facts = {key: case[key] for key in ("dataset", "algorithm", "loss")}
        problem = "{dataset}, {algorithm}, {loss} loss".format(**facts)
        found.append({"case": name, "problem": problem, "badge": results.badge(name), **facts, **chosen})
    return found


def choose(results: Results, case: str, wanted: Wanted) -> dict[str, Any]:
    """Choose the cheapest estimator that reaches an error within limits, else that with the fewest layers, else the closest.

    `page/templates/lookups.js` makes the same choice for what a reader of the page wants.
    """
    goal = text.number(wanted.error, 1)
    scored = [name for name in results.estimators if len(results.curve(case, name).by_seed)]
    if not scored:
        blank = dict.fromkeys(("error", "depth", "time", "memory"), text.DASH)
        return {"use": "", "advice": "No answer", "short": "Nothing was scored here.", "ties": []} | blank
    every = [reach(results, case, name, wanted.error) for name in scored]
    reached = [found for found in every if math.isfinite(found.depth) and wanted.allows(found)]
    timed = [found for found in reached if not math.isnan(found.seconds[0])]
    if not reached:
        return _closest(results, case, wanted, any(math.isfinite(found.depth) for found in every))
    if timed:
        best = min(timed, key=lambda found: found.seconds[0])
        ties = [found.estimator for found in timed if found is not best and not beats(best.quartiles, found.quartiles)]
        some = [f"`{name}`" for name in ties] if len(ties) <= 2 else [f"`{ties[0]}`", f"{len(ties) - 1} others"]
        advice, short = "Use", f"Cheapest to an error of {goal}"
        short += f"; not distinguishable in time from {text.listing(some)}." if ties else "."
    else:
        best, ties, advice = min(reached, key=lambda found: found.depth), [], "Fewest layers:"
        short = f"Fewest layers to an error of {goal}; its time there is not known."
    bounds = [bound for pair in best.quartiles.values() for bound in pair if not math.isnan(bound)]
    shown = text.starred(text.seconds(best.seconds[0]), best.seconds[1])
    ends = min(bounds, default=math.nan), max(bounds, default=math.nan)
    return {
        "use": best.estimator, "advice": f"{advice} `{best.estimator}`", "short": short, "ties": ties,
        "error": text.Cell(f"≤ {goal}", key=wanted.error), "depth": text.fixed(best.depth, 0),
        "time": text.between(best.seconds[0], *ends, text.seconds, shown),
        "memory": text.starred(text.memory(best.memory[0]), best.memory[1]),
    }  # fmt: skip


def _closest(results: Results, case: str, wanted: Wanted, elsewhere: bool) -> dict[str, Any]:
    """Choose the estimator with the least error, at its deepest depth or at any depth within the limits."""
    goal, found = text.number(wanted.error, 1), points(results, case)
    if wanted.limited:
        found = [point for point in found if point.seconds <= wanted.seconds or math.isinf(wanted.seconds)]
        found = [point for point in found if point.memory <= wanted.memory or math.isinf(wanted.memory)]
    else:
        found = [point for point in found if point.last]
    if not found:
        blank = dict.fromkeys(("error", "depth", "time", "memory"), text.DASH)
        return {
            "use": "",
            "advice": "No answer",
            "short": "No measured gradient is within these limits.",
            "ties": [],
        } | blank
    best = closest(found)
    within = (
        "these limits" if wanted.limited and elsewhere else f"{max(point.depth for point in points(results, case))} layers"
    )
    short = f"No estimator reaches {goal} within {within}; this one comes closest."
    seconds, memory = (results.line(case, best.estimator, cost).at(best.depth) for cost in ("seconds", "memory_bytes"))
    return {
        "use": best.estimator, "advice": f"Closest: `{best.estimator}`", "short": short, "ties": [],
        "error": text.number(best.error), "depth": text.fixed(best.depth, 0),
        "time": text.starred(text.seconds(seconds[0]), seconds[1]),
        "memory": text.starred(text.memory(memory[0]), memory[1]),
    }  # fmt: skip


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
        return f"Most accurate at depth {deepest:.0f}: {names}, all at the certified bound ({floor})."
    best = rows.loc[rows["error"].idxmin()]
    others = rows.loc[rows["estimator"] != best["estimator"], "errors_by_seed"]
    mine = best["errors_by_seed"]
    won = sum(all(error <= theirs.get(seed, math.inf) for theirs in others) for seed, error in mine.items())
    several = len(others) and best["seeds_measured"] > 1
    seeds = f" (best in {won} of {best['seeds_measured']} seeds)" if several else ""
    return f"Most accurate at depth {deepest:.0f}: `{best['estimator']}`, {text.number(best['error'])}{seeds}."


def _floors(rows: pd.DataFrame) -> str:
    rows = rows[rows["claims_floor"] & rows["error"].notna()]
    names = [f"`{row.estimator}` ({text.number(row.error)})" for row in rows.itertuples()]
    verb = "keeps" if len(names) == 1 else "keep"
    return f"{text.listing(names)} {verb} an error on this loss that no depth removes." if names else ""


def _accelerations(rows: pd.DataFrame) -> str:
    rows = rows[rows["acceleration"].notna() & (rows["predicted"].str.contains("ρ²ᵀ")) & ~rows["crooked"]]
    found = [f"`{row['estimator']}` {between(row, 'acceleration', text.fixed, 2)}" for row in rows.to_dict("records")]
    if not found:
        return ""
    fewest = rows["seeds_accelerated"].min()
    what = "mean and its 95% interval" if fewest >= FEWEST_SEEDS else "median and range"
    return f"Rate of decay over that of `{BASE}` (theory: 2; {what} over {fewest} seeds): {text.listing(found)}."
