"""The data that a page carries, once and compressed: figures by columns, tables, and the answer to
every requirement that its reader can choose. The page's script filters and shows them.

Figures are drawn by Vega-Lite from the package vl-convert-python, which holds its JavaScript. It is
chosen over Bokeh, the other library whose Python package brings its script: 0.9 MB in the page
against 1.4 MB; charts are SVG, sharp on paper and at any zoom, with names for screen readers, where
Bokeh draws on a canvas; its interpreter of expressions needs no ``eval``, so that the page keeps
its policy. It takes some seconds to put the script together, which is therefore done once per
version and kept in the user's cache. What all charts of a kind share stands in
``templates/vega.json``.
"""

import base64
import contextlib
import gzip
import itertools
import json
import math
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pudle import text
from pudle.answers import ERROR, Requirement, limits
from pudle.files import write_atomically
from pudle.reports import tables
from pudle.reports.answers import ERRORS, answers, answers_table, budgets
from pudle.reports.figures import cases
from pudle.reports.figures.record import Axis, Figure
from pudle.reports.learning.sections import bought
from pudle.reports.load import Results
from pudle.reports.report import Report, Reports, Runs

#: A page of more errors than this carries their median, least and greatest over the seeds.
MOST_ERRORS = 100_000
LIMIT = "Scored against the limit of the iteration, whose error is estimated, not certified"

#: What a reader can require: by key the values with their words, the empty one is no limit.
Wishes = Mapping[str, Mapping[str, float | None]]
#: Cells of a matrix that have no number say why, in a matrix of no more cases than this.
MOST_WORDS = 12


def content(reports: Reports) -> dict[str, Any]:
    """Return everything that the script shows."""
    (name, first), *others = reports.items()
    wanted, why = wishes(reports.values()), "What has no number, and why"
    charts = [chart(figure, "#bought-figures") for figure in bought(first.results)]
    side = Runs(reports) if others else first
    shown = {"problems": table(side.problems, why)}
    if others:
        about = f"Every estimator on every case that a run has in common with {name}"
        shown |= {
            "runs": table(side.overview, "Every run"),
            "differences": table(side.differences, about),
            "experiments": table(side.experiments, "Every experiment of two runs"),
        }
    for section in first.experiments:
        for place, block in enumerate(section.blocks):
            key = f"{section.anchor}-{place}"
            charts += [chart(figure, f"#figures-{key}") for figure in block.charts]
            for number, (frame, caption) in enumerate(block.tables):
                shown[f"{key}-{number}"] = table(frame, caption)
    return {
        "error": str(text.number(ERROR, 1)),
        "wishes": {key: [*values] for key, values in wanted.items()},
        "answers": {
            "caption": f"The cheapest gradient that is accurate enough ({text.STARRED})",
            "columns": [*answers_table(first.results, [])],
        },
        "limit": LIMIT,
        "runs": [{"label": run, **_run(report, wanted)} for run, report in reports.items()],
        "charts": charts,
        "tables": shown,
    }


def wishes(reports: Iterable[Report]) -> Wishes:
    """Return the errors, and the limits of time and memory, that a reader can choose."""
    measured = (case for report in reports for case in report.results.measured.values())
    every = [each for case in measured for each in case]
    return {
        "error": {str(text.number(error, 1)) if error else "least": error for error in ERRORS},
        **{
            cost: {"": math.inf} | {str(show(limit)): limit for limit in limits(every, cost)}
            for cost, show in (("seconds", text.seconds), ("memory", text.memory))
        },
    }


def _run(report: Report, wanted: Wishes) -> dict[str, Any]:
    """Return what the page shows of one run."""
    results, summary = report.results, report.summary
    if not results.cases:
        empty = dict.fromkeys(("budgets", "rates", "references"), table(pd.DataFrame(), ""))
        return {"estimators": [], "cases": [], "answers": {}, "charts": [], "tables": empty}
    scores = cases.seeds(results)
    condensed = len(scores) > MOST_ERRORS
    keys = ["case", "estimator", "depth", "seed", "relative_error", *cases.COSTS]
    curves = cases.curves(results, summary, scores[keys] if condensed else scores)
    height = 190 + 24 * len(results.estimators)
    charts = [chart(figure, "#across", wide=True, height=height) for figure in overview(results)]
    charts += [chart(figure, "#across") for figure in cases.across(results, summary)]
    algorithms = ["", *dict.fromkeys(case["algorithm"] for case in results.cases.values())]
    shown = []
    for each in report.by_case:
        name = each["name"]
        case, figure = results.cases[name], curves[name]
        seeds = scores[scores["case"] == name].drop(columns="case")
        shown.append(
            {
                **{key: case[key] for key in ("name", "dataset", "algorithm", "loss")},
                "badge": results.badge(name),
                "label": each["label"],
                "facts": f"{each['caption']}.",
                "findings": each["findings"],
                "tables": {
                    words: table(
                        tables.summary_table(each["rows"], error or ERROR).assign(
                            reason=each["rows"]["reason"].to_list()
                        ),
                        f"Every estimator on {each['label']}",
                    )
                    for words, error in wanted["error"].items()
                },
                "figure": chart(figure, "#panels", **({} if condensed else {"seeds": seeds})),
                "charts": [
                    chart(other, "#case-figures")
                    for other in cases.windows(results, name, figure.rows)
                ],
            }
        )
    left = tables.without_rate(summary)
    rates = f"Error per layer: predicted by theory and fitted. {left}"
    return {
        "condensed": condensed,
        "estimators": list(results.estimators),
        "cases": shown,
        # The script shows those of the algorithm that its reader chooses.
        "answers": {algorithm: _answers(report, wanted, algorithm) for algorithm in algorithms},
        "charts": charts,
        "tables": {
            f"budgets{algorithm}": table(
                budgets(results, algorithm), "Which estimator at which budget"
            )
            for algorithm in algorithms
        }
        | {
            "rates": table(tables.rates_table(results, summary), rates),
            "references": table(
                tables.references_table(results), "References, per case and target"
            ),
        },
    }


def _answers(report: Report, wanted: Wishes, algorithm: str) -> dict[str, list[list[Any]]]:
    """Return the rows of the table of answers to every requirement, of one algorithm if it is
    named.
    """
    results, made = report.results, {}
    for choice in itertools.product(*(values.items() for values in wanted.values())):
        words, values = zip(*choice, strict=True)
        rows = answers(results, Requirement(*values), algorithm)
        for row in rows:
            about = "{dataset}, {loss} loss".format(**results.cases[row["case"]])
            row["problem"] = text.Cell(row["problem"], details=[about])
        shown = table(answers_table(results, rows), "")["rows"]
        for row, cells in zip(rows, shown, strict=True):
            cells[0]["badge"] = results.badge(row["case"])
        made[",".join(words)] = shown
    return made


def encode(data: Any) -> str:
    """Return data as JSON, compressed, as text that a page may hold."""
    written = json.dumps(data, allow_nan=False, separators=(",", ":"), default=plain).encode()
    # No date: the same results make the same page.
    return base64.b64encode(gzip.compress(written, 6, mtime=0)).decode()


def table(frame: pd.DataFrame, caption: str) -> dict[str, Any]:
    """Return a table of text as data: its caption, columns and cells."""
    rows = [[*map(_cell, row)] for row in frame.to_numpy()]
    return {"caption": caption, "columns": frame.columns.tolist(), "rows": rows}


def _cell(value: Any) -> Any:
    """Return a cell as plain text, or with what else a table needs, see `text.Cell`."""
    cell = text.Cell(value)
    facts = {name: fact for name, fact in vars(cell).items() if fact and name != "key"}
    head = facts.pop("head", "")
    if cell.key is not None:
        facts["key"] = "Infinity" if math.isinf(cell.key) else float(f"{cell.key:.6g}")
    return {"text": head, **facts} if facts else head


# -- figures


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
    rows = [
        (case, each.estimator, str(text.number(error, 1)), depth, seconds.value, memory.value)
        for case, measured in results.measured.items()
        for each, error in itertools.product(measured, filter(None, ERRORS))
        for _, _, depth, seconds, memory in [each.reach(error)]
    ]
    columns = ["case", "estimator", "goal", "depth", "seconds", "memory"]
    return pd.DataFrame(rows, columns=columns)


def overview(results: Results) -> Iterator[Figure]:
    """Yield the time of every estimator to each of some errors over that of the fastest, on the
    cases with a certified reference, if any time is known.
    """
    needs = reached(results)
    limited = needs["case"].map(results.badge).astype(bool)
    certified = needs[~limited].dropna(subset="depth")
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
        note="Where a cell is blank, nothing was measured."
        + " Cases that are scored against a limit are left out." * bool(limited.any()),
        tips={"layers": "layers", "seconds": "time", "memory": "memory"},
    )
