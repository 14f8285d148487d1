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
import dataclasses
import gzip
import itertools
import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from importlib.metadata import version
from math import inf, isfinite, isinf, isnan, nan
from typing import NamedTuple, TypedDict

import numpy as np
import pandas as pd

from pudle import answers as engine
from pudle import text
from pudle.answers import ERROR, Requirement
from pudle.files import cache_folder, temporary_folder, write_atomically
from pudle.measuring.case import Case
from pudle.measuring.naming import OWN_LOSS, word_of
from pudle.reports import tables
from pudle.reports.answers import ERRORS, answers, answers_table, budgets
from pudle.reports.cells import Cell, Shown, cost_text
from pudle.reports.figures import cases
from pudle.reports.figures.record import Axis, Figure
from pudle.reports.learning.sections import bought
from pudle.reports.load import Results, parsed
from pudle.reports.markup import Table
from pudle.reports.recommendation import recommendations
from pudle.reports.report import CaseTables, Report, Reports, Runs
from pudle.workers import run

#: A page of more errors than this carries their median, least and greatest over the seeds.
MOST_ERRORS = 100_000
LIMIT = "Scored against the limit of the iteration, whose error is estimated, not certified"
#: Cells of a matrix that have no number say why, in a matrix of no more cases than this.
MOST_WORDS = 12


class Wishes(NamedTuple):
    """What a reader can require, by its words: an error, None for the least, and limits of time and
    memory, of which the empty one is none.
    """

    error: Mapping[str, float | None]
    seconds: Mapping[str, float]
    memory: Mapping[str, float]


class PageTable(TypedDict):
    """A table as the script reads it."""

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[object]]


class PageRun(TypedDict):
    """What the page shows of one run."""

    label: str
    #: Whether its errors do not fit into a page.
    condensed: bool
    estimators: Sequence[str]
    cases: Sequence[Mapping[str, object]]
    #: The rows of the table of answers by the words of a requirement, by algorithm.
    answers: Mapping[str, Mapping[str, Sequence[Sequence[object]]]]
    #: What these answers have in common, likewise.
    recommendations: Mapping[str, Mapping[str, Sequence[str]]]
    charts: Sequence[Mapping[str, object]]
    tables: Mapping[str, PageTable]


class Content(TypedDict):
    """Everything that the script shows."""

    #: The words of the error that is required when the page opens.
    error: str
    wishes: Mapping[str, Sequence[str]]
    answers: Mapping[str, object]
    limit: str
    runs: Sequence[PageRun]
    charts: Sequence[Mapping[str, object]]
    tables: Mapping[str, PageTable]


def content(reports: Reports) -> Content:
    """Return everything that the script shows, of one run or of several; tables that compare runs
    are there for several alone.
    """
    (name, first), *later_reports = reports.items()
    choices, why = wishes(reports.values()), "What has no number, and why"
    charts = [chart(figure, "#bought-figures") for figure in bought(first.results)]
    runs = Runs(reports) if later_reports else None
    page_tables = {"problems": table((runs or first).problems, why)}
    if runs:
        about = f"Every estimator on every case that a run has in common with {name}"
        page_tables |= {
            "runs": table(runs.overview, "Every run"),
            "numbers": table(runs.numbers, about),
            "experiments": table(runs.experiments, "Every experiment of every run"),
        }
    for section in first.experiments:
        for place, block in enumerate(section.blocks):
            key = f"{section.study.anchor}-{place}"
            charts += [chart(figure, f"#figures-{key}") for figure in block.charts]
            for number, (block_table, caption) in enumerate(block.tables):
                page_tables[f"{key}-{number}"] = table(block_table, caption)
    return {
        "error": text.number(ERROR, 1),
        "wishes": {key: [*values] for key, values in choices._asdict().items()},
        "answers": {
            "caption": "The cheapest gradient that is accurate enough",
            "starred": text.STARRED,
            "columns": [*answers_table(first.results, []).columns],
        },
        "limit": LIMIT,
        "runs": [_run(label, report, choices) for label, report in reports.items()],
        "charts": charts,
        "tables": page_tables,
    }


def wishes(reports: Iterable[Report]) -> Wishes:
    """Return the errors, and the limits of time and memory, that a reader can choose: the errors
    that the page offers, and limits that follow from what was measured in any of the runs.
    """
    measured = (case for report in reports for case in report.results.measured.values())
    limits = engine.budgets([source for case in measured for source in case])
    seconds = [budget.seconds for budget in limits if budget.seconds < inf]
    memory = [budget.memory for budget in limits if budget.memory < inf]
    return Wishes(
        {text.number(error, 1) if error else "least": error for error in ERRORS},
        {"": inf} | {text.seconds(limit): limit for limit in seconds},
        {"": inf} | {text.memory(limit): limit for limit in memory},
    )


def _run(label: str, report: Report, choices: Wishes) -> PageRun:
    """Collect the figures and tables of one run for the page."""
    results, summary = report.results, report.summary
    charts, algorithms = [], [""] if results.cases else []
    if results.cases:
        height = 190 + 24 * len(results.cases)
        charts += [
            chart(figure, "#across", wide=True, height=height) for figure in overview(results)
        ]
        algorithms += dict.fromkeys(case.algorithm for case in results.cases.values())
    every = [source for case in results.measured.values() for source in case]
    condensed = sum(np.isfinite(source.errors.values).sum() for source in every) > MOST_ERRORS
    rates = f"Error per layer: predicted by theory and fitted. {tables.without_rate(summary)}"
    certificates = tables.certificates_table(results)
    run_tables = {
        "rates": table(tables.rates_table(results, summary), rates),
        "references": table(certificates, tables.certificates_caption(results)),
    }
    for algorithm in algorithms or [""]:
        budget_table = budgets(results, algorithm)
        run_tables[f"budgets{algorithm}"] = table(budget_table, "Which estimator at which budget")
    answered: dict[str, Mapping[str, Sequence[Sequence[object]]]] = {}
    recommended: dict[str, Mapping[str, Sequence[str]]] = {}
    for algorithm in algorithms:
        # With a single algorithm its answers are those among all.
        among = "" if algorithms[2:] == [] else algorithm
        if among in answered:
            answered[algorithm], recommended[algorithm] = answered[""], recommended[""]
        else:
            answered[algorithm], recommended[algorithm] = _answers(report, choices, algorithm)
    return {
        "label": label,
        "condensed": bool(condensed),
        "estimators": results.estimators,
        "cases": [
            _case(report, case_tables, choices, bool(condensed))
            for case_tables in _unrolled_first(report)
        ],
        # The script shows those of the algorithm that its reader chooses.
        "answers": answered,
        "recommendations": recommended,
        "charts": charts,
        "tables": run_tables,
    }


def _unrolled_first(report: Report) -> list[CaseTables]:
    """Return the cases in the order of their figures: first the case of the best unrolled pair of
    each problem, then the other cases with layers, and those of solvers last.
    """
    best = {row.unrolled.source.case for row in report.answers if row.unrolled.source}
    solvers = report.results.solvers
    return sorted(
        report.by_case,
        key=lambda case_tables: (case_tables.name in solvers, case_tables.name not in best),
    )


def _case(
    report: Report, case_tables: CaseTables, choices: Wishes, condensed: bool
) -> dict[str, object]:
    """Collect the figure and tables of a case for the page; `condensed` leaves out the single
    seeds.
    """
    results, case = report.results, report.results.cases[case_tables.name]
    metrics = ["relative_error"] if condensed else results.metrics
    figure = chart(cases.curves(results, case_tables.rows, case_tables.name, metrics), "#panels")
    if not condensed:
        figure["seeds"] = cases.seeds(results, case_tables.name)
    reasons = {"reason": [row.reason for row in case_tables.rows]}
    errors = [error or ERROR for error in choices.error.values()]
    by_error = [
        Table({**summary.columns, **reasons})
        for summary in tables.summary_tables(case_tables.rows, errors)
    ]
    return {
        "name": case_tables.name,
        "dataset": case.dataset,
        "algorithm": case.algorithm,
        "loss": case.loss,
        "badge": results.badge(case_tables.name),
        "label": case_tables.label,
        "facts": f"{case_tables.caption}.",
        "findings": case_tables.findings,
        "tables": {
            words: table(of_error, f"Every estimator on {case_tables.label}")
            for words, of_error in zip(choices.error, by_error, strict=True)
        },
        "figure": figure,
        "charts": [
            chart(figure, "#case-figures") for figure in cases.windows(results, case_tables.name)
        ],
    }


def _answers(
    report: Report, choices: Wishes, algorithm: str
) -> tuple[dict[str, list[list[str | dict[str, object]]]], dict[str, list[str]]]:
    """Return the rows of the table of answers to every requirement, and what these answers have in
    common, both by the words of the requirement, ``error,time,memory``; of one algorithm if it is
    named.
    """
    results, rows_by_requirement, recommended = report.results, {}, {}
    requirements = itertools.product(
        choices.error.items(), choices.seconds.items(), choices.memory.items()
    )
    for (error, least), (time, seconds), (size, memory) in requirements:
        requirement = Requirement(least, seconds, memory)
        answer_rows = answers(results, requirement, algorithm)
        rows = []
        for row in answer_rows:
            problem = row.cells["problem"]
            about = _dataset_options(problem.text, results.cases[row.case])
            ((_, *other_cells),) = answers_table(results, [row]).rows
            facts = _facts(problem.with_details(*about)) | {"badge": results.badge(row.case)}
            rows.append([facts, *map(_cell, other_cells)])
        key = f"{error},{time},{size}"
        rows_by_requirement[key] = rows
        recommended[key] = recommendations(results, answer_rows, requirement)
    return rows_by_requirement, recommended


def _dataset_options(label: str, case: Case) -> list[str]:
    """Return the options, or dataset and loss, that the label of a problem does not say, as one
    text or none.
    """
    name, options = parsed(case.dataset)
    word, own = word_of(case.dataset), case.loss == OWN_LOSS
    loss = [] if own else [f"{case.loss} loss"]
    if word in label:
        return [] if case.loss in label else loss
    if not (name in label and (own or case.loss in label)):
        return [", ".join([word, *loss])]
    words = ", ".join(f"{option}={value!r}" for option, value in options.items())
    return [words] if words else []


def encode(data: object) -> str:
    """Return data as JSON, compressed by gzip, in base64, as text that a page may hold; the same
    data make the same text. NaN and infinity are refused by ValueError.
    """
    written = json.dumps(data, allow_nan=False, separators=(",", ":"), default=plain).encode()
    # No date: the same results make the same page.
    return base64.b64encode(gzip.compress(written, 6, mtime=0)).decode()


def table(source: Table, caption: str) -> PageTable:
    """Return a table as data: its caption, and columns and cells without the columns that say
    nothing (`Table.concise`).
    """
    said = source.concise()
    rows = [[*map(_cell, row)] for row in said.rows]
    return {"caption": caption, "columns": [*said.columns], "rows": rows}


def _cell(shown: Shown) -> str | dict[str, object]:
    """Return a cell as plain text, or with what else a table needs, see `Cell`."""
    if isinstance(shown, str):
        return shown
    facts = _facts(shown)
    return facts if len(facts) > 1 else shown.text


@lru_cache(maxsize=1 << 16)
def _facts(cell: Cell) -> dict[str, object]:
    """Return the content of a cell, by the names that the page's script has for it: its text, and
    of all else what is not empty.

    The number to sort by has six digits, or is the text ``Infinity``. Cells that are equal share
    the mapping, because the tables for all errors have many of them: nobody may change it.
    """
    facts: dict[str, object] = {"text": cell.text}
    if cell.details:
        facts["details"] = cell.details
    if cell.estimator:
        facts["estimator"] = cell.estimator
    if cell.best:
        facts["best"] = True
    if cell.case:
        facts["case"] = cell.case
    if cell.key is not None:
        facts["key"] = "Infinity" if isinf(cell.key) else float(f"{cell.key:.6g}")
    return facts


# -- figures

BUNDLE = (
    "import pathlib, sys, vl_convert; "
    "pathlib.Path(sys.argv[1]).write_text(vl_convert.javascript_bundle(), encoding='utf-8')"
)
WHY_NO_FIGURES = (
    "No figure: Vega-Lite may not have the memory that it needs here; raise `ulimit -v` and report"
    " again"
)
NO_FIGURES = """globalThis.vegaEmbed = async (place) => {
  place.textContent = %s;
  return { view: { finalize() {}, data() {}, async runAsync() {}, async toSVG() { return ""; },
    async toImageURL() { return "data:,"; } } };
};"""


def script() -> str:
    """Return the script that defines ``vegaEmbed``, as text that may stand inside a page; where it
    cannot be made, one that says so in the place of each figure.

    It is read from the user's folder for caches or, the first time, made in a process of its own
    and written there.
    """
    cached_script = cache_folder() / f"vega-{version('vl-convert-python')}.js"
    with contextlib.suppress(OSError):
        return cached_script.read_text(encoding="utf-8")
    with temporary_folder() as folder:
        bundle = folder / "bundle.js"
        # In a process of its own, which it aborts where it may not reserve gigabytes of addresses.
        if code := run([sys.executable, "-c", BUNDLE, bundle]).returncode:
            return NO_FIGURES % json.dumps(f"{WHY_NO_FIGURES} (exit code {code}).")
        # Nothing but `</` could end a script element; in JavaScript's own strings it may be written
        # so.
        script_text = bundle.read_text(encoding="utf-8").replace("</script", "<\\/script")
    # A page needs no cache, which may be read-only.
    with contextlib.suppress(OSError):
        write_atomically(cached_script, script_text)
    return script_text


def chart(figure: Figure, host: str, **more: object) -> dict[str, object]:
    """Return a figure as the script reads it, to be drawn in the element `host`; fields in `more`
    are added, and take the place of others.
    """
    looks = {name: figure.looks[name].data for name in figure.lines}
    names = [field.name for field in dataclasses.fields(figure) if field.name != "panels"]
    fields = {name: getattr(figure, name) for name in names}
    return fields | {"host": host, "height": 270, "about": figure.alt, "looks": looks} | more


def plain(value: object) -> object:
    """Return a part of a chart for JSON: an axis as its fields, and a table by its columns, which
    are left out where they hold nothing.
    """
    if not isinstance(value, pd.DataFrame):
        return vars(value)
    lists = {name: column.tolist() for name, column in value.items()}
    if len(value):
        # Pandas itself would take longer for this than for all else.
        lists = {name: cells for name, cells in lists.items() if not all(map(_is_missing, cells))}
    return {name: [_short(cell) for cell in cells] for name, cells in lists.items()}


def _is_missing(cell: object) -> bool:
    """Tell whether a cell holds nothing: None or NaN."""
    return cell is None or cell != cell


def _short(value: object) -> object:
    """Return a number to six digits, None where it is NaN or infinite, and anything that is no
    float as it is.
    """
    if not isinstance(value, float):
        return value
    return float(f"{value:.6g}") if isfinite(value) else None


def overview(results: Results) -> Iterator[Figure]:
    """Yield one figure, the time of every estimator to each of some errors over that of the fastest
    on the same problem, on the cases with a certified reference; none if no such time is known.
    """
    problem_of = {case: fields["problem"] for case, fields in results.described.items()}
    order = [*dict.fromkeys(problem_of.values())]
    # The cases of a problem stand below each other.
    needs = [
        (text.number(error, 1), point)
        for case in sorted(results.measured, key=lambda case: order.index(problem_of[case]))
        for source, error in itertools.product(results.measured[case], filter(None, ERRORS))
        if not results.badge(case) and not isnan((point := source.fastest_reach(error)).depth)
    ]
    fastest: dict[tuple[object, str], float] = {}
    for goal, point in needs:
        if point.seconds.value > 0:
            cell = problem_of[point.source.case], goal
            fastest[cell] = min(point.seconds.value, fastest.get(cell, inf))
    if not fastest:
        return
    labeled = len({point.source.case for _, point in needs}) <= MOST_WORDS
    rows = []
    for goal, point in needs:
        seconds, case = point.seconds.value, point.source.case
        ratio = seconds / fastest.get((problem_of[case], goal), nan) if seconds > 0 else nan
        reached = point.depth < inf
        words = ("time?" if reached else "not reached") if labeled else ""
        rows.append(
            {
                "case": case,
                "estimator": point.source.estimator,
                "goal": goal,
                "seconds": cost_text(point.seconds, text.seconds),
                "memory": cost_text(point.memory, text.memory),
                "ratio": ratio,
                "label": results.labels[case],
                "text": words if isnan(ratio) else text.number(ratio),
                "layers": float(point.depth) if reached else "not reached",
            }
        )
    if labeled:
        rows += _without_layers(results, {goal for goal, _ in needs})
    note = (
        "1 is the fastest pair of a problem, whether it is shown here or not. Each estimator runs"
        " as many layers as it needs itself. Where a cell is blank, nothing was measured."
    )
    if any(map(results.badge, results.cases)):
        note += " Cases that are scored against a limit are left out."
    yield Figure(
        "time-to-error",
        "",
        "Time to the required error, over that of the fastest pair of the same problem",
        pd.DataFrame(rows),
        [Axis("estimator", "", "ordinal")],
        [Axis("label", "", "ordinal")],
        mark="cell",
        color=Axis("ratio", "times the fastest"),
        about="Of every estimator on each case.",
        note=note,
        tips={"layers": "layers", "seconds": "time", "memory": "memory"},
    )


def _without_layers(results: Results, goals: Iterable[str]) -> list[dict[str, object]]:
    """Return cells of the matrix, one for each of the errors `goals`, that say why an estimator was
    not measured on a case: its algorithm has no layers to differentiate.

    Cases that are scored against a limit have none.
    """
    statuses = {(record.case.name, record.estimator): record.status for record in results.records}
    pairs = [
        (case, estimator)
        for case in results.measured
        for estimator in results.estimators
        if case in results.solvers
        and not results.badge(case)
        and statuses.get((case, estimator), "unsupported") == "unsupported"
    ]
    return [
        {
            "case": case,
            "estimator": estimator,
            "goal": goal,
            "label": results.labels[case],
            "text": "needs layers",
        }
        for (case, estimator), goal in itertools.product(pairs, sorted(goals))
    ]
