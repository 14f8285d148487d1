"""The answers that a report begins with: which estimator to use on each case and why, in sentences."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from pudle.reports import text
from pudle.reports.load import Results
from pudle.reports.rates import BASE
from pudle.reports.tables import FEWEST_SEEDS, GOAL, beats, between, time_to_goal

SHOWN_GOAL = text.number(GOAL, 1)


def answers(results: Results, summary: pd.DataFrame) -> list[dict[str, Any]]:
    """Return, per case, which estimator to use and why.

    ``case`` and ``problem`` name the case. ``use`` is the estimator (empty if nothing was scored), ``advice`` the same in
    words, ``short`` the reason in one sentence and ``why`` in a few. ``error``, ``depth``, ``time`` and ``memory`` are what
    it reaches and costs, with * after an extrapolated value.
    """
    found = []
    for name, case in results.cases.items():
        rows = summary[summary["case"] == name]
        chosen = _choice(rows)
        chosen["why"] = " ".join(filter(None, [chosen["why"], _most_accurate(rows), _floors(rows), _accelerations(rows)]))
        facts = {key: case[key] for key in ("dataset", "algorithm", "loss")}
        problem = "{dataset}, {algorithm}, {loss} loss".format(**facts)
        found.append({"case": name, "problem": problem, **facts, **chosen})
    return found


def _choice(rows: pd.DataFrame) -> dict[str, str]:
    """Choose the cheapest estimator that reaches the goal, else the one with the fewest layers, else the closest."""
    reached = rows[np.isfinite(rows["depth_to_goal"])]
    timed = reached[reached["seconds_to_goal"].notna()]
    limit = f"{rows['depth'].max():.0f} layers"
    if rows["error"].isna().all():
        blank = dict.fromkeys(("error", "depth", "time", "memory"), text.DASH)
        why = "Nothing was scored here: see what was skipped, refused or failed."
        return {"use": "", "advice": "No answer", "short": "Nothing was scored here.", "why": why} | blank
    if len(timed):
        row = timed.loc[timed["seconds_to_goal"].idxmin()]
        outside = ", extrapolated" if row["extrapolated"] else ""
        advice, short = "Use", f"Cheapest to an error of {SHOWN_GOAL}"
        cost = f"{time_to_goal(row)}, {row['depth_to_goal']:.0f} layers{outside}"
        why = f"It is the cheapest that reaches {SHOWN_GOAL}: {cost}."
        others = timed[timed["estimator"] != row["estimator"]].itertuples()
        close = [other for other in others if not beats(row["seconds_by_seed"], other.seconds_by_seed)]
        if ties := {f"`{tie.estimator}`": text.seconds(tie.seconds_to_goal) for tie in close}:
            some = list(ties) if len(ties) <= 2 else [next(iter(ties)), f"{len(ties) - 1} others"]
            short += f"; not distinguishable in time from {text.listing(some)}"
            shown = text.listing([f"{name} ({seconds})" for name, seconds in ties.items()])
            why += f" It is not distinguishable in time from {shown}."
        short += "."
    elif len(reached):
        row = reached.loc[reached["depth_to_goal"].idxmin()]
        advice, short = "Fewest layers:", f"Fewest layers to an error of {SHOWN_GOAL}; its time there is not known."
        why = f"It reaches {SHOWN_GOAL} with the fewest layers, {row['depth_to_goal']:.0f}; its time is not known."
    else:
        row = rows.loc[rows["error"].idxmin()]
        advice, short = "Closest:", f"No estimator reaches {SHOWN_GOAL} within {limit}; this one comes closest."
        why = f"No estimator reaches an error of {SHOWN_GOAL} in the median seed within {limit}."
    goal = math.isfinite(row["depth_to_goal"])
    deepest, memory = text.seconds(row["seconds_deepest"][0]), row["memory_to_goal"] if goal else row["memory_deepest"]
    return {
        "use": row["estimator"], "advice": f"{advice} `{row['estimator']}`", "short": short, "why": why,
        "error": text.Cell(f"≤ {SHOWN_GOAL}", key=GOAL) if goal else text.number(row["error"]),
        "depth": text.fixed(row["depth_to_goal"] if goal else row["depth"], 0),
        "time": time_to_goal(row) if goal else text.starred(deepest, row["seconds_deepest"][1]),
        "memory": text.starred(text.memory(memory[0]), memory[1]),
    }  # fmt: skip


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
