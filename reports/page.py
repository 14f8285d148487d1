"""The report as files: a self-contained HTML page, Markdown, CSV, Parquet, LaTeX, and every figure."""

from __future__ import annotations

import base64
import hashlib
import html
import io
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.parse import quote

import jinja2
import pandas as pd
from markupsafe import Markup

import pudle
from pudle.errors import MissingDependency
from pudle.reports import figures, tables, text
from pudle.reports.answers import answers
from pudle.reports.costs import budgets
from pudle.reports.drawing import Picture
from pudle.reports.learning.sections import Section, broken_experiments, experiments_problems, sections
from pudle.reports.load import Results
from pudle.reports.looks import looks_of, symbol
from pudle.reports.rates import fit

READING = (
    "Error: relative error of the gradient, median over seeds, in brackets the least and the greatest seed. "
    f"Depth to {text.number(tables.GOAL, 1)}: from there on the error stays below, log error taken as linear between "
    "measured depths.",
    f"Time to it: linear in depth between timed depths; * marks what lies outside these, up to {tables.REACH:g} times the "
    "deepest. Time and memory are of one seed, at the deepest timed depth; memory is the peak of the process less that of "
    "one that estimates nothing, and at least 0.",
)
READING_RATES = (
    "Rate: factor by which the error shrinks with each layer, fitted from the depth where 99% of the samples have the right "
    "signs to the last where `backprop` is above rounding and above the bound (for laws with a factor T, of error / T). The "
    "interval, in brackets, is that of the seeds. Acceleration: ratio of the slope to that of `alternating` on the same "
    "depths."
)
#: Anchors and names of the page's sections about gradients, which there are where cases were measured.
SECTIONS = (
    ("answers", "Answers"), ("budgets", "By budget"), ("why", "Why"), ("summary", "Summary"), ("figures", "Figures"),
    ("rates", "Rates"), ("references", "Certificates"),
)  # fmt: skip
#: A table that is wider than the line is made as wide as it; others keep their size.
FITTED = (
    r"\providecommand{\pudlefit}[1]{\sbox0{#1}"
    r"\ifdim\wd0>\linewidth\resizebox{\linewidth}{!}{\usebox0}\else\usebox0\fi}"
)
#: Those of every page, after the ones about experiments.
LAST_SECTIONS = (("problems", "Skipped, refused or failed"), ("provenance", "Provenance"))
#: Folder of the figures, beside the page and the Markdown that link to them.
FIGURES = "report_figures"
#: Bytes that a page may have with the figures' data in it; a larger one links to the files beside it.
LARGEST = 5_000_000


@dataclass(frozen=True, eq=False)
class Report:
    """All that a page shows, computed once from the results.

    Attributes
    ----------
    results : Results
    rates : DataFrame
        From `pudle.reports.rates.fit`.
    summary : DataFrame
        From `pudle.reports.tables.summarize`.
    """

    results: Results
    rates: pd.DataFrame
    summary: pd.DataFrame

    @classmethod
    def of(cls, results: Results) -> Report:
        """Compute rates and summary."""
        # Where experiments are all there is, there are no cases to fit anything to.
        rates = fit(results) if results.cases else pd.DataFrame()
        return cls(results, rates, tables.summarize(results, rates))

    @cached_property
    def pictures(self) -> list[Picture]:
        """The figures, drawn once for all formats."""
        return figures.draw(self.results, self.rates, self.summary) if self.results.cases else []

    @cached_property
    def experiments(self) -> list[Section]:
        """What there is to say of experiments, with its pictures."""
        return sections(self.results)

    def html(self) -> str:
        """Return one HTML page that loads nothing from anywhere."""
        template = environment(True, self.results).get_template("page.html.j2")
        content = self._content()
        page = template.render(content, embedded=True)
        return page if len(page) <= LARGEST else template.render(content, embedded=False)

    def markdown(self) -> str:
        """Return the same as Markdown, whose images are the figures beside it."""
        return environment(False, self.results).get_template("page.md.j2").render(self._content()).strip() + "\n"

    def csv(self) -> str:
        """Return the tidy table."""
        return self.results.frame.to_csv(index=False, lineterminator="\n")

    def parquet(self) -> bytes:
        """Return the tidy table with its types.

        Raises
        ------
        MissingDependency
            If pyarrow is not installed: everything else of a report does without it, and it is larger than all the rest.
        """
        try:
            import pyarrow  # noqa: F401
        except ImportError:
            raise MissingDependency(
                "the format parquet needs pyarrow: `pip install 'pudle[parquet]'`, or take --format csv"
            ) from None
        buffer = io.BytesIO()
        self.results.frame.to_parquet(buffer, index=False)
        return buffer.getvalue()

    def latex(self) -> str:
        """Return answers, summaries and rates as tables, for a document that loads booktabs and graphicx."""
        profile = self.results.profile
        parts = ["% \\usepackage{booktabs,graphicx}", FITTED, *(self._latex_of_cases() if self.results.cases else ())]
        for section in self.experiments:
            for number, (table, caption) in enumerate(table for block in section.blocks for table in block.tables):
                columns = "l" + "r" * (table.shape[1] - 1)
                label = f"tab:{section.anchor}-{number + 1}-{profile}"
                parts.append(_latex_table(table, caption, label, columns, r"\footnotesize"))
        return _latex("\n".join(parts))

    def _latex_of_cases(self) -> Iterator[str]:
        rows = [
            {"case": found["case"], "use": found["use"] or text.DASH}
            | {name: found[name] for name in ("error", "depth", "time", "memory")}
            for found in answers(self.results, self.summary)
        ]
        label = f"tab:answers-{self.results.profile}"
        caption = f"Which estimator to use; {text.STARRED}."
        yield _latex_table(pd.DataFrame(rows), caption, label, "llrrrr", r"\small")
        for case in self._cases():
            table = case["summary"].drop(columns=["time / alternating", "status"])
            columns = "l" + "r" * (table.shape[1] - 1)
            yield _latex_table(table, case["caption"], f"tab:{case['name']}", columns, r"\footnotesize")
        rates = tables.rates_table(self.summary)
        for name, part in rates[rates["fitted rate"] != text.DASH].groupby("case", sort=False):
            part = part.drop(columns=["case", "remark"])
            caption = f"Fitted and predicted rates on {name}"
            yield _latex_table(part, caption, f"tab:rates-{name}", "llrrrr", r"\footnotesize")

    def figure_files(self) -> Iterator[tuple[str, bytes]]:
        """Yield (name, content) of every figure as SVG, PDF and CSV, and of the overview as PNG as well."""
        for picture in self.pictures:
            yield from picture.files()
        for section in self.experiments:
            for block in section.blocks:
                for picture in block.pictures:
                    yield from picture.files()
        overview = figures.overview(self.results, self.rates) if self.results.cases else None
        if overview is not None:
            yield from overview.files(("svg", "pdf", "png", "csv"))

    def _content(self) -> dict[str, Any]:
        results = self.results
        newest = results.provenances[0]
        provenance = tables.provenance_table(results)
        facts = dict(provenance)
        measured = []
        if results.cases:
            measured.append(f"{_count(len(results.estimators), 'estimator')} on {_count(len(results.cases), 'case')}")
        if results.experiments:
            measured.append(_count(len(results.experiments), "experiment"))
        return {
            "title": "Which gradient estimator to use" if results.cases else "What each gradient learns",
            "subtitle": f"{text.listing(measured)}, profile "
            f"{results.profile}, {str(newest['date'])[:10]}, {facts['Processor']}, {facts.get('Device', '')}, "
            f"commit {facts['Commit']}.",
            "profile": results.profile,
            "sections": [
                *(SECTIONS if results.cases else ()),
                *((section.anchor, section.name) for section in self.experiments),
                *LAST_SECTIONS,
            ],
            "measured": bool(results.cases),
            "experiments": self.experiments,
            "broken": [*tables.broken(results), *broken_experiments(results)],
            "problems": pd.concat([tables.problems_table(results), experiments_problems(results)], ignore_index=True),
            "provenance": provenance,
            "notes": results.notes,
            **(self._content_of_cases() if results.cases else {}),
        }

    def _content_of_cases(self) -> dict[str, Any]:
        grouped: dict[str, list[Picture]] = {}
        for picture in self.pictures:
            grouped.setdefault(picture.kind, []).append(picture)
        return {
            "answers": answers(self.results, self.summary),
            "budgets": budgets(self.results),
            "reading": READING,
            "reading_rates": READING_RATES,
            "cases": self._cases(),
            "rates": tables.rates_table(self.summary),
            "figures": grouped,
            "kinds": figures.KINDS,
            "references": tables.references_table(self.results),
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
                "others": None if others.empty else others,
            })  # fmt: skip
        return found


#: Formats by name: what makes the content, and the ending of its file.
FORMATS: dict[str, tuple[Callable[[Report], str | bytes], str]] = {
    "markdown": (Report.markdown, "md"),
    "csv": (Report.csv, "csv"),
    "parquet": (Report.parquet, "parquet"),
    "latex": (Report.latex, "tex"),
    "html": (Report.html, "html"),
}
#: Formats that link to the figures.
ILLUSTRATED = ("html", "markdown")


def environment(escape: bool, *sides: Results) -> jinja2.Environment:
    """Return the templates' surroundings, for a page about one or more results."""
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("pudle.reports"), autoescape=escape, undefined=jinja2.StrictUndefined
    )
    made.filters |= {
        "cell": _cell,
        "code": _code,
        "pipes": _pipes,
        "key": _key,
        "data_uri": _data_uri,
        "breakable": _breakable,
    }
    styles: dict[str, Any] = {}
    cases: dict[str, dict[str, str]] = {}
    for side in sides:
        styles |= looks_of(side)
        cases |= {
            name: {key: str(case[key]) for key in ("dataset", "algorithm", "loss")} for name, case in side.cases.items()
        }
    script = made.loader.get_source(made, "script.js")[0]  # type: ignore[union-attr]
    # A script of this very text may run, and no other, whoever puts it there.
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    made.globals |= {
        "version": pudle.__version__,
        "folder": FIGURES,
        "starred": text.STARRED,
        "places": {name: place for place, name in enumerate(styles)},
        "symbols": {name: Markup(symbol(look)) for name, look in styles.items()},
        "script": Markup(script),
        "style": Markup(made.loader.get_source(made, "style.css")[0]),  # type: ignore[union-attr]
        "policy": f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; img-src data:; "
        "base-uri 'none'; form-action 'none'",
        # Inside a script element nothing but `</` could end it.
        "facts": Markup(json.dumps(cases, sort_keys=True).replace("<", "\\u003c")),
        "choices": {
            key: list(dict.fromkeys(case[key] for case in cases.values())) for key in ("dataset", "algorithm", "loss")
        },
    }
    return made


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"


def _cell(value: Any) -> Markup:
    """Put a number first, and its interval and each remark on a line of its own; prose stays as it is."""
    if isinstance(value, text.Cell) and value.best:
        return Markup("<strong>{}</strong>").format(_cell(str.__str__(value)))
    value = str.__str__(value) if isinstance(value, str) else str(value)
    head, *parts = re.split(r", | (?=\()", value)
    if not parts or not re.match(r"[\dTρ]", head) or re.fullmatch(r"[\d, ]+", value):
        return Markup(html.escape(value).replace(" ", "\u00a0") if value[:1].isdigit() else html.escape(value))
    small = Markup("").join(Markup("<small>{}</small>").format(part) for part in parts)
    return Markup(html.escape(head).replace(" ", "\u00a0")) + small


def _key(value: Any) -> Markup:
    """Return the attribute that a cell is sorted by, where its words are not what to sort by."""
    key = text.key(str(value))
    return Markup("" if key is None else f' data-key="{key:g}"'.replace('"inf"', '"Infinity"'))


def _code(value: str) -> Markup:
    return Markup(re.sub(r"`([^`]*)`", r"<code>\1</code>", html.escape(value, quote=False)))


def _breakable(name: str) -> Markup:
    """Let a long name break where a reader would, and nowhere else."""
    return Markup(re.sub(r"([(_,])(?=.)", r"\1<wbr>", html.escape(name)))


def _pipes(value: Any) -> str:
    """Keep a cell of a Markdown table in its place: no bar and no line end may split it."""
    shown = " ".join(str(value).replace("|", "\\|").split())
    return f"**{shown}**" if isinstance(value, text.Cell) and value.best else shown


def _data_uri(csv: str) -> str:
    return "data:text/csv;charset=utf-8," + quote(csv, safe=",()=.-_ ").replace(" ", "%20")


def _latex_table(table: pd.DataFrame, caption: str, label: str, columns: str, size: str) -> str:
    # Marks that no cell holds pass through the escaping.
    table = table.map(lambda cell: f"⟪{cell}⟫" if isinstance(cell, text.Cell) and cell.best else cell)
    made = table.to_latex(
        index=False, escape=True, column_format=columns, caption=_latex_escape(caption), label=label, position="htbp"
    )
    made = made.replace("⟪", r"\textbf{").replace("⟫", "}")
    made = made.replace(r"\begin{tabular}", f"{size}\n\\pudlefit{{%\n\\begin{{tabular}}")
    return made.replace(r"\end{tabular}", "\\end{tabular}}")


def _latex_escape(value: str) -> str:
    return re.sub(r"([&%$#_{}])", r"\\\1", value)


def _latex(value: str) -> str:
    value = value.replace("≤", r"$\leq$").replace("ρ²ᵀ", r"$\rho^{2T}$").replace("ρᵀ", r"$\rho^T$")
    return value.replace("µ", r"$\mu$").replace(text.DASH, "--")
