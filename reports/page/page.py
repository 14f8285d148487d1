"""The page: one HTML file that carries its data, draws it in the browser, and loads nothing from
anywhere.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.resources
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup, escape

import pudle
from pudle import text
from pudle.answers import ERROR
from pudle.reports import runs
from pudle.reports.answers import answers
from pudle.reports.learning.bought import bought
from pudle.reports.learning.sections import Section
from pudle.reports.page import charting, charts
from pudle.reports.page.data import encode, looks_data, run_data, table
from pudle.reports.page.static import MOST_ROWS, static_bought, static_budgets, static_cases
from pudle.reports.report import NO_TORCH, READING, READING_RATES, Report
from pudle.reports.results import TITLES
from pudle.reports.scope import pending_sentence, where_timed

#: The page's own scripts, in the order in which they need each other.
SCRIPTS = ("lookups.js", "charts.js", "page.js")
#: Anchors and names of the sections about gradients, which exist if cases were measured.
SECTIONS = (
    ("answers", "Answers"),
    ("figures", "Figures"),
    ("case", "One case"),
    ("budgets", "By budget"),
)
LATER_SECTIONS = (("rates", "Rates"), ("references", "Certificates"), ("reading", "How to read"))
LAST_SECTIONS = (("problems", "Skipped, refused or failed"), ("provenance", "Provenance"))
READING_REFERENCES = (
    "Every error is measured against an exact gradient in float64 with a bound on its own error. No"
    " error is reported as smaller than the bound, and nothing is scored against a reference that"
    " is not certified, but for cases with the badge limit: they have no exact solver, their"
    " reference is the limit of the iteration with an estimated error, and they are never ranked"
    " together with certified ones. Numbers are the worst over seeds."
)
READING_BOUGHT = (
    "Each point is one training: across, the error of its gradient at the depth it trained with, as"
    " scored on the same dataset, algorithm and loss; upwards, what the training led to. Where"
    " points to the left are not lower, more accurate gradients buy nothing more."
)
#: The page has no room for times of the torch path.
TORCH = (
    "Where compiled kernels take part, times are with them: the report as Markdown and as CSV has"
    " those without as well."
)
#: Cases whose answers the page holds in its text; the script pages through more.
MOST_ANSWERS = 50


@dataclass(frozen=True, eq=False)
class Page:
    """One run, or several side by side with the names that the user gave them."""

    reports: Sequence[Report]
    names: Sequence[str]

    def html(self) -> str:
        """Return the page."""
        # In a function of its own: the library's script declares names on the page's level.
        own = "\n".join(_template(name) for name in SCRIPTS)
        scripts = [charting.script(), f'(() => {{\n"use strict";\n{own}}})();']
        # The browser runs scripts of these very texts and no others, whoever puts them into the
        # page.
        digests = (
            base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
            for script in scripts
        )
        policy = "default-src 'none'; style-src 'unsafe-inline'; script-src " + " ".join(
            f"'sha256-{it}'" for it in digests
        )
        policy += "; img-src data: blob:; base-uri 'none'; form-action 'none'"
        made = jinja2.Environment(
            loader=jinja2.PackageLoader("pudle.reports.page"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
        )
        made.filters |= {
            "code": _code,
            "breakable": _breakable,
            "twice": lambda value: (value, value),
        }
        first = self.reports[0]
        chosen = (
            answers(first.results, first.summary, most=MOST_ANSWERS) if first.results.cases else []
        )
        return made.get_template("page.html.j2").render(
            policy=policy,
            scripts=[Markup(script) for script in scripts],
            style=Markup(_template("style.css")),
            version=pudle.__version__,
            starred=text.STARRED,
            goal=text.number(ERROR, 1),
            title=first.title,
            subtitle=first.subtitle,
            profile=first.results.profile,
            looks=self.looks,
            names=list(self.names_shown),
            places={name: place for place, name in enumerate(self.looks)},
            choices=self.choices,
            metrics=[(key, label) for key, label in TITLES.items() if key in self.metrics],
            runs=[(str(place), name) for place, name in enumerate(self.names)],
            runs_reading=runs.READING,
            broken=list(dict.fromkeys(name for report in self.reports for name in report.broken)),
            pending=" ".join(
                filter(None, (pending_sentence(report.results) for report in self.reports))
            ),
            measured=self.measured,
            answers=chosen,
            notes=self.notes,
            reading=[
                part.format(
                    torch=(
                        TORCH
                        if any(report.has_torch_times for report in self.reports)
                        else NO_TORCH
                    )
                )
                for part in READING
            ],
            case_names=list(
                dict.fromkeys(name for report in self.reports for name in report.results.cases)
            ),
            reading_rates=READING_RATES,
            reading_references=READING_REFERENCES,
            bought_reading=READING_BOUGHT,
            bought=self.bought,
            experiments=self.experiments,
            sections=self.sections,
            data=encode(self.data),
            where_timed=" ".join(
                filter(None, dict.fromkeys(where_timed(report.results) for report in self.reports))
            ),
            most_rows=MOST_ROWS,
            static_cases=static_cases(first),
            static_budgets=static_budgets(first),
            static_bought=static_bought(self.bought),
            tables=self.data["tables"],
            run_tables=self.data["runs"][0]["tables"],
            provenance=[
                (name, report.facts.items())
                for name, report in zip(self.names, self.reports, strict=True)
            ],
        )

    @property
    def measured(self) -> bool:
        """Tell whether there are cases."""
        return any(report.results.cases for report in self.reports)

    @cached_property
    def looks(self) -> dict[str, Any]:
        """The look of every estimator, and of other packages that were trained beside them."""
        found = looks_data(report.results for report in self.reports)
        for section in self.reports[0].experiments:
            for figure in (chart for block in section.blocks for chart in block.charts):
                owners = dict(figure.rows[["method", "estimator"]].itertuples(index=False))
                for method, look in figure.looks.items():
                    found.setdefault(
                        owners[method],
                        {"color": look.color, "shape": look.shape, "dashes": look.dashes},
                    )
        return found

    @cached_property
    def names_shown(self) -> dict[str, None]:
        """The estimators of all runs, in order."""
        names = dict.fromkeys(name for report in self.reports for name in report.results.estimators)
        trained = (
            item.estimator
            for report in self.reports
            for item in report.results.experiments
            if item.estimator
        )
        return names | dict.fromkeys(trained)

    @cached_property
    def choices(self) -> dict[str, list[str]]:
        """The values of each filter of cases."""
        every = [case for report in self.reports for case in report.results.cases.values()]
        return {
            key: list(dict.fromkeys(str(case[key]) for case in every))
            for key in ("dataset", "algorithm", "loss")
        }

    @cached_property
    def metrics(self) -> set[str]:
        """The metrics that some case has."""
        return {
            metric
            for run in self.data["runs"]
            for case in run["cases"]
            for metric in TITLES
            if metric in case
        }

    @cached_property
    def notes(self) -> list[str]:
        """What a reader has to know about the origin of the numbers."""
        several = len(self.reports) > 1
        found = [
            f"{name}: {note}" if several else note
            for name, report in zip(self.names, self.reports, strict=True)
            for note in report.notes
        ]
        if any(run["condensed"] for run in self.data["runs"]):
            found.append(
                "So many errors do not fit into a page: it carries their median, least and greatest"
                " over the seeds, and answers rest on the medians; `report.csv` beside it holds"
                " them all."
            )
        return found

    @cached_property
    def sections(self) -> list[tuple[str, str]]:
        """Anchors and names of the sections that the page has."""
        learned = [(section["anchor"], section["name"]) for section in self.experiments]
        return [
            *(SECTIONS if self.measured else ()),
            *([("runs", "Runs")] if len(self.reports) > 1 else ()),
            *([("bought", "What gradients buy")] if self.bought else ()),
            *learned,
            *(LATER_SECTIONS if self.measured else ()),
            *LAST_SECTIONS,
        ]

    @cached_property
    def bought(self) -> list[dict[str, Any]]:
        """What trainings led to, beside the errors of their gradients."""
        return bought(self.reports[0].results)

    @cached_property
    def experiments(self) -> list[dict[str, Any]]:
        """The sections about experiments, whose tables and charts are the page's data."""
        return [_section(section) for section in self.reports[0].experiments]

    @cached_property
    def data(self) -> dict[str, Any]:
        """What the script computes from."""
        reports = list(zip(self.names, self.reports, strict=True))
        problems = pd.concat(
            [
                report.problems.assign(**({"run": name} if len(reports) > 1 else {}))
                for name, report in reports
            ]
        )
        content: dict[str, Any] = {
            "error": ERROR,
            "metrics": TITLES,
            "looks": self.looks,
            "specs": charting.specs(self.looks),
            "runs": [
                run_data(report.results, report.summary, report.rates, name)
                for name, report in reports
            ],
            "axes": charting.AXES,
            "charts": charts.bought(self.bought),
            "tables": {"problems": table(problems, "What has no number, and why")},
        }
        if len(reports) > 1:
            several = runs.Runs(self.reports, self.names)
            about = f"Every estimator on every case that a run has in common with {self.names[0]}"
            content["tables"] |= {
                "runs": table(several.overview, "Every run"),
                "differences": table(several.differences, about),
                "experiments": table(several.experiments, "Every experiment of two runs"),
            }
        for section, shown in zip(self.reports[0].experiments, self.experiments, strict=True):
            for block, described in zip(section.blocks, shown["blocks"], strict=True):
                for (frame, caption), key in zip(block.tables, described["tables"], strict=True):
                    content["tables"][key] = table(frame, caption)
                for chart, key in zip(block.charts, described["trainings"], strict=True):
                    content["charts"].append(charts.training(chart, key))
        return content


def _section(section: Section) -> dict[str, Any]:
    blocks = [
        {
            "heading": block.heading,
            "answer": block.answer,
            "galleries": block.galleries,
            "tables": [f"{section.anchor}-{place}-{number}" for number in range(len(block.tables))],
            "trainings": [
                f"{section.anchor}-{place}-{number}" for number in range(len(block.charts))
            ],
        }
        for place, block in enumerate(section.blocks)
    ]
    return {
        "anchor": section.anchor,
        "name": section.name,
        "reading": section.reading,
        "blocks": blocks,
    }


def _template(name: str) -> str:
    return (
        importlib.resources.files("pudle.reports.page")
        .joinpath("templates", name)
        .read_text(encoding="utf-8")
    )


def _code(value: str) -> Markup:
    return Markup(re.sub(r"`([^`]*)`", r"<code>\1</code>", str(escape(value))))


def _breakable(name: str) -> Markup:
    """Allow a line break in a long name after a bracket or a comma."""
    return Markup(re.sub(r"([(,])(?=.)", r"\1<wbr>", str(escape(name))))
