"""The figures of the page, drawn by Vega-Lite from the package vl-convert-python, which holds its
JavaScript.

Chosen over Bokeh, the other library whose Python package brings its script: 0.9 MB in the page
against 1.4 MB; charts are SVG, sharp on paper and at any zoom, with names for screen readers, where
Bokeh draws on a canvas; its interpreter of expressions needs no ``eval``, so that the page keeps
its policy. It takes some seconds to put the script together, which is therefore done once per
version and kept in the user's cache. What all charts of a kind share stands in
``templates/vega.json``.
"""

from __future__ import annotations

import contextlib
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd

from pudle import text
from pudle.files import write_atomically
from pudle.reports.figures.record import Axis, Figure
from pudle.reports.looks import Look, looks_of
from pudle.reports.report import Report
from pudle.reports.results import Results

#: What several runs are compared by: word and title of the axis by column.
TRENDS = {
    "error": ("error", "relative error at the deepest depth"),
    "ms": ("time", "time to the required error (ms)"),
    "mib": ("memory", "memory there (MiB)"),
}
#: Cells of a matrix that have no number say why, in a matrix of no more cases than this.
MOST_WORDS = 12


def script() -> str:
    """Return the script that defines ``vegaEmbed``, as text that may stand inside a page."""
    import vl_convert

    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    kept = home / "pudle" / f"vega-{vl_convert.__version__}.js"
    with contextlib.suppress(OSError):
        return kept.read_text(encoding="utf-8")
    # Nothing but `</` could end a script element; in JavaScript's own strings it may be written so.
    made = vl_convert.javascript_bundle().replace("</script", "<\\/script")
    # A page needs no cache, which may be read-only.
    with contextlib.suppress(OSError):
        write_atomically(kept, made)
    return made


def chart(figure: Figure, host: str, **more: Any) -> dict[str, Any]:
    """Return a figure as the script reads it, to be drawn in the element `host`."""
    guides = [
        {"label": row["label"], "estimator": row["estimator"], "x": row["x"], "y": row["y"]}
        | {"middle": bool(row["label"]) and place == len(rows) // 2}
        for _, rows in figure.guides.groupby("label", sort=False)
        for place, row in enumerate(rows.to_dict("records"))
    ]
    shared = ("name", "title", "mark", "series", "note")
    return {
        "host": host,
        "height": 270,
        **{name: getattr(figure, name) for name in shared},
        "about": figure.alt,
        "x": [asdict(axis) for axis in figure.x],
        "y": [asdict(axis) for axis in figure.y],
        "color": figure.color and asdict(figure.color),
        "looks": {name: figure.looks[name].data for name in figure.lines},
        "levels": [{"y": height, "label": label} for height, label in figure.levels],
        "guides": guides,
        "tips": dict(figure.tips),
        "rows": columns(figure.rows),
    } | more


def columns(rows: pd.DataFrame) -> dict[str, list[Any]]:
    """Return a table by its columns, numbers with six digits and None where there is none; columns
    without any are left out.
    """
    kept = rows.dropna(axis="columns", how="all") if len(rows) else rows
    return {str(name): list(map(_short, kept[name].tolist())) for name in kept}


def _short(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    return float(f"{value:.6g}") if math.isfinite(value) else None


def overview(results: Results, errors: Sequence[float | None]) -> Iterator[Figure]:
    """Yield the time of every estimator to each of some errors over that of the fastest, on the
    cases with a certified reference.
    """
    cases = [case for case in results.cases if not results.badge(case)]
    rows = []
    for case in cases:
        for error in filter(None, errors):
            reaches = [each.reach(error) for each in results.measured[case]]
            times = [each.seconds.value for each in reaches if each.seconds.value > 0]
            for each in reaches:
                ratio = each.seconds.value / min(times) if each.seconds.value > 0 else math.nan
                reached = math.isfinite(each.depth)
                words = ("time?" if reached else "not reached") * (len(cases) <= MOST_WORDS)
                rows.append(
                    {
                        "case": case,
                        "estimator": each.estimator,
                        "goal": str(text.number(error, 1)),
                        "ratio": ratio,
                        "text": words if math.isnan(ratio) else str(text.number(ratio)),
                        "layers": each.depth if reached else "not reached",
                        "time": str(text.starred(text.seconds(each.seconds[0]), each.seconds[1])),
                        "memory": str(text.starred(text.memory(each.memory[0]), each.memory[1])),
                    }
                )
    if not rows:
        return
    left = len(results.cases) - len(cases)
    yield Figure(
        "time-to-error",
        "",
        "Time to the required error, over that of the fastest",
        pd.DataFrame(rows),
        [Axis("case", "", "ordinal")],
        [Axis("estimator", "", "ordinal")],
        mark="cell",
        color=Axis("ratio", "times the fastest"),
        about="Of every estimator on each case.",
        note="Cases that are scored against a limit are left out." if left else "",
        tips={"layers": "layers", "time": "time", "memory": "memory"},
    )


def trends(
    reports: Sequence[Report], names: Sequence[str], errors: Sequence[float | None]
) -> dict[str, list[Figure]]:
    """Return, by case, the error at the deepest depth over the runs, and per machine the time and
    the memory to each of some errors.
    """
    rows: list[dict[str, Any]] = []
    looks: dict[str, Look] = {}
    for name, report in zip(names, reports, strict=True):
        looks |= looks_of(report.results)
        origin = {"run": name} | origin_of(report.results)
        for case, measured in report.results.measured.items():
            for each in measured:
                known = origin | {"case": case, "estimator": each.estimator}
                rows += [known | {"error": point.error} for point in each.points[-1:]]
                for error in filter(None, errors):
                    reach, goal = each.reach(error), str(text.number(error, 1))
                    costs = {"ms": reach.seconds[0] * 1e3, "mib": reach.memory[0] / 2**20}
                    rows.append(known | costs | {"goal": goal})
    if not rows:
        return {}
    table = pd.DataFrame(rows).sort_values("date", kind="stable")
    made: dict[str, list[Figure]] = {case: [] for case in table["case"].unique()}
    for column, (word, title) in TRENDS.items():
        groups = ["case"] if column == "error" else ["case", "machine"]
        for (case, *machines), part in table[table[column] > 0].groupby(groups, sort=False):
            where = f"{word} on {machines[0]}" if machines else word
            made[case].append(
                Figure(
                    f"trend-{case}-{where}",
                    "",
                    f"{case}: {where}",
                    part.dropna(axis="columns", how="all"),
                    [Axis("run", "runs, from the oldest", "ordinal")],
                    [Axis(column, title, "log")],
                    looks,
                    tips={key: key for key in ("commit", "date", "machine")},
                )
            )
    return made


def origin_of(results: Results) -> dict[str, str]:
    """Return commit, day and machine of the newest record."""
    newest = results.provenances[0] if results.provenances else {}
    return {
        "commit": str(newest.get("commit") or "")[:12],
        "date": str(newest.get("date") or "")[:19],
        "machine": str(newest.get("machine") or "unknown"),
    }
