"""Which estimator to use on each case: the answers that a report begins with, and its budgets."""

import itertools

import pandas as pd

from pudle import answers as engine
from pudle import text
from pudle.answers import Requirement, answer
from pudle.reports.results import Results, Row
from pudle.reports.summary import BASE, FEWEST_SEEDS
from pudle.reports.tables import RATIO, between

#: Required errors that the page offers; None asks for the least.
ERRORS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-6, 1e-8, None)


def answers(
    results: Results, summary: pd.DataFrame, requirement: Requirement | None = None
) -> list[Row]:
    """Return, per case, which estimator to use and why.

    ``case`` names the case, and ``label`` is what it is called. ``use`` is the estimator (empty if
    there is none), ``short`` the reason in one sentence and ``why`` in a few. ``error``, ``depth``,
    ``time`` and ``memory`` are what it reaches and costs, with * after an extrapolated value.
    """
    rows = []
    for name, part in summary.groupby("case", sort=False) if len(summary) else ():
        chosen = answer(results.measured[name], requirement or Requirement())
        rows.append(
            {
                "case": name,
                "label": results.labels[name],
                "badge": results.badge(name),
                "use": chosen.estimator,
                "short": chosen.reason,
                "why": f"{chosen.reason} {findings(part)}".strip(),
                "ties": list(chosen.ties),
                **chosen.cells,
            }
        )
    return rows


def budgets(results: Results) -> pd.DataFrame:
    """Return, per case, the best estimator for some accuracies, times and memories, a column each.

    A cell is the estimator with a detail: the time to that accuracy, or the error within that
    budget. Where there is no estimator, it says why.
    """
    requirements = engine.budgets([*itertools.chain(*results.measured.values())])
    rows = []
    for case, measured in results.measured.items():
        rows.append({"case": results.labels[case]})
        for requirement in requirements:
            estimator, value = answer(measured, requirement).value
            best = text.Cell(estimator, estimator, details=[value])
            rows[-1][str(requirement)] = best if estimator else text.Cell(value)
    return pd.DataFrame(rows, dtype=object)


def findings(rows: pd.DataFrame) -> str:
    """Say, for the summary of a case, what holds whatever error is wanted."""
    return " ".join(filter(None, [_most_accurate(rows), _floors(rows), _accelerations(rows)]))


def _most_accurate(rows: pd.DataFrame) -> str:
    deepest = rows["depth"].max()
    rows = rows[rows["depth"] == deepest]
    if rows.empty:
        return ""
    bound = rows[rows["seeds_at_floor"] == rows["errors_by_seed"].map(len)]
    if len(bound) > 1:
        names = text.listing([f"`{name}`" for name in bound["estimator"]])
        which = f"{names}, all at the certified bound ({text.number(bound['error'].max())})"
    else:
        best = rows.loc[rows["error"].idxmin()]
        seeds = pd.DataFrame([*rows["errors_by_seed"]], index=rows["estimator"])
        own = seeds.loc[best["estimator"]].dropna()
        won = (own <= seeds[own.index].min()).sum()
        some = f" (best in {won} of {len(own)} seeds)" if len(rows) > 1 and len(own) > 1 else ""
        which = f"`{best['estimator']}`, {text.number(best['error'])}{some}"
    return f"Most accurate at depth {deepest:.0f}: {which}."


def _floors(rows: pd.DataFrame) -> str:
    rows = rows[rows["predicted"].eq("floor") & rows["error"].notna()]
    names = [f"`{row.estimator}` ({text.number(row.error)})" for row in rows.itertuples()]
    verb = "keeps" if len(names) == 1 else "keep"
    error = "an error on this loss that no depth removes."
    return f"{text.listing(names)} {verb} {error}" if names else ""


def _accelerations(rows: pd.DataFrame) -> str:
    squared = rows["predicted"].str.contains("ρ²ᵀ")
    rows = rows[rows["acceleration"].notna() & squared & ~rows["crooked"]]
    ratios = [
        f"`{row['estimator']}` {between(row, 'acceleration', RATIO)}"
        for row in rows.to_dict("records")
    ]
    fewest = rows["seeds_accelerated"].min() if ratios else 0
    what = "mean and its 95% interval" if fewest >= FEWEST_SEEDS else "median and range"
    basis = f"theory: 2; {what} over {text.count(fewest, 'seed')}"
    decay = f"Rate of decay over that of `{BASE}` ({basis}): {text.listing(ratios)}."
    return decay if ratios else ""
