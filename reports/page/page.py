"""The page: one HTML file that carries its data, draws it in the browser, and loads nothing from
anywhere.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup, escape

import pudle
from pudle import text
from pudle.reports import runs
from pudle.reports.figures import cases
from pudle.reports.looks import looks_of
from pudle.reports.page import charting
from pudle.reports.page.data import content, encode
from pudle.reports.report import NO_TORCH, READING, READING_RATES, Report
from pudle.reports.scope import pending_sentence, where_timed

#: The page has no room for times of the torch path.
TORCH = (
    "Where compiled kernels take part, times are with them: the report as Markdown and as CSV has"
    " those without as well."
)
#: Rows of any table, and tables of cases, that are shown without a script; `report.csv` holds all.
MOST_ROWS, MOST_CASES = 200, 20


def html(reports: Sequence[Report], names: Sequence[str]) -> str:
    """Return the page of one run, or of several side by side with the names that the user gave
    them.
    """
    first = reports[0]
    data = content(reports, names)
    charts = [
        figure for section in first.experiments for each in section.blocks for figure in each.charts
    ]
    every = [*(figure.looks for figure in charts), *(looks_of(each.results) for each in reports)]
    looks = {name: look.data for each in every for name, look in each.items()}

    def merged(values: Callable[[Report], Iterable[str]]) -> dict[str, None]:
        return dict.fromkeys(value for report in reports for value in values(report) if value)

    # In a function of its own: the library's script declares names on the page's level.
    own = "\n".join(_template(name) for name in ("charts.js", "page.js"))
    scripts = [charting.script(), f'(() => {{\n"use strict";\n{own}}})();']
    specs = json.loads(_template("vega.json"))
    wish = f"{data['error']},,"
    answers = [[item["cell"], *item["answers"][wish]] for item in data["runs"][0]["cases"]]
    torch = TORCH if any(report.has_torch_times for report in reports) else NO_TORCH
    picture = b""
    if first.results.cases:
        ((_, picture),) = cases.overview(first.results, first.rates).files(["svg"])
    return rendered(
        "page.html.j2",
        # The browser runs scripts of these very texts and no others, whoever puts them into the
        # page.
        digests=[_base64(hashlib.sha256(script.encode()).digest()) for script in scripts],
        scripts=[Markup(script) for script in scripts],
        starred=text.STARRED,
        first=first,
        reports=list(zip(names, reports, strict=True)),
        looks=looks,
        names=merged(
            lambda report: (
                *report.results.estimators,
                *(each.estimator for each in report.results.experiments),
            )
        ),
        places={name: place for place, name in enumerate(looks)},
        choices={
            key: merged(
                lambda report, key=key: (case[key] for case in report.results.cases.values())
            )
            for key in ("dataset", "algorithm", "loss")
        },
        runs_reading=runs.READING,
        broken=list(merged(lambda report: report.broken)),
        pending=" ".join(merged(lambda report: [pending_sentence(report.results)])),
        where_timed=" ".join(merged(lambda report: [where_timed(report.results)])),
        reading=[part.format(torch=torch) for part in READING],
        reading_rates=READING_RATES,
        case_names=merged(lambda report: report.results.cases),
        picture=_base64(picture),
        most_rows=MOST_ROWS,
        most_cases=MOST_CASES,
        answers=data["answers"] | {"rows": answers},
        content=data,
        data=encode(data | {"specs": specs, "names": list(looks)}),
    )


def rendered(name: str, **values: Any) -> str:
    """Return a template as a page."""
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("pudle.reports.page"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    made.filters |= {"code": _code, "breakable": _breakable, "zip": zip}
    style = Markup(_template("style.css"))
    return made.get_template(name).render(style=style, version=pudle.__version__, **values)


def _template(name: str) -> str:
    """Return the text of a file beside the templates."""
    return (Path(__file__).parent / "templates" / name).read_text(encoding="utf-8")


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode()


def _code(value: str) -> Markup:
    return Markup(re.sub(r"`([^`]*)`", r"<code>\1</code>", str(escape(value))))


def _breakable(name: str) -> Markup:
    """Allow a line break in a long name after a bracket or a comma."""
    return Markup(re.sub(r"([(,])(?=.)", r"\1<wbr>", str(escape(name))))
