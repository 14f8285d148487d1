"""The report as text: a self-contained HTML page, Markdown, CSV and LaTeX."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jinja2
import pandas as pd
from markupsafe import Markup

import pudle
from pudle.reports import figures, tables, text
from pudle.reports.answers import answers
from pudle.reports.load import Results
from pudle.reports.rates import fit

READING = (
    "Error: relative error of the gradient, median over seeds, in brackets the least and the greatest seed. Rate per layer: "
    "factor by which the error shrinks with each layer, fitted from the depth where 99% of the samples have the right signs "
    "to the last where `backprop` is above rounding and above the bound (for laws with a factor T, of error / T); its "
    "interval is that of the seeds. Acceleration: ratio of the slope to that of `alternating` on the same depths.",
    f"Depth to {text.number(tables.GOAL, 1)}: from there on the error stays below, log error taken as linear between "
    "measured depths. Time to it: linear in depth between timed depths; * marks what lies outside these, up to "
    f"{tables.REACH:g} times the deepest. Time and memory are of one seed, at the deepest timed depth; memory is the peak "
    "of the process less that of one that estimates nothing, and at least 0.",
)


@dataclass(frozen=True, eq=False)
class Report:
    """All that a page shows, computed once from the results.

    Attributes
    ----------
    results : Results
    rates : DataFrame
        From `pudle.reports.rates.fit`.
    summary : DataFrame
        From `pudle.reports.tables.summarise`.
    """

    results: Results
    rates: pd.DataFrame
    summary: pd.DataFrame

    @classmethod
    def of(cls, results: Results) -> Report:
        """Compute rates and summary."""
        rates = fit(results)
        return cls(results, rates, tables.summarise(results, rates))

    def html(self) -> str:
        """Return one HTML page that loads nothing from anywhere."""
        grouped: dict[str, list[figures.Picture]] = {}
        for picture in figures.draw(self.results, self.rates):
            grouped.setdefault(picture.kind, []).append(picture)
        return _environment(True).get_template("page.html.j2").render(self._content(), figures=grouped)

    def markdown(self) -> str:
        """Return the same without figures, as Markdown."""
        return _environment(False).get_template("page.md.j2").render(self._content()).strip() + "\n"

    def csv(self) -> str:
        """Return the tidy table."""
        return self.results.frame.to_csv(index=False, lineterminator="\n")

    def latex(self) -> str:
        """Return the summary tables, for a document that loads booktabs."""
        parts = ["% \\usepackage{booktabs}"]
        for case in self._cases():
            table = case["summary"].drop(columns=["time / alternating", "status"])
            rate = table["rate per layer"]
            table["rate per layer"] = rate.str.partition(",")[0].where(rate.str[0].str.isdigit(), text.DASH)
            parts.append(
                table.to_latex(
                    index=False,
                    escape=True,
                    column_format="l" + "r" * (table.shape[1] - 1),
                    caption=_latex_escape(case["caption"]),
                    label=f"tab:{case['name']}",
                    position="htbp",
                )
            )
        return _latex("\n".join(parts))

    def _content(self) -> dict[str, Any]:
        results = self.results
        newest = results.provenances[0]
        provenance = tables.provenance_table(results)
        facts = dict(provenance)
        datasets = {case["dataset"] for case in results.cases.values()}
        return {
            "title": f"{_count(len(results.estimators), 'gradient estimator')} on {_count(len(results.cases), 'case')}",
            "subtitle": f"Profile {results.profile}, {_count(len(datasets), 'dataset')}, {str(newest['date'])[:10]}, "
            f"{facts['Processor']}, {facts.get('Device', '')}, commit {facts['Commit']}.",
            "profile": results.profile,
            "version": pudle.__version__,
            "broken": tables.broken(results),
            "answers": answers(results, self.summary),
            "reading": READING,
            "cases": self._cases(),
            "references": tables.references_table(results),
            "problems": tables.problems_table(results),
            "provenance": provenance,
            "notes": results.notes,
        }

    def _cases(self) -> list[dict[str, Any]]:
        found = []
        for name, case in self.results.cases.items():
            target = self.results.target(name)
            others = tables.other_targets_table(self.results, name)
            found.append({
                "name": name,
                "caption": f"{case['dataset']}, {case['algorithm']}, {case['loss']} loss, against {target}, "
                           f"{_count(len(case['seeds']), 'seed')}",
                "summary": tables.summary_table(self.summary, name, max(case["depths"])),
                "notes": tables.rate_notes(self.summary, name),
                "others": None if others.empty else others,
            })  # fmt: skip
        return found


#: Formats by name: what makes the text, and the ending of its file.
FORMATS: dict[str, tuple[Callable[[Report], str], str]] = {
    "markdown": (Report.markdown, "md"),
    "csv": (Report.csv, "csv"),
    "latex": (Report.latex, "tex"),
    "html": (Report.html, "html"),
}


def _environment(escape: bool) -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pudle.reports"), autoescape=escape, undefined=jinja2.StrictUndefined
    )
    environment.filters |= {"cell": _cell, "code": _code, "pipes": _pipes, "base64": _base64}
    return environment


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"


def _cell(value: Any) -> Markup:
    """Put a number first, and its interval and each remark on a line of its own; prose stays as it is."""
    value = str(value)
    head, *parts = re.split(r", | (?=\()", value)
    if not parts or not re.match(r"[\dTρ]", head) or re.fullmatch(r"[\d, ]+", value):
        return Markup(html.escape(value).replace(" ", "\u00a0") if value[:1].isdigit() else html.escape(value))
    small = Markup("").join(Markup("<small>{}</small>").format(part) for part in parts)
    return Markup(html.escape(head).replace(" ", "\u00a0")) + small


def _code(value: str) -> Markup:
    return Markup(re.sub(r"`([^`]*)`", r"<code>\1</code>", html.escape(value, quote=False)))


def _pipes(value: Any) -> str:
    """Keep a cell of a Markdown table in its place: no bar and no line end may split it."""
    return " ".join(str(value).replace("|", "\\|").split())


def _base64(value: str) -> str:
    return base64.b64encode(value.encode()).decode()


def _latex_escape(value: str) -> str:
    return re.sub(r"([&%$#_{}])", r"\\\1", value)


def _latex(value: str) -> str:
    value = value.replace("ρ²ᵀ", r"$\rho^{2T}$").replace("ρᵀ", r"$\rho^T$")
    return value.replace("µ", r"$\mu$").replace(text.DASH, "--")
