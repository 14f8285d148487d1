"""Charts of the page whose rows do not change with what its reader wants: the page filters them and
draws.

Each names the elements that it stands in (``host``), its ``kind`` of specification (see `charting`)
or its own ``spec``, and its ``rows``. A row has a ``name``, whose look it is drawn with; ``x``
lists the columns that the horizontal axis may show, with titles.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from pudle import text
from pudle.reports.figures.record import Figure
from pudle.reports.page.charting import matrix, tips
from pudle.reports.results import Results

DIGITS = 4
#: Greatest heights of charts in pixels, beside others and in a case's details.
LOW, HIGH = 250, 300


def short(value: float) -> float:
    """Round a number to as many digits as a figure can show."""
    return float(f"{value:.{DIGITS}g}")


def rates(summary: pd.DataFrame) -> list[dict[str, Any]]:
    """Return the chart of the percentage of the error that each layer removes, fitted against
    predicted, if there is any.
    """
    if summary.empty:
        return []
    rows = []
    for row in summary[summary["rate"].notna() & summary["predicted_rate"].notna()].to_dict(
        "records"
    ):
        # The greater the factor that remains, the less a layer removes.
        y, y_high, y_low = (short(100 * (1 - row[f"rate{end}"])) for end in ("", "_low", "_high"))
        x, x_high, x_low = (
            short(100 * (1 - row[f"predicted_rate{end}"])) for end in ("", "_low", "_high")
        )
        rows.append(
            {
                "name": row["estimator"],
                "estimator": row["estimator"],
                "case": row["case"],
                "rate": x,
                "y": y,
                "xLow": x_low,
                "xHigh": x_high,
                "yLow": y_low,
                "yHigh": y_high,
                "hollow": bool(row["crooked"]),
                "fitted": text.number(y, 3),
                "predicted": text.number(x, 3),
            }
        )
    if not rows:
        return []
    ends = [row[axis] for row in rows for axis in ("rate", "y")]
    listed = "; ".join(
        f"{row['estimator']} on {row['case']} {row['fitted']}, predicted {row['predicted']}"
        for row in rows
    )
    return [
        {
            "host": "#across",
            "kind": "scatter",
            "title": "Fitted against predicted rates",
            "height": 270,
            "about": f"Error lost per layer, fitted against predicted: {listed}.",
            "note": (
                "On the diagonal a rate is as theory predicts. Bars span the seeds; hollow markers"
                " belong to curves that are not straight."
            ),
            "x": [("rate", "predicted: error lost per layer (%)")],
            "yTitle": "fitted: error lost per layer (%)",
            "xLog": False,
            "yLog": False,
            "rows": rows,
            "data": {"theory": [{"x": end, "y": end} for end in (min(ends), max(ends))]},
            "tooltip": tips(
                estimator="estimator", case="case", fitted="fitted (%)", predicted="predicted (%)"
            ),
        }
    ]


def stored(results: Results, case: str) -> list[dict[str, Any]]:
    """Return the charts of a case's stored surface over windows and of the error of its Jacobian,
    if it has them.
    """
    charts = []
    if rows := _artifact(results, "window_surface", case):
        for row in rows:
            row |= {
                "y": row["window"],
                "value": row["error"],
                "text": "",
                "shown": text.number(row["error"]),
            }
        charts.append(
            {
                "title": "Error over depth and window",
                "about": f"{case}: error of truncated backpropagation over depth and window.",
                "spec": matrix(
                    "depth (layers)",
                    "window (layers differentiated)",
                    "relative error",
                    tips(depth="depth", window="window", shown="error"),
                    down=True,
                ),
                "rows": rows,
            }
        )
    if rows := _artifact(results, "jacobian_error", case):
        for order, row in enumerate(rows):
            row |= {
                "y": row["error"],
                "low": row["least"],
                "high": row["greatest"],
                "value": text.number(row["error"]),
                "order": order,
            }
        charts.append(
            {
                "title": "Burn-in: error of the unrolled Jacobian",
                "kind": "lines",
                "about": (
                    f"{case}: error of the unrolled Jacobian against depth; above one it is worse"
                    " than none."
                ),
                "yTitle": "relative error of the Jacobian",
                "xLog": False,
                "yLog": True,
                "rows": rows,
                "tooltip": tips(depth="depth", value="error"),
                # On the right, for the curve begins at it.
                "data": {
                    "levels": [{"y": 1, "label": "error of a Jacobian of zero", "right": True}]
                },
            }
        )
    shared = {"host": "#case-figures", "height": HIGH, "x": [("depth", "depth (layers)")]}
    return [
        shared | chart | {"rows": [{"name": "", "line": ""} | row for row in chart["rows"]]}
        for chart in charts
    ]


def _artifact(results: Results, kind: str, name: str) -> list[dict[str, Any]]:
    """Return the median over the seeds of a stored surface or curve."""
    rows = results.artifact_rows(kind, name)
    rows = rows[rows["relative_error"].notna()] if len(rows) else rows
    if rows.empty:
        return []
    keys = ["depth", "window"] if kind == "window_surface" else ["depth"]
    spread = rows.groupby(keys)["relative_error"].agg(["median", "min", "max"]).reset_index()
    return [
        dict(zip([*keys, "error", "least", "greatest"], map(short, row), strict=True))
        for row in spread.itertuples(index=False, name=None)
    ]


def training(figure: Figure, key: str) -> dict[str, Any]:
    """Return the chart of some trainings against steps, epochs or seconds."""
    (y,) = figure.y
    rows = []
    for label, data in figure.lines.items():
        for order, row in enumerate(data.to_dict("records")):
            known = {
                name: value if isinstance(value, str) else float(f"{value:.5g}")
                for name, value in row.items()
                if value == value
            }
            low, high = known[f"{y.column}_low"], known[f"{y.column}_high"]
            wide = high > low and (y.scale != "log" or low > 0)
            rows.append(
                {
                    "name": known["estimator"],
                    "line": label,
                    **known,
                    "y": known[y.column],
                    "order": order,
                    "value": text.number(known[y.column], 3),
                    **({"low": low, "high": high} if wide else {}),
                }
            )
    return {
        "host": f'[data-training="{key}"]',
        "kind": "training",
        "title": figure.title,
        "about": figure.alt,
        "height": LOW,
        "file": f"training-{figure.title}",
        "x": [(axis.column, axis.title) for axis in figure.x],
        "yTitle": y.title,
        "yLog": y.scale == "log",
        "rows": rows,
        "data": {"levels": [{"y": height} for height, _ in figure.levels]},
    }


def bought(charts: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the charts of what trainings led to against the error of their gradient."""
    made = []
    for chart in charts:
        rows = [
            row
            | {
                "name": row["estimator"],
                "y": row["outcome"],
                "gradient": text.number(row["gradient_error"]),
                "led": text.number(row["outcome"], 3),
            }
            for row in chart["rows"]
        ]
        listed = "; ".join(f"{row['method']} {row['gradient']} led to {row['led']}" for row in rows)
        made.append(
            {
                "host": "#bought-figures",
                "kind": "scatter",
                "title": chart["title"],
                "about": f"{chart['title']}: {listed}.",
                "file": f"bought-{chart['title']}",
                "height": 270,
                "note": chart["note"],
                "yTitle": chart["yTitle"],
                "x": [("gradient_error", "relative error of the gradient")],
                "xLog": True,
                "yLog": chart["log"],
                "rows": rows,
                "tooltip": tips(method="method", gradient="error of the gradient", led="led to"),
            }
        )
    return made
