"""The data that a page carries, once: columns and codes instead of rows, compressed; the script
computes from them.

The page decodes it with `JSON.parse`. Errors are exact; other numbers have as many digits as a
figure can show.
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

from pudle import text
from pudle.answers import Curve, Line, limits
from pudle.reports import tables
from pudle.reports.answers import findings
from pudle.reports.looks import looks_of
from pudle.reports.page import charts
from pudle.reports.page.charts import short
from pudle.reports.rates import predicted_slopes
from pudle.reports.results import TITLES, Results

#: A page of more errors than this carries their median, least and greatest over the seeds.
MOST_ERRORS = 100_000


def encode(content: Any) -> str:
    """Return content as JSON, compressed, as text that a page may hold."""
    written = json.dumps(content, allow_nan=False, separators=(",", ":")).encode()
    # No date: the same results make the same page.
    return base64.b64encode(gzip.compress(written, 6, mtime=0)).decode()


def looks_data(sides: Iterable[Results]) -> dict[str, Any]:
    """Return color, outline of the marker and dashes of every estimator."""
    styles = {name: look for side in sides for name, look in looks_of(side).items()}
    return {
        name: {"color": look.color, "shape": look.shape, "dashes": look.dashes}
        for name, look in styles.items()
    }


def run_data(
    results: Results, summary: pd.DataFrame, rates: pd.DataFrame, label: str
) -> dict[str, Any]:
    """Return what the page knows of one run."""
    whole = sum(len(case["seeds"]) * len(case["depths"]) for case in results.cases.values()) * len(
        results.estimators
    )
    condensed = whole > MOST_ERRORS
    # Details of so many records take more than a page: it shows the leading error alone.
    metrics = list(TITLES)[:1] if condensed else list(TITLES)
    newest = results.provenances[0] if results.provenances else {}
    places = {name: place for place, name in enumerate(results.estimators)}
    summaries = dict(iter(summary.groupby("case", sort=False))) if len(summary) else {}
    by_case: dict[str, list[Any]] = {name: [None] * len(places) for name in results.cases}
    for row in summary.to_dict("records"):
        by_case[row["case"]][places[row["estimator"]]] = row
    measured = [each for of_case in results.measured.values() for each in of_case]
    return {
        "label": label,
        "profile": results.profile,
        "commit": str(newest.get("commit") or "")[:12],
        "date": str(newest.get("date") or ""),
        "machine": str(newest.get("machine") or "unknown"),
        "condensed": condensed,
        "estimators": list(results.estimators),
        "cases": [
            _case(results, rates_of, name, metrics, condensed, by_case[name])
            | {"findings": findings(summaries[name])}
            for name, rates_of in _by_case(results, rates).items()
        ],
        "limits": {cost: limits(measured, cost) for cost in ("seconds", "memory")},
        "charts": charts.rates(summary),
        "tables": {
            "rates": table(
                tables.rates_table(summary), "Error per layer: predicted by theory and fitted"
            ),
            "references": table(
                tables.references_table(results), "References, per case and target"
            ),
        }
        if results.cases
        else {},
    }


def table(frame: pd.DataFrame, caption: str) -> dict[str, Any]:
    """Return a table of text as data: its caption, columns and cells."""
    columns = frame.columns.tolist()
    return {
        "caption": caption,
        "columns": columns,
        "rows": [[_cell(value) for value in row] for row in frame.to_numpy()],
    }


def _cell(value: Any) -> Any:
    """Return a cell as plain text, or with what else is known: key to sort by, details, whether it
    is best, estimator.
    """
    cell = text.Cell(value)
    key = (
        None
        if cell.key is None
        else "Infinity"
        if math.isinf(cell.key)
        else float(f"{cell.key:.6g}")
    )
    known = {
        "key": key,
        "details": cell.details,
        "best": bool(cell.best),
        "estimator": cell.estimator,
    }
    known = {name: item for name, item in known.items() if item or item == 0 and name == "key"}
    return {"text": cell.head, **known} if known else str(cell)


def _by_case(results: Results, rates: pd.DataFrame) -> Mapping[str, pd.DataFrame]:
    parts = dict(iter(rates.groupby("case", sort=False))) if len(rates) else {}
    return {name: parts.get(name, rates.iloc[:0]) for name in results.cases}


def _case(
    results: Results,
    rates: pd.DataFrame,
    name: str,
    metrics: Sequence[str],
    condensed: bool,
    rows: Sequence[Any],
) -> dict[str, Any]:
    case = results.cases[name]
    curves = {
        metric: [results.curve(name, spec, metric) for spec in results.estimators]
        for metric in metrics
    }
    seeds = sorted(
        {
            *case["seeds"],
            *(int(seed) for part in curves.values() for curve in part for seed in curve.seeds),
        }
    )
    described = {
        "name": name,
        **{key: case[key] for key in ("dataset", "algorithm", "loss")},
        "target": results.target(name),
        "badge": results.badge(name),
        "seeds": seeds,
        "bound": _bound(results, name),
        "charts": charts.stored(results, name),
        # Empty where an estimator is not measured on the case.
        "status": [row["status"] if row else "" for row in rows],
        "reason": [
            row["reason"] if row else "this run does not measure it on this case" for row in rows
        ],
        "theory": [
            point for slope in predicted_slopes(results, rates, name) for point in _theory(**slope)
        ],
    }
    for metric, part in curves.items():
        exact = metric == "relative_error"
        found = [_errors(curve, seeds, exact, condensed) for curve in part]
        if exact or any(found):
            described[metric] = found
    described["seconds"] = [
        _cost(condensed, *(results.line(name, spec, cost) for cost in ("seconds", "low", "high")))
        for spec in results.estimators
    ]
    described["memory"] = [
        _cost(condensed, results.line(name, spec, "memory_bytes")) for spec in results.estimators
    ]
    return described


def _theory(
    law: str, estimator: str, depths: np.ndarray, errors: np.ndarray
) -> list[dict[str, Any]]:
    """Return a slope that theory predicts as points, of which the middle one has its name."""
    return [
        {
            "law": law,
            "estimator": estimator,
            "x": short(x),
            "y": short(y),
            "label": place == len(depths) // 2,
        }
        for place, (x, y) in enumerate(zip(depths, errors, strict=True))
    ]


def _errors(
    curve: Curve, seeds: Sequence[int], exact: bool, condensed: bool
) -> list[dict[str, Any]]:
    """Return the errors of an estimator by depth: median, least and greatest over the seeds, and
    those of all `seeds`.

    ``status`` says where some or all are at the reference's bound. A condensed curve has the median
    in place of the seeds.
    """
    plain = exact and not condensed
    values = np.full((len(curve.depths), len(seeds)), math.nan)
    values[:, np.searchsorted(seeds, curve.seeds)] = curve.values
    known = ~np.isnan(values)
    measured, floored = known.sum(axis=1), curve.at_floor.sum(axis=1)
    rows = np.flatnonzero(measured)
    found = []
    for row, (depth, *spread) in zip(rows.tolist(), curve.spread.tolist(), strict=True):
        middle, least, greatest = spread if plain else map(short, spread)
        kept = (
            [middle]
            if condensed
            else [
                None if value != value else value if plain else short(value)
                for value in values[row].tolist()
            ]
        )
        found.append(
            {
                "depth": int(depth),
                "middle": middle,
                "least": least,
                "greatest": greatest,
                "values": kept,
            }
        )
        if exact and not condensed and floored[row]:
            found[-1]["status"] = (
                "at the bound" if floored[row] == measured[row] else "in part at the bound"
            )
    return found


def _cost(condensed: bool, line: Line, *quartiles: Line) -> list[Any] | None:
    """Return a cost against depth: depths, values, first and last measured depth, and the quartiles
    of the values.
    """
    if not len(line.depths):
        return None
    exact = [item.values.tolist() for item in (line, *quartiles)]
    values = [
        [None if value != value else short(value) if condensed else value for value in item]
        for item in exact
    ]
    known = [min(line.measured), max(line.measured)]
    return [line.depths.tolist(), values[0], known, *values[1:]]


def _bound(results: Results, name: str) -> float | None:
    """Return the greatest bound over the seeds of the case's first target, certified or estimated."""
    return results.bounds.get((name, results.target(name)))
