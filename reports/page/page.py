"""The page: one HTML file that carries its data, draws it in the browser, and loads nothing from
anywhere.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
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

#: The page's own scripts, in the order in which they need each other.
SCRIPTS = ("charts.js", "page.js")
#: The page has no room for times of the torch path.
TORCH = (
    "Where compiled kernels take part, times are with them: the report as Markdown and as CSV has"
    " those without as well."
)
#: Rows of any table, and tables of cases, that are shown without a script; `report.csv` holds all.
MOST_ROWS, MOST_CASES = 200, 20


@dataclass(frozen=True, eq=False)
class Page:
    """One run, or several side by side with the names that the user gave them."""

    reports: Sequence[Report]
    names: Sequence[str]

    def html(self) -> str:
        """Return the page."""
        first = self.reports[0]
        # In a function of its own: the library's script declares names on the page's level.
        own = "\n".join(template(name) for name in SCRIPTS)
        scripts = [charting.script(), f'(() => {{\n"use strict";\n{own}}})();']
        # The browser runs scripts of these very texts and no others, whoever puts them into the
        # page.
        digests = (hashlib.sha256(script.encode()).digest() for script in scripts)
        data = content(self.reports, self.names) | {
            "specs": json.loads(template("vega.json")),
            "names": list(self.looks),
        }
        wish = f"{data['error']},,"
        answers = [[item["cell"], *item["answers"][wish]] for item in data["runs"][0]["cases"]]
        torch = TORCH if any(report.has_torch_times for report in self.reports) else NO_TORCH
        return (
            environment()
            .get_template("page.html.j2")
            .render(
                digests=[base64.b64encode(digest).decode() for digest in digests],
                scripts=[Markup(script) for script in scripts],
                style=Markup(template("style.css")),
                version=pudle.__version__,
                starred=text.STARRED,
                first=first,
                reports=list(zip(self.names, self.reports, strict=True)),
                looks=self.looks,
                names=self._merged(lambda report: report.results.estimators) | self.trained,
                places={name: place for place, name in enumerate(self.looks)},
                choices={
                    key: self._merged(
                        lambda report, key=key: (
                            case[key] for case in report.results.cases.values()
                        )
                    )
                    for key in ("dataset", "algorithm", "loss")
                },
                runs_reading=runs.READING,
                broken=list(self._merged(lambda report: report.broken)),
                pending=self._sentence(pending_sentence),
                where_timed=self._sentence(where_timed),
                notes=self.notes,
                reading=[part.format(torch=torch) for part in READING],
                reading_rates=READING_RATES,
                case_names=self._merged(lambda report: report.results.cases),
                measured=any(report.results.cases for report in self.reports),
                picture=self.picture,
                most_rows=MOST_ROWS,
                most_cases=MOST_CASES,
                answers=data["answers"] | {"rows": answers},
                content=data,
                data=encode(data),
            )
        )

    def _merged(self, values: Callable[[Report], Iterable[str]]) -> dict[str, None]:
        return dict.fromkeys(value for report in self.reports for value in values(report))

    def _sentence(self, say: Callable[[Any], str]) -> str:
        said = dict.fromkeys(say(report.results) for report in self.reports)
        return " ".join(filter(None, said))

    @cached_property
    def trained(self) -> dict[str, None]:
        """The estimators of trainings."""
        return self._merged(
            lambda report: (item.estimator for item in report.results.experiments if item.estimator)
        )

    @cached_property
    def looks(self) -> dict[str, Any]:
        """The look of every estimator, and of other packages that were trained beside them."""
        blocks = (block for section in self.reports[0].experiments for block in section.blocks)
        trained = (figure.looks for block in blocks for figure in block.charts)
        known = [*trained, *(looks_of(report.results) for report in self.reports)]
        return {name: look.data for looks in known for name, look in looks.items()}

    @cached_property
    def notes(self) -> list[str]:
        """What a reader has to know about the origin of the numbers."""
        return [
            f"{name}: {note}" if len(self.reports) > 1 else note
            for name, report in zip(self.names, self.reports, strict=True)
            for note in report.notes
        ]

    @cached_property
    def picture(self) -> str:
        """The address of the overview, for readers whose browser runs no scripts."""
        first = self.reports[0]
        if not first.results.cases:
            return ""
        ((_, drawn),) = cases.overview(first.results, first.rates).files(["svg"])
        return "data:image/svg+xml;base64," + base64.b64encode(drawn).decode()


def environment() -> jinja2.Environment:
    """Return what makes pages of the templates."""
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("pudle.reports.page"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    made.filters |= {"code": _code, "breakable": _breakable, "zip": zip}
    return made


def template(name: str) -> str:
    """Return the text of a file beside the templates."""
    return files("pudle.reports.page").joinpath("templates", name).read_text(encoding="utf-8")


def _code(value: str) -> Markup:
    return Markup(re.sub(r"`([^`]*)`", r"<code>\1</code>", str(escape(value))))


def _breakable(name: str) -> Markup:
    """Allow a line break in a long name after a bracket or a comma."""
    return Markup(re.sub(r"([(,])(?=.)", r"\1<wbr>", str(escape(name))))
