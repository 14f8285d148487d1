"""The page: one HTML file that carries its data, draws it in the browser, and loads nothing from
anywhere.
"""

import base64
import hashlib
import json
import re
from pathlib import Path

import jinja2
from markupsafe import Markup, escape

import pudle
from pudle import text
from pudle.reports.answers import reading_budgets, unrolled_sentence
from pudle.reports.figures import cases
from pudle.reports.load import parsed
from pudle.reports.looks import looks_of
from pudle.reports.page.data import content, encode, script
from pudle.reports.report import RUNS_READING, Reports
from pudle.reports.tables import pending_sentence, unselected, where_timed

#: Rows of any table, and tables of cases, that are shown without a script; `report.csv` holds all.
MOST_ROWS, MOST_CASES = 200, 20


def html(reports: Reports) -> str:
    """Return the page of one run, or of several side by side, by the names that the user gave them,
    as one HTML text; nothing but the script of the figures is written, into the user's folder for
    caches.
    """
    first, *_ = reports.values()
    data, results = content(reports), [report.results for report in reports.values()]
    blocks = [block for section in first.experiments for block in section.blocks]
    every = [figure.looks for block in blocks for figure in block.charts]
    every += map(looks_of, results)
    looks = {name: look.data for looks_by_name in every for name, look in looks_by_name.items()}
    meanings = dict.fromkeys(meaning for report in reports.values() for meaning in report.meanings)
    # Specs with other options mean the same.
    by_name = {meaning.name: meaning.sentence for meaning in meanings}
    sentences = {
        name: by_name[parsed(name)[0]].replace("`", "")
        for name in looks
        if parsed(name)[0] in by_name
    }
    # Words that are columns of a table are explained there as well.
    headings = {meaning.name: meaning.sentence for meaning in meanings if meaning.kind == "word"}
    # In a function of its own: the library's script declares names on the page's level.
    page_scripts = "\n".join(_template(name) for name in ("charts.js", "page.js"))
    scripts = [script(), f'(() => {{\n"use strict";\n{page_scripts}}})();']
    specs = json.loads(_template("vega.json"))
    answers, picture = dict(data["answers"]), b""
    if first.results.cases:
        answers["rows"] = data["runs"][0]["answers"][""][f"{data['error']},,"]
        if "*" in json.dumps(answers["rows"]):
            answers["caption"] = f"{answers['caption']} ({text.STARRED})"
        ((_, picture),) = cases.overview(first.results, first.summary).files(["svg"])
    budget_tables = [
        shown["rows"]
        for run in data["runs"]
        for name, shown in run["tables"].items()
        if name.startswith("budgets")
    ]
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pudle.reports.page"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {"code": _code, "breakable": _breakable, "zip": zip}
    environment.filters |= {"pending": pending_sentence, "where_timed": where_timed}
    environment.filters |= {"unselected": unselected, "reading_budgets": reading_budgets}
    return environment.get_template("page.html.j2").render(
        style=Markup(_template("style.css")),
        # The browser runs scripts of these very texts and no others, whoever puts them into the
        # page.
        digests=[_base64(hashlib.sha256(source.encode()).digest()) for source in scripts],
        scripts=[Markup(source) for source in scripts],
        starred=text.STARRED,
        starred_budgets="*" in json.dumps(budget_tables, default=vars),
        first=first,
        reports=[*reports.items()],
        looks=looks,
        names=[*dict.fromkeys(name for run in results for name in looks_of(run))],
        about=first.about,
        meanings=meanings,
        runs_reading=RUNS_READING,
        reading_rates=first.reading_rates,
        unrolled=unrolled_sentence(first.results),
        headings=headings,
        picture=_base64(picture),
        most_rows=MOST_ROWS,
        most_cases=MOST_CASES,
        answers=answers,
        content=data,
        sentences=sentences,
        data=encode(
            {**data, "specs": specs, "names": [*looks], "meanings": sentences, "headings": headings}
        ),
        version=pudle.__version__,
    )


def _template(name: str) -> str:
    """Return the text of a file beside the templates."""
    return (Path(__file__).parent / "templates" / name).read_text(encoding="utf-8")


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode()


def _code(value: str) -> Markup:
    return Markup(re.sub(r"`([^`]*)`", r"<code>\1</code>", str(escape(value))))


def _breakable(name: str) -> Markup:
    """Return a name as HTML, escaped, which may be broken after a bracket or a comma within it."""
    return Markup(re.sub(r"(\w\(|,)(?=.)", r"\1<wbr>", str(escape(name))))
