"""The data that a page carries, once: columns and codes instead of rows, compressed; the script computes from them.

The page decodes it with `JSON.parse`. Errors are exact; other numbers have as many digits as a figure can show.
"""

from __future__ import annotations

import base64
import gzip
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from pudle.reports import tables, text
from pudle.reports.answers import findings
from pudle.reports.costs import limits, points
from pudle.reports.curves import Curve, Line
from pudle.reports.looks import looks_of
from pudle.reports.rates import predicted_slopes
from pudle.reports.results import TITLES, Results
from pudle.reports.summary import GOAL

#: A page of more errors than this carries their median, least and greatest over the seeds.
MOST_ERRORS = 100_000
DIGITS = 4


def encode(content: Any) -> str:
    """Return content as JSON, compressed, as text that a page may hold."""
    written = json.dumps(content, allow_nan=False, separators=(",", ":")).encode()
    # No date: the same results make the same page.
    return base64.b64encode(gzip.compress(written, 6, mtime=0)).decode()


def looks_data(sides: Iterable[Results]) -> dict[str, Any]:
    """Return color, outline of the marker and dashes of every estimator."""
    styles = {name: look for side in sides for name, look in looks_of(side).items()}
    return {name: {"color": look.color, "shape": look.shape, "dashes": look.dashes} for name, look in styles.items()}


def run_data(results: Results, summary: pd.DataFrame, rates: pd.DataFrame, label: str) -> dict[str, Any]:
    """Return what the page knows of one run."""
    whole = sum(len(case["seeds"]) * len(case["depths"]) for case in results.cases.values()) * len(results.estimators)
    condensed = whole > MOST_ERRORS
    # Details of so many records take more than a page: it shows the leading error alone.
    metrics = list(TITLES)[:1] if condensed else list(TITLES)
    newest = results.provenances[0] if results.provenances else {}
    places = {name: place for place, name in enumerate(results.estimators)}
    summaries = dict(iter(summary.groupby("case", sort=False))) if len(summary) else {}
    by_case: dict[str, list[Any]] = {name: [None] * len(places) for name in results.cases}
    for row in summary.to_dict("records"):
        by_case[row["case"]][places[row["estimator"]]] = row
    found = [points(results, case) for case in results.cases]
    return {
        "label": label,
        "profile": results.profile,
        "commit": str(newest.get("commit") or "")[:12],
        "date": str(newest.get("date") or ""),
        "machine": str(newest.get("machine") or "unknown"),
        "condensed": condensed,
        "estimators": list(results.estimators),
        "cases": [
            _case(results, rates_of, name, metrics, condensed, by_case[name]) | {"findings": findings(summaries[name])}
            for name, rates_of in _by_case(results, rates).items()
        ],
        "limits": {cost: limits(found, cost, unit) for cost, unit in (("seconds", 1.0), ("memory", 2.0**20))},
        "rates": _rates(summary, results),
        "tables": {
            "rates": table(tables.rates_table(summary), "Error per layer: predicted by theory and fitted"),
            "references": table(tables.references_table(results), "References, per case and target"),
        } if results.cases else {},
    }  # fmt: skip


def table(frame: pd.DataFrame, caption: str) -> dict[str, Any]:
    """Return a table of text as data: its caption, columns and cells."""
    columns = frame.columns.tolist()
    return {"caption": caption, "columns": columns, "rows": [[_cell(value) for value in row] for row in frame.to_numpy()]}


def _cell(value: Any) -> Any:
    """Return a cell as plain text, or as [text, key to sort by, details, whether best, estimator]."""
    cell = text.Cell(value)
    if cell.key is None and not cell.details and not cell.best and not cell.estimator:
        return str(cell)
    key = None if cell.key is None else "Infinity" if math.isinf(cell.key) else float(f"{cell.key:.6g}")
    return [cell.head, key, list(cell.details), int(cell.best), cell.estimator]


def _by_case(results: Results, rates: pd.DataFrame) -> Mapping[str, pd.DataFrame]:
    parts = dict(iter(rates.groupby("case", sort=False))) if len(rates) else {}
    return {name: parts.get(name, rates.iloc[:0]) for name in results.cases}


def _case(
    results: Results, rates: pd.DataFrame, name: str, metrics: Sequence[str], condensed: bool, rows: Sequence[Any]
) -> dict[str, Any]:
    case, target = results.cases[name], results.target(name)
    curves = {metric: [results.curve(name, spec, metric) for spec in results.estimators] for metric in metrics}
    measured = [curve for part in curves.values() for curve in part]
    depths = sorted({*case["depths"], *(int(depth) for curve in measured for depth in curve.depths)})
    seeds = sorted({*case["seeds"], *(int(seed) for curve in measured for seed in curve.seeds)})
    described = {
        "name": name, **{key: case[key] for key in ("dataset", "algorithm", "loss")}, "target": target,
        "badge": results.badge(name), "depths": depths, "seeds": seeds, "bound": _bound(results, name),
        # Empty where an estimator is not measured on the case.
        "status": [row["status"] if row else "" for row in rows],
        "reason": [row["reason"] if row else "this run does not measure it on this case" for row in rows],
        "theory": [slope | {key: list(map(_short, slope[key])) for key in ("depths", "errors")}
                   for slope in predicted_slopes(results, rates, name)],
    }  # fmt: skip
    for metric, part in curves.items():
        exact = metric == "relative_error"
        found = [_values(curve, depths, seeds, exact, condensed) for curve in part]
        if exact or any(found):
            described[metric] = found
    described["floor"] = [[] if condensed else _floors(curve, depths, seeds) for curve in curves["relative_error"]]
    described["seconds"] = [_cost(condensed, *(results.line(name, spec, cost) for cost in ("seconds", "low", "high")))
                            for spec in results.estimators]  # fmt: skip
    described["memory"] = [_cost(condensed, results.line(name, spec, "memory_bytes")) for spec in results.estimators]
    described |= {kind: found for kind in ("window_surface", "jacobian_error") if (found := _artifact(results, kind, name))}
    return described


def _values(curve: Curve, depths: Sequence[int], seeds: Sequence[int], exact: bool, condensed: bool) -> list[Any] | None:
    """Return a curve as a list over depths and seeds, or over depths and (median, least, greatest); None without a value."""
    if condensed:
        spread, columns = curve.spread, 3
        rows, values = spread[:, 0], spread[:, 1:]
    else:
        columns, rows = len(seeds), curve.depths
        values = np.full((len(rows), columns), math.nan)
        values[:, np.searchsorted(seeds, curve.seeds)] = curve.values
    if np.isnan(values).all():
        return None
    grid = np.full((len(depths), columns), math.nan)
    grid[np.searchsorted(depths, rows)] = values
    return [
        None if value != value else value if exact and not condensed else _short(value) for value in grid.ravel().tolist()
    ]


def _floors(curve: Curve, depths: Sequence[int], seeds: Sequence[int]) -> list[int]:
    """Return the places in the list of `_values` where the error is at the reference's bound."""
    rows, columns = np.nonzero(curve.at_floor)
    return (np.searchsorted(depths, curve.depths[rows]) * len(seeds) + np.searchsorted(seeds, curve.seeds[columns])).tolist()


def _cost(condensed: bool, line: Line, *quartiles: Line) -> list[Any] | None:
    """Return a cost against depth: depths, values, first and last measured depth, and the quartiles of the values."""
    if not len(line.depths):
        return None
    exact = [item.values.tolist() for item in (line, *quartiles)]
    values = [[_short(value) for value in item] for item in exact] if condensed else exact
    return [line.depths.tolist(), values[0], list(line.known), *values[1:]]


def _bound(results: Results, name: str) -> float | None:
    """Return the greatest bound over the seeds of the case's first target, certified or estimated."""
    return results.bounds.get((name, results.target(name)))


def _artifact(results: Results, kind: str, name: str) -> list[dict[str, Any]]:
    """Return the median over the seeds of a stored surface or curve."""
    rows = results.artifact_rows(kind, name)
    rows = rows[rows["relative_error"].notna()] if len(rows) else rows
    if rows.empty:
        return []
    keys = ["depth", "window"] if kind == "window_surface" else ["depth"]
    spread = rows.groupby(keys)["relative_error"].agg(["median", "min", "max"]).reset_index()
    return [dict(zip([*keys, "error", "least", "greatest"], map(_short, row), strict=True))
            for row in spread.itertuples(index=False, name=None)]  # fmt: skip


def _rates(summary: pd.DataFrame, results: Results) -> list[dict[str, Any]]:
    """Return the percentage of the error that each layer removes, fitted and predicted, per case and estimator."""
    if summary.empty:
        return []
    rows = summary[summary["rate"].notna() & summary["predicted_rate"].notna()]
    names = ("rate", "rate_low", "rate_high", "predicted_rate", "predicted_rate_low", "predicted_rate_high")
    return [
        {"case": row["case"], "estimator": row["estimator"], "straight": not row["crooked"],
         **{name: _short(100 * (1 - row[name])) for name in names}}
        for row in rows.to_dict("records")
    ]  # fmt: skip


def _short(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")


#: The error that the page wants before its reader says otherwise.
DEFAULTS = {"error": GOAL}
