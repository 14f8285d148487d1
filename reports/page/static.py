"""What the page shows where scripts do not run: a table of each case with a sketch of its curves,
and the budgets.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pudle import text
from pudle.reports.answers import budgets
from pudle.reports.page.data import table
from pudle.reports.report import Report

#: Cases, and rows of any table, that are shown without a script; `report.csv` holds all.
MOST_CASES, MOST_ROWS = 20, 200
#: Size of a sketch in pixels.
WIDTH, HEIGHT = 480, 150


def static_cases(report: Report) -> list[dict[str, Any]]:
    """Return the table of each of the first cases and the sketch of its curves."""
    shown = report.of_cases(list(report.results.cases)[:MOST_CASES]) if report.results.cases else []
    return [
        {
            "title": f"{case['name']}: {case['caption']}",
            **sketch(report, case["name"]),
            "table": table(case["summary"], f"Every estimator on {case['name']}"),
        }
        for case in shown
    ]


def static_budgets(report: Report) -> dict[str, Any] | None:
    """Return the table of the best estimator by budget, of the first cases."""
    rows = budgets(report.results, list(report.results.cases)[:MOST_CASES])
    if not rows:
        return None
    columns = ["case", *(cell["budget"] for cell in rows[0]["cells"])]
    found = [
        [
            row["case"],
            *(": ".join(filter(None, (cell["estimator"], cell["value"]))) for cell in row["cells"]),
        ]
        for row in rows
    ]
    return {"caption": "Which estimator at which budget", "columns": columns, "rows": found}


def static_bought(charts: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return a table per chart of what trainings led to."""
    return [
        {
            "caption": chart["title"],
            "columns": ["method", "error of the gradient", chart["yTitle"]],
            "rows": [
                [row["method"], text.number(row["gradient_error"]), text.number(row["outcome"], 3)]
                for row in chart["rows"]
            ],
        }
        for chart in charts
    ]


def sketch(report: Report, case: str) -> dict[str, Any]:
    """Return the median errors of a case against depth as ``paths`` of an SVG by estimator, and
    what they span in words.
    """
    results = report.results
    curves = {name: results.curve(case, name).spread[:, :2] for name in results.estimators}
    curves = {
        name: rows for name, found in curves.items() if len(rows := found[found[:, 1] > 0]) > 1
    }
    if not curves:
        return {"paths": {}, "about": ""}
    every = np.vstack(list(curves.values()))
    (first, least), (last, greatest) = every.min(axis=0), every.max(axis=0)
    span = math.log(greatest / least) or 1.0
    paths = {}
    for name, rows in curves.items():
        across = WIDTH * (rows[:, 0] - first) / ((last - first) or 1.0)
        down = HEIGHT * (math.log(greatest) - np.log(rows[:, 1])) / span
        paths[name] = "M" + "L".join(f"{x:.0f} {y:.0f}" for x, y in zip(across, down, strict=True))
    about = (
        f"Median error, {greatest:.1e} to {least:.1e} on a logarithmic scale, against depth,"
        f" {first:.0f} to {last:.0f}"
    )
    return {"paths": paths, "about": about}
