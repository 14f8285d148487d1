"""The figures of the page, drawn by Vega-Lite from the package vl-convert-python, which holds its
JavaScript.

Chosen over Bokeh, the other library whose Python package brings its script: 0.9 MB in the page
against 1.4 MB; charts are SVG, sharp on paper and at any zoom, with names for screen readers, where
Bokeh draws on a canvas; its interpreter of expressions needs no ``eval``, so that the page keeps
its policy. It takes some seconds to put the script together, which is therefore done once per
version and kept in the user's cache. What all charts of a kind share stands in
``templates/vega.json``.
"""

import contextlib
import itertools
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pudle import text
from pudle.files import write_atomically
from pudle.reports.answers import ERRORS
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
    looks = {name: figure.looks[name].data for name in figure.lines}
    shown = {name: value for name, value in vars(figure).items() if name != "panels"}
    return shown | {"host": host, "height": 270, "about": figure.alt, "looks": looks} | more


def plain(value: Any) -> Any:
    """Return a part of a chart for JSON: an axis as its fields, and a table by its columns, which
    are left out where they hold nothing.
    """
    if not isinstance(value, pd.DataFrame):
        return vars(value)
    kept = value.dropna(axis="columns", how="all") if len(value) else value
    return {name: [_short(each) for each in kept[name].tolist()] for name in kept}


def _short(value: Any) -> Any:
    """Return a number with six digits, None where there is none."""
    if not isinstance(value, float):
        return value
    return float(f"{value:.6g}") if math.isfinite(value) else None


def reached(results: Results) -> pd.DataFrame:
    """Return what every estimator needs to reach each error that a reader can choose."""
    rows = []
    for case, measured in results.measured.items():
        for each, error in itertools.product(measured, filter(None, ERRORS)):
            reach, goal = each.reach(error), str(text.number(error, 1))
            rows.append(
                (case, each.estimator, goal, reach.depth, reach.seconds[0], reach.memory[0])
            )
    columns = ["case", "estimator", "goal", "depth", "seconds", "memory"]
    return pd.DataFrame(rows, columns=columns)


def overview(results: Results) -> Iterator[Figure]:
    """Yield the time of every estimator to each of some errors over that of the fastest, on the
    cases with a certified reference, if any time is known.
    """
    table = reached(results)
    limited = table["case"].map(results.badge).astype(bool)
    certified = table[~limited].dropna(subset="depth")
    if certified["seconds"].isna().all():
        return
    timed = certified["seconds"].where(certified["seconds"] > 0)
    ratio = timed / timed.groupby([certified["case"], certified["goal"]]).transform("min")
    finite, few = np.isfinite(certified["depth"]), certified["case"].nunique() <= MOST_WORDS
    words = finite.map({True: "time?" * few, False: "not reached" * few})
    rows = certified.assign(
        ratio=ratio,
        label=certified["case"].map(results.labels),
        text=ratio.map(text.number).map(str).where(ratio.notna(), words),
        layers=certified["depth"].astype(object).where(finite, "not reached"),
        seconds=certified["seconds"].map(text.seconds).map(str),
        memory=certified["memory"].map(text.memory).map(str),
    )
    yield Figure(
        "time-to-error",
        "",
        "Time to the required error, over that of the fastest",
        rows.drop(columns="depth"),
        [Axis("label", "", "ordinal")],
        [Axis("estimator", "", "ordinal")],
        mark="cell",
        color=Axis("ratio", "times the fastest"),
        about="Of every estimator on each case.",
        note="Cases that are scored against a limit are left out." * bool(limited.any()),
        tips={"layers": "layers", "seconds": "time", "memory": "memory"},
    )


def trends(reports: Mapping[str, Report]) -> dict[str, list[Figure]]:
    """Return, by case, the error at the deepest depth over the runs, and per machine the time and
    the memory to each error that a reader can choose.
    """
    parts: list[pd.DataFrame] = []
    looks: dict[str, Look] = {}
    labels: dict[str, str] = {}
    for name, report in reports.items():
        results = report.results
        if results.cases:
            looks |= looks_of(results)
            labels |= results.labels
            newest, costs = results.provenances[0], reached(results)
            origin = {"run": name, "commit": (newest.get("commit") or "")[:12]}
            origin |= {"date": newest["date"], "machine": newest.get("machine") or "unknown"}
            costs = costs.assign(ms=costs["seconds"] * 1e3, mib=costs["memory"] / 2**20)
            errors = report.summary[["case", "estimator", "error"]]
            parts += [part.assign(**origin) for part in (errors, costs)]
    if not parts:
        return {}
    table = pd.concat(parts).sort_values("date", kind="stable")
    made: dict[str, list[Figure]] = {case: [] for case in table["case"].unique()}
    for column, (word, title) in TRENDS.items():
        groups = ["case"] if column == "error" else ["case", "machine"]
        for (case, *machines), part in table[table[column] > 0].groupby(groups, sort=False):
            where = " on ".join([word, *machines])
            made[case].append(
                Figure(
                    f"trend-{case}-{where}",
                    "",
                    f"{labels[case]}: {where}",
                    part.dropna(axis="columns", how="all"),
                    [Axis("run", "runs, from the oldest", "ordinal")],
                    [Axis(column, title, "log")],
                    looks,
                    tips={key: key for key in ("commit", "date", "machine")},
                )
            )
    return made
