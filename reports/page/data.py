"""The data that a page carries, once and compressed: figures by columns, tables, and the answer to
every requirement that its reader can choose. The page's script filters and shows them.
"""

import base64
import gzip
import itertools
import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from pudle import text
from pudle.answers import ERROR, Requirement, limits
from pudle.reports import tables
from pudle.reports.answers import ERRORS, answers, answers_table, budgets
from pudle.reports.figures import cases
from pudle.reports.learning.bought import bought
from pudle.reports.page.charting import chart, overview, plain, trends
from pudle.reports.report import Report
from pudle.reports.runs import Runs

#: A page of more errors than this carries their median, least and greatest over the seeds.
MOST_ERRORS = 100_000
LIMIT = "Scored against the limit of the iteration, whose error is estimated, not certified"

#: What a reader can require: by key the values with their words, the empty one is no limit.
Wishes = Mapping[str, Mapping[str, float | None]]


def content(reports: Mapping[str, Report]) -> dict[str, Any]:
    """Return everything that the script shows."""
    (name, first), *others = reports.items()
    wanted, why = wishes(reports.values()), "What has no number, and why"
    charts = [chart(figure, "#bought-figures") for figure in bought(first.results)]
    shown = {"problems": table(first.problems, why)}
    if others:
        side = Runs(reports)
        about = f"Every estimator on every case that a run has in common with {name}"
        shown = {
            "problems": table(side.problems, why),
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
        "trends": {
            case: [chart(figure, "#trends") for figure in figures]
            for case, figures in (trends(reports) if others else {}).items()
        },
        "charts": charts,
        "tables": shown,
    }


def wishes(reports: Iterable[Report]) -> Wishes:
    """Return the errors, and the limits of time and memory, that a reader can choose."""
    cases = (case for report in reports for case in report.results.measured.values())
    every = [*itertools.chain(*cases)]
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
        name, figure = each["name"], curves[each["name"]]
        seeds = scores[scores["case"] == name].drop(columns="case")
        others = *cases.windows(results, name, figure.rows), *cases.burn_in(results, name)
        item = {key: results.cases[name][key] for key in ("name", "dataset", "algorithm", "loss")}
        item |= {"badge": results.badge(name), "label": each["label"]}
        item |= {"facts": f"{each['caption']}.", "findings": each["findings"]}
        item["tables"] = {
            words: table(
                tables.summary_table(each["rows"], error or ERROR).assign(
                    reason=each["rows"]["reason"].to_list()
                ),
                f"Every estimator on {each['label']}",
            )
            for words, error in wanted["error"].items()
        }
        item["figure"] = chart(figure, "#panels", **({} if condensed else {"seeds": seeds}))
        item["charts"] = [chart(other, "#case-figures") for other in others]
        shown.append(item)
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
