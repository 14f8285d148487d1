"""The answer a report opens with: which estimator to use on each case, in sentences computed from the summary."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from pudle.reports import text
from pudle.reports.load import Results
from pudle.reports.tables import GOAL


def answers(results: Results, summary: pd.DataFrame) -> list[dict[str, Any]]:
    """Return, per case, which estimator to use and why.

    Returns
    -------
    list of dict
        ``case`` and ``problem`` name the case; ``use`` is the estimator (empty where nothing was scored), ``advice`` the
        same in words, ``short`` the reason in one sentence and ``why`` in a few; ``error``, ``depth``, ``time`` and
        ``memory`` are the budget at which it holds, where * marks what lies outside the depths that were measured.
    """
    found = []
    for name, case in results.cases.items():
        rows = summary[summary["case"] == name]
        sentences = [_quickest(rows), _most_accurate(rows), _floors(rows), _accelerations(rows)]
        found.append({
            "case": name, "problem": f"{case['dataset']}, {case['algorithm']}, {case['loss']} loss",
            "dataset": case["dataset"], "algorithm": case["algorithm"], "loss": case["loss"],
            **_choice(rows), "why": " ".join(filter(None, sentences)),
        })  # fmt: skip
    return found


def _choice(rows: pd.DataFrame) -> dict[str, str]:
    """Choose the cheapest that reaches the goal, else the one with the fewest layers, else the closest."""
    goal = text.number(GOAL, 1)
    quick = rows[rows["seconds_to_goal"].notna() & np.isfinite(rows["depth_to_goal"])]
    shallow = rows[np.isfinite(rows["depth_to_goal"])]
    accurate = rows[rows["error"].notna()]
    if len(quick):
        row = quick.loc[quick["seconds_to_goal"].idxmin()]
        level = [f"`{name}`" for name in _level(quick, row)["estimator"]]
        some = level if len(level) <= 2 else [*level[:1], f"{len(level) - 1} others"]
        as_fast = f"; {text.listing(some)} {'is' if len(level) == 1 else 'are'} as fast within the timings" if level else ""
        advice, short = "Use", f"Cheapest to an error of {goal}{as_fast}."
    elif len(shallow):
        row = shallow.loc[shallow["depth_to_goal"].idxmin()]
        advice, short = "Fewest layers:", f"Fewest layers to an error of {goal}; its time there is not known."
    elif len(accurate):
        row = accurate.loc[accurate["error"].idxmin()]
        advice, short = "Closest:", f"None gets to {goal} within {rows['depth'].max():.0f} layers; this one comes closest."
    else:
        blank = dict.fromkeys(("error", "depth", "time", "memory"), text.DASH)
        return {"use": "", "advice": "No answer", "short": "Nothing was scored here."} | blank
    reached = math.isfinite(row["depth_to_goal"])
    time = (row["seconds_to_goal"], row["extrapolated"]) if reached else row["seconds_deepest"]
    return {
        "use": row["estimator"], "advice": f"{advice} `{row['estimator']}`", "short": short,
        "error": f"≤ {goal}" if reached else text.number(row["error"]),
        "depth": f"{row['depth_to_goal'] if reached else row['depth']:.0f}",
        "time": _marked(time, text.seconds),
        "memory": _marked(row["memory_to_goal"] if reached else row["memory_deepest"], text.memory),
    }  # fmt: skip


def _marked(value: tuple[float, bool], show: Callable[[float], str]) -> str:
    number, outside = value
    return show(number) + ("*" if outside and not math.isnan(number) else "")


def _level(timed: pd.DataFrame, first: pd.Series) -> pd.DataFrame:
    """Return those that cannot be told from the quickest."""
    level = [name != first["estimator"] and not _beats(first["seconds_by_seed"], theirs)
             for name, theirs in zip(timed["estimator"], timed["seconds_by_seed"], strict=True)]  # fmt: skip
    return timed[level]


def _quickest(rows: pd.DataFrame) -> str:
    goal = text.number(GOAL, 1)
    reached = rows[np.isfinite(rows["depth_to_goal"])]
    if rows["error"].isna().all():
        return "Nothing was scored here: see what was skipped, refused or failed."
    if reached.empty:
        return f"No estimator gets its error to {goal} in the median seed within {rows['depth'].max():.0f} layers."
    timed = reached[reached["seconds_to_goal"].notna()]
    if timed.empty:
        first = reached.loc[reached["depth_to_goal"].idxmin()]
        return f"It reaches {goal} with the fewest layers, {first['depth_to_goal']:.0f}; its time is not known."
    first = timed.loc[timed["seconds_to_goal"].idxmin()]
    outside = ", extrapolated" if first["extrapolated"] else ""
    sentence = (
        f"It is the cheapest that reaches {goal}: {text.seconds(first['seconds_to_goal'])}, "
        f"{first['depth_to_goal']:.0f} layers{outside}."
    )
    level = _level(timed, first)
    if len(level):
        names = text.listing([f"`{name}` ({text.seconds(value)})" for name, value in
                              zip(level["estimator"], level["seconds_to_goal"], strict=True)])  # fmt: skip
        sentence += f" With these timings it cannot be told from {names}."
    return sentence


def _beats(mine: dict[int, tuple[float, float]], theirs: dict[int, tuple[float, float]]) -> bool:
    """Whether one is faster on every seed, by more than the quartiles of both timings.

    Seeds are compared one by one: they differ more from each other than estimators do on any of them.
    """
    # A time that is not known is that of a seed that does not get there, or gets there beyond all timed depths.
    known = [
        (mine[seed][1], low) for seed, (low, _) in theirs.items()
        if seed in mine and not (math.isnan(mine[seed][1]) and math.isnan(low))
    ]  # fmt: skip
    return bool(known) and all(high < (math.inf if math.isnan(low) else low) for high, low in known)


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
    sentence = f"Most accurate at depth {deepest:.0f}: `{best['estimator']}`, {text.number(best['error'])}"
    others = [errors for name, errors in zip(rows["estimator"], rows["errors_by_seed"], strict=True)
              if name != best["estimator"]]  # fmt: skip
    won = sum(
        all(error <= theirs.get(seed, math.inf) for theirs in others) for seed, error in best["errors_by_seed"].items()
    )
    if others and best["seeds_measured"] > 1:
        sentence += f" (best in {won} of {best['seeds_measured']} seeds)"
    return f"{sentence}."


def _floors(rows: pd.DataFrame) -> str:
    rows = rows[rows["claims_floor"] & rows["error"].notna()]
    if rows.empty:
        return ""
    names = [f"`{name}` ({text.number(error)})" for name, error in zip(rows["estimator"], rows["error"], strict=True)]
    verb = "keeps" if len(names) == 1 else "keep"
    return f"{text.listing(names)} {verb} an error on this loss that no depth removes."


def _accelerations(rows: pd.DataFrame) -> str:
    rows = rows[rows["acceleration"].notna() & (rows["predicted"].str.contains("ρ²ᵀ")) & ~rows["crooked"]]
    if rows.empty:
        return ""
    found = [f"`{row.estimator}` {text.between(row.acceleration, row.acceleration_low, row.acceleration_high, _two)}"
             for row in rows.itertuples()]  # fmt: skip
    return f"Rate of decay over that of `alternating` (theory: 2): {text.listing(found)}."


def _two(value: float) -> str:
    return f"{value:.2f}"
