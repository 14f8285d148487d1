"""Which estimator to use on each case: the answers that a report begins with, and its budgets."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import pandas as pd

from pudle import answers as engine
from pudle import text
from pudle.answers import Requirement, answer
from pudle.reports.rates import BASE
from pudle.reports.results import Results
from pudle.reports.summary import FEWEST_SEEDS
from pudle.reports.tables import RATIO, between

#: Required errors that the page offers; None asks for the least.
ERRORS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-6, 1e-8, None)


def answers(
    results: Results,
    summary: pd.DataFrame,
    requirement: Requirement | None = None,
    most: int | None = None,
) -> list[dict[str, Any]]:
    """Return, per case, which estimator to use and why; of the first `most` cases if that is given.

    ``case`` and ``problem`` name the case. ``use`` is the estimator (empty if there is none),
    ``advice`` the same in words, ``short`` the reason in one sentence and ``why`` in a few.
    ``error``, ``depth``, ``time`` and ``memory`` are what it reaches and costs, with * after an
    extrapolated value.
    """
    by_case = dict(iter(summary.groupby("case", sort=False))) if len(summary) else {}
    rows = []
    for name, case in itertools.islice(results.cases.items(), most):
        chosen = answer(results.measured[name], requirement or Requirement())
        facts = {key: case[key] for key in ("dataset", "algorithm", "loss")}
        rows.append(
            {
                "case": name,
                "problem": "{dataset}, {algorithm}, {loss} loss".format(**facts),
                "badge": results.badge(name),
                **facts,
                "use": chosen.estimator,
                "advice": chosen.advice + (f" `{chosen.estimator}`" if chosen.estimator else ""),
                "short": chosen.reason,
                "why": f"{chosen.reason} {findings(by_case[name])}".strip(),
                "ties": list(chosen.ties),
                **chosen.cells,
            }
        )
    return rows


def budgets(results: Results, cases: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Return, per case (all by default), the best estimator for some accuracies, times and
    memories.

    Each of the ``cells`` of a ``case`` has the ``budget`` in words, the ``estimator`` (empty if
    there is none) and its ``value``: the time to that accuracy, or the error within that budget.
    """
    measured = {
        case: results.measured[case] for case in (results.cases if cases is None else cases)
    }
    requirements = engine.budgets([*itertools.chain(*measured.values())])
    rows = []
    for case, every in measured.items():
        values = {str(each): answer(every, each).value for each in requirements}
        cells = [
            {"budget": budget, "estimator": estimator, "value": value}
            for budget, (estimator, value) in values.items()
        ]
        rows.append({"case": case, "cells": cells})
    return rows


def findings(rows: pd.DataFrame) -> str:
    """Say, for the summary of a case, what holds whatever error is wanted."""
    return " ".join(filter(None, [_most_accurate(rows), _floors(rows), _accelerations(rows)]))


def _most_accurate(rows: pd.DataFrame) -> str:
    deepest = rows["depth"].max()
    rows = rows[(rows["depth"] == deepest) & rows["error"].notna()]
    if rows.empty:
        return ""
    bound = rows[rows["seeds_at_floor"] == rows["errors_by_seed"].map(len)]
    if len(bound) > 1:
        names = text.listing([f"`{name}`" for name in bound["estimator"]])
        which = f"{names}, all at the certified bound ({text.number(bound['error'].max())})"
        return f"Most accurate at depth {deepest:.0f}: {which}."
    best = rows.loc[rows["error"].idxmin()]
    others = rows.loc[rows["estimator"] != best["estimator"], "errors_by_seed"]
    own = best["errors_by_seed"]
    won = sum(
        all(error <= other.get(seed, math.inf) for other in others) for seed, error in own.items()
    )
    seeds = f" (best in {won} of {len(own)} seeds)" if len(others) and len(own) > 1 else ""
    which = f"`{best['estimator']}`, {text.number(best['error'])}{seeds}"
    return f"Most accurate at depth {deepest:.0f}: {which}."


def _floors(rows: pd.DataFrame) -> str:
    rows = rows[rows["claims_floor"] & rows["error"].notna()]
    names = [f"`{row.estimator}` ({text.number(row.error)})" for row in rows.itertuples()]
    verb = "keeps" if len(names) == 1 else "keep"
    error = "an error on this loss that no depth removes."
    return f"{text.listing(names)} {verb} {error}" if names else ""


def _accelerations(rows: pd.DataFrame) -> str:
    squared = rows["predicted"].str.contains("ρ²ᵀ")
    rows = rows[rows["acceleration"].notna() & squared & ~rows["crooked"]]
    if rows.empty:
        return ""
    ratios = [
        f"`{row['estimator']}` {between(row, 'acceleration', RATIO)}"
        for row in rows.to_dict("records")
    ]
    fewest = rows["seeds_accelerated"].min()
    what = "mean and its 95% interval" if fewest >= FEWEST_SEEDS else "median and range"
    basis = f"theory: 2; {what} over {text.count(fewest, 'seed')}"
    return f"Rate of decay over that of `{BASE}` ({basis}): {text.listing(ratios)}."
