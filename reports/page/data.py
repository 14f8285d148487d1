"""The data that a page carries, once and compressed: figures by columns, tables, and the answer to
every requirement that its reader can choose. The page's script filters and shows them.
"""

import base64
import gzip
import itertools
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from pudle import text
from pudle.answers import ERROR, Requirement, limits
from pudle.reports import runs, tables
from pudle.reports.answers import ERRORS, answers, answers_table, budgets, findings
from pudle.reports.figures import cases
from pudle.reports.figures.record import Figure
from pudle.reports.learning.bought import bought
from pudle.reports.page.charting import chart, overview, plain, trends
from pudle.reports.report import Report

#: A page of more errors than this carries their median, least and greatest over the seeds.
MOST_ERRORS = 100_000
LIMIT = "Scored against the limit of the iteration, whose error is estimated, not certified"

#: What a reader can require: by key the values with their words, the empty one is no limit.
Wishes = Mapping[str, Mapping[str, float | None]]


def content(reports: Sequence[Report], names: Sequence[str]) -> dict[str, Any]:
    """Return everything that the script shows."""
    several, first, wanted = len(reports) > 1, reports[0], wishes(reports)
    named = list(zip(names, reports, strict=True))
    problems = pd.concat([report.problems.assign(run=name) for name, report in named])
    problems = problems if several else problems.drop(columns="run")
    made: dict[str, Any] = {
        "error": str(text.number(ERROR, 1)),
        "wishes": {key: list(values) for key, values in wanted.items()},
        "answers": {
            "caption": f"The cheapest gradient that is accurate enough ({text.STARRED})",
            "columns": answers_table(first.results, []).columns.tolist(),
        },
        "limit": LIMIT,
        "runs": [{"label": name, **_run(report, wanted)} for name, report in named],
        "trends": {
            case: [chart(figure, "#trends") for figure in figures]
            for case, figures in (trends(reports, names) if several else {}).items()
        },
        "charts": [chart(figure, "#bought-figures") for figure in bought(first.results)],
        "tables": {"problems": table(problems, "What has no number, and why")},
    }
    if several:
        side = runs.Runs(reports, names)
        about = f"Every estimator on every case that a run has in common with {names[0]}"
        made["tables"] |= {
            "runs": table(side.overview, "Every run"),
            "differences": table(side.differences, about),
            "experiments": table(side.experiments, "Every experiment of two runs"),
        }
    for section in first.experiments:
        for place, block in enumerate(section.blocks):
            key = f"{section.anchor}-{place}"
            made["charts"] += [chart(figure, f"#figures-{key}") for figure in block.charts]
            for number, (frame, caption) in enumerate(block.tables):
                made["tables"][f"{key}-{number}"] = table(frame, caption)
    return made


def wishes(reports: Sequence[Report]) -> Wishes:
    """Return the errors, and the limits of time and memory, that a reader can choose."""
    cases = [case for report in reports for case in report.results.measured.values()]
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
    charts = [
        chart(figure, "#across", wide=True, height=190 + 24 * len(results.estimators))
        for figure in overview(results)
    ]
    charts += [chart(figure, "#across") for figure in cases.across(results, summary)]
    rates, references = tables.rates_table(results, summary), tables.references_table(results)
    left = tables.without_rate(summary)
    algorithms = ["", *dict.fromkeys(case["algorithm"] for case in results.cases.values())]
    captions = {each["name"]: each["caption"] for each in report.of_cases([*results.cases])}
    shown = []
    for name, figure in curves.items():
        item = _case(report, figure, captions[name], wanted["error"])
        if not condensed:
            item["figure"]["seeds"] = scores[scores["case"] == name].drop(columns="case")
        shown.append(item)
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
            "rates": table(rates, f"Error per layer: predicted by theory and fitted. {left}"),
            "references": table(references, "References, per case and target"),
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


def _case(
    report: Report, figure: Figure, caption: str, errors: Mapping[str, float | None]
) -> dict[str, Any]:
    """Return the facts, tables and figures of a case."""
    results, name = report.results, figure.case
    rows = report.summary[report.summary["case"] == name]
    return {
        **{key: results.cases[name][key] for key in ("name", "dataset", "algorithm", "loss")},
        "badge": results.badge(name),
        "label": results.labels[name],
        "facts": f"{caption}.",
        "findings": findings(rows),
        "tables": {
            words: table(
                tables.summary_table(rows, error or ERROR).assign(reason=list(rows["reason"])),
                f"Every estimator on {results.labels[name]}",
            )
            for words, error in errors.items()
        },
        "figure": chart(figure, "#panels"),
        "charts": [
            chart(other, "#case-figures")
            for other in (*cases.windows(results, name, figure.rows), *cases.burn_in(results, name))
        ],
    }


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
