"""The data that a page carries, once and compressed: figures by columns, tables, and the answer to
every requirement that its reader can choose. The page's script filters and shows them.
"""

from __future__ import annotations

import base64
import gzip
import itertools
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from pudle import text
from pudle.answers import ERROR, Answer, Requirement, answer, limits
from pudle.reports import runs, tables
from pudle.reports.answers import ERRORS, budgets, findings
from pudle.reports.figures import cases
from pudle.reports.figures.record import Figure
from pudle.reports.learning.bought import bought
from pudle.reports.looks import looks_of
from pudle.reports.page.charting import chart, columns, overview, trends
from pudle.reports.report import Report
from pudle.reports.results import Results

#: A page of more errors than this carries their median, least and greatest over the seeds.
MOST_ERRORS = 100_000
LIMIT = "Scored against the limit of the iteration, whose error is estimated, not certified"

#: What a reader can require: by key the values with their words, the empty one is no limit.
Wishes = Mapping[str, Mapping[str, float | None]]


def content(reports: Sequence[Report], names: Sequence[str]) -> dict[str, Any]:
    """Return everything that the script shows."""
    several, first = len(reports) > 1, reports[0]
    wanted = wishes(reports)
    problems = [
        report.problems.assign(**({"run": name} if several else {}))
        for name, report in zip(names, reports, strict=True)
    ]
    made: dict[str, Any] = {
        "error": str(text.number(ERROR, 1)),
        "wishes": {key: list(values) for key, values in wanted.items()},
        "answers": {
            "caption": f"The cheapest estimator that is accurate enough ({text.STARRED})",
            "columns": ["case", "use", "error", "layers", "time", "memory", "why"],
        },
        "limit": LIMIT,
        "runs": [_run(report, name, wanted) for name, report in zip(names, reports, strict=True)],
        "trends": {},
        "charts": [chart(figure, "#bought-figures") for figure in bought(first.results)],
        "tables": {"problems": table(pd.concat(problems), "What has no number, and why")},
    }
    if several:
        side = runs.Runs(reports, names)
        about = f"Every estimator on every case that a run has in common with {names[0]}"
        made["tables"] |= {
            "runs": table(side.overview, "Every run"),
            "differences": table(side.differences, about),
            "experiments": table(side.experiments, "Every experiment of two runs"),
        }
        made["trends"] = {
            case: [chart(figure, "#trends") for figure in figures]
            for case, figures in trends(reports, names, ERRORS).items()
        }
    for section in first.experiments:
        for place, block in enumerate(section.blocks):
            key = f"{section.anchor}-{place}"
            for number, (frame, caption) in enumerate(block.tables):
                made["tables"][f"{key}-{number}"] = table(frame, caption)
            made["charts"] += [chart(figure, f"#figures-{key}") for figure in block.charts]
    return made


def wishes(reports: Sequence[Report]) -> Wishes:
    """Return the errors, and the limits of time and memory, that a reader can choose."""
    every = [
        each for report in reports for case in report.results.measured.values() for each in case
    ]
    return {
        "error": {str(text.number(error, 1)) if error else "least": error for error in ERRORS},
        **{
            cost: {"": math.inf} | {str(show(limit)): limit for limit in limits(every, cost)}
            for cost, show in (("seconds", text.seconds), ("memory", text.memory))
        },
    }


def _run(report: Report, label: str, wanted: Wishes) -> dict[str, Any]:
    """Return what the page shows of one run."""
    results, looks = report.results, looks_of(report.results)
    if not results.cases:
        return {"label": label, "estimators": [], "cases": [], "charts": [], "tables": {}}
    scores = cases.seeds(results)
    condensed = len(scores) > MOST_ERRORS
    if condensed:
        scores = scores[["case", "estimator", "depth", "seed", "relative_error"]]
    by_seed = dict(iter(scores.groupby("case", sort=False))) if not condensed else {}
    summaries = dict(iter(report.summary.groupby("case", sort=False)))
    figures = cases.curves(results, report.rates, looks, scores)
    return {
        "label": label,
        "condensed": condensed,
        "estimators": list(results.estimators),
        "cases": [
            _case(report, described, figures[name], by_seed.get(name), summaries[name], wanted)
            for name, described in zip(
                results.cases, report.of_cases(list(results.cases)), strict=True
            )
        ],
        "charts": [
            *(
                chart(figure, "#across", wide=True, height=190 + 24 * len(results.estimators))
                for figure in overview(results, ERRORS)
            ),
            *(chart(figure, "#across") for figure in cases.across(report.summary, looks)),
        ],
        "tables": {
            "budgets": _budgets(results),
            "rates": table(
                tables.rates_table(report.summary),
                "Error per layer: predicted by theory and fitted",
            ),
            "references": table(
                tables.references_table(results), "References, per case and target"
            ),
        },
    }


def _seeds(scores: pd.DataFrame | None, rows: pd.DataFrame) -> dict[str, list[Any]] | None:
    """Return the errors seed by seed, with the costs of their depths."""
    if scores is None:
        return None
    costs = rows[["estimator", "depth", "ms", "mib"]]
    return columns(scores.drop(columns="case").merge(costs, on=["estimator", "depth"]))


def _case(
    report: Report,
    described: Mapping[str, Any],
    figure: Figure,
    scores: pd.DataFrame | None,
    rows: pd.DataFrame,
    wanted: Wishes,
) -> dict[str, Any]:
    """Return the facts, answers, tables and figures of a case."""
    results, name = report.results, figure.case
    case, measured = results.cases[name], results.measured[name]
    facts = {key: case[key] for key in ("dataset", "algorithm", "loss")}
    others = [*cases.windows(results, name, figure.rows), *cases.burn_in(results, name)]
    return {
        "name": name,
        **facts,
        "badge": results.badge(name),
        "cell": {
            "text": facts["dataset"],
            "details": ["{algorithm}, {loss} loss".format(**facts)],
            "case": name,
            "badge": results.badge(name),
        },
        "facts": f"{described['caption']}.",
        "findings": findings(rows),
        "answers": {
            ",".join(words): _answer(answer(measured, Requirement(*values)))
            for words, values in (
                zip(*choice, strict=True)
                for choice in itertools.product(*(values.items() for values in wanted.values()))
            )
        },
        "tables": {
            words: table(
                tables.summary_table(rows, error or ERROR).assign(reason=list(rows["reason"])),
                f"Every estimator on {name}",
            )
            for words, error in wanted["error"].items()
        },
        "figure": chart(figure, "#panels", seeds=_seeds(scores, figure.rows)),
        "charts": [chart(other, "#case-figures") for other in others],
    }


def _answer(found: Answer) -> list[Any]:
    use = text.Cell(found.estimator or "no answer", found.estimator)
    return [*map(_cell, (use, *found.cells.values())), found.reason]


def _budgets(results: Results) -> dict[str, Any]:
    """Return the table of the best estimator by budget."""
    rows = budgets(results)
    frame = pd.DataFrame(
        {"case": row["case"]}
        | {
            cell["budget"]: text.Cell(
                text.Cell(cell["estimator"] or cell["value"], cell["estimator"]),
                details=[cell["value"]] * bool(cell["estimator"]),
            )
            for cell in row["cells"]
        }
        for row in rows
    )
    return table(frame, "Which estimator at which budget")


def encode(data: Any) -> str:
    """Return data as JSON, compressed, as text that a page may hold."""
    written = json.dumps(data, allow_nan=False, separators=(",", ":")).encode()
    # No date: the same results make the same page.
    return base64.b64encode(gzip.compress(written, 6, mtime=0)).decode()


def table(frame: pd.DataFrame, caption: str) -> dict[str, Any]:
    """Return a table of text as data: its caption, columns and cells."""
    rows = [[_cell(value) for value in row] for row in frame.to_numpy()]
    return {"caption": caption, "columns": frame.columns.tolist(), "rows": rows}


def _cell(value: Any) -> Any:
    """Return a cell as plain text, or with what else is known: key to sort by, details, whether it
    is best, estimator.
    """
    cell = text.Cell(value)
    known: dict[str, Any] = {}
    if cell.key is not None:
        known["key"] = "Infinity" if math.isinf(cell.key) else float(f"{cell.key:.6g}")
    facts = {"details": cell.details, "best": bool(cell.best), "estimator": cell.estimator}
    known |= {name: value for name, value in facts.items() if value}
    return {"text": cell.head, **known} if known else str(cell)
