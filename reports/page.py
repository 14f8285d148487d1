"""The report as files: a self-contained HTML page, Markdown, CSV, Parquet, LaTeX, and every figure."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar
from urllib.parse import quote

import jinja2
import pandas as pd
from markupsafe import Markup, escape

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
    "Error: relative error of the gradient, as the median over seeds, with the range over the seeds in brackets. "
    f"Depth to {text.number(tables.GOAL, 1)}: from this depth on the error stays below. Between measured depths, log error "
    "is taken as linear.",
    "Time to it: between timed depths, time is taken as linear; * marks an extrapolation, which goes up to "
    f"{tables.REACH:g} times the deepest timed depth. Brackets reach from the least lower to the greatest upper quartile "
    "of the repeats, each seed at its own depth; two times are distinguishable where the quartiles are apart on every seed. "
    "Torch path: the same without compiled kernels. Time and memory are measured for one seed. Memory is the peak of the "
    "process, at the deepest timed depth, minus the peak of a process that only holds the problem, and at least 0.",
)
READING_RATES = (
    "Rate: the factor by which the error (for laws with a factor T, error / T) shrinks with each layer, with the range over "
    "the seeds in brackets. A window begins where all samples have the right signs and ends where the error of `backprop` "
    "is at rounding or at the bound; the fit takes the later half. Acceleration: the ratio of the slope to `alternating`'s "
    f"on the same depths, as the mean with the {tables.CONFIDENCE:.0%} confidence interval of Student's t; of fewer than "
    f"{tables.FEWEST_SEEDS} seeds, as the median with the range. The interval is about the seeds: theory's 2 is a limit, "
    "from which a window of finite depth is off by some percent."
)
#: Anchors and names of the page's sections about gradients, which exist if cases were measured.
SECTIONS = (
    ("answers", "Answers"), ("budgets", "By budget"), ("why", "Why"), ("summary", "Summary"), ("figures", "Figures"),
    ("rates", "Rates"), ("references", "Certificates"),
)  # fmt: skip
#: Sections of every page, after those about experiments.
LAST_SECTIONS = (("problems", "Skipped, refused or failed"), ("provenance", "Provenance"))
#: First lines of the LaTeX file: a table that is wider than a line is scaled down to it, others keep their size.
PREAMBLE = (
    "% \\usepackage{booktabs,graphicx}\n"
    r"\providecommand{\pudlefit}[1]{\sbox0{#1}"
    r"\ifdim\wd0>\linewidth\resizebox{\linewidth}{!}{\usebox0}\else\usebox0\fi}"
)
#: Formats of the report by the name of the method that makes the content, with the ending of its file.
ENDINGS = {"markdown": "md", "csv": "csv", "parquet": "parquet", "latex": "tex", "html": "html"}
#: Formats of every figure, in files of their own; the page and the Markdown link to those that are written.
FIGURE_FORMATS = ("csv", "svg", "pdf", "png")
#: Folder of the figures' files, beside the page and the Markdown.
FIGURES = "report_figures"
#: Most characters of a page that includes the data of its figures; a larger page links to files instead.
LARGEST = 5_000_000


class Document(ABC):
    """A report that can be had in several formats; its content is computed once, and a figure is drawn once if at all."""

    #: Name of the templates of the page and of the Markdown.
    template: ClassVar[str]

    @property
    @abstractmethod
    def sides(self) -> tuple[Results, ...]:
        """The results that the report is about."""

    @cached_property
    @abstractmethod
    def pictures(self) -> list[Picture]:
        """The figures about cases."""

    @cached_property
    @abstractmethod
    def content(self) -> dict[str, Any]:
        """What the templates show."""

    #: Formats, of `FIGURE_FORMATS`, in which every figure is written into a file of its own.
    linked: Sequence[str]

    def html(self) -> str:
        """Return one HTML page that loads nothing from anywhere, with links to the figures' files."""
        template = environment(True, *self.sides).get_template(f"{self.template}.html.j2")
        page = template.render(self.content, embedded=True, linked=self.linked)
        return page if len(page) <= LARGEST else template.render(self.content, embedded=False, linked=self.linked)

    def markdown(self) -> str:
        """Return the same as Markdown, whose images are the figures' files, where they are written in a format for it."""
        template = environment(False, *self.sides).get_template(f"{self.template}.md.j2")
        image = next((ending for ending in ("svg", "png") if ending in self.linked), "")
        return template.render(self.content, image=image).strip() + "\n"

    def figure_files(self) -> Iterator[tuple[str, bytes]]:
        """Yield (name, content) of every figure in the formats `linked`."""
        for picture in self.pictures if self.linked else ():
            yield from picture.files(self.linked)


@dataclass(frozen=True, eq=False)
class Report(Document):
    """Everything that a page shows, computed once from the results; see `rates.fit` and `tables.summarize`."""

    results: Results
    rates: pd.DataFrame
    summary: pd.DataFrame
    linked: Sequence[str] = ()
    #: Most processes to draw in, see `figures.draw`.
    processes: int = 1

    template = "page"

    @classmethod
    def of(cls, results: Results, linked: Sequence[str] = (), processes: int = 1) -> Report:
        """Compute rates and summary of some results."""
        # Results of experiments alone have no cases to fit.
        rates = fit(results) if results.cases else pd.DataFrame()
        return cls(results, rates, tables.summarize(results, rates), linked, processes)

    @property
    def sides(self) -> tuple[Results, ...]:
        """These results alone."""
        return (self.results,)

    @cached_property
    def pictures(self) -> list[Picture]:
        """The figures about cases."""
        if not self.results.cases:
            return []
        return figures.draw(self.results, self.rates, self.summary, self.linked, self.processes)

    @cached_property
    def experiments(self) -> list[Section]:
        """The sections about experiments, with their pictures."""
        return sections(self.results)

    def csv(self) -> str:
        """Return the tidy table."""
        return text.csv(self.results.frame)

    def parquet(self) -> bytes:
        """Return the tidy table with its types; without pyarrow raise `MissingDependency`."""
        try:
            return self.results.frame.to_parquet(engine="pyarrow", index=False)
        except ImportError:
            remedy = "`pip install 'pudle[parquet]'`, or choose --format csv"
            raise MissingDependency(f"the format parquet needs pyarrow: {remedy}") from None

    def latex(self) -> str:
        """Return answers, summaries and rates as tables, for a document that loads booktabs and graphicx."""
        parts = [PREAMBLE, *(self._latex_of_cases() if self.results.cases else ())]
        for section in self.experiments:
            for number, (table, caption) in enumerate((table for block in section.blocks for table in block.tables), 1):
                label = f"tab:{section.anchor}-{number}-{self.results.profile}"
                parts.append(text.latex_table(table, caption, label, size=r"\footnotesize"))
        return "\n".join(parts)

    def _latex_of_cases(self) -> Iterator[str]:
        chosen = pd.DataFrame(answers(self.results, self.summary))[["case", "use", "error", "depth", "time", "memory"]]
        chosen["use"] = chosen["use"].replace("", text.DASH)
        label = f"tab:answers-{self.results.profile}"
        yield text.latex_table(chosen, f"Which estimator to use; {text.STARRED}.", label, "llrrrr", r"\small")
        for case in self.cases:
            table = case["summary"].drop(columns=["time / alternating", "status"])
            yield text.latex_table(table, case["caption"], f"tab:{case['name']}", size=r"\footnotesize")
        rates = tables.rates_table(self.summary)
        for name, part in rates[rates["fitted rate"] != text.DASH].groupby("case", sort=False):
            part, caption = part.drop(columns=["case", "remark"]), f"Fitted and predicted rates on {name}"
            yield text.latex_table(part, caption, f"tab:rates-{name}", "llrrrr", r"\footnotesize")

    def figure_files(self) -> Iterator[tuple[str, bytes]]:
        """Yield (name, content) of every figure, those about experiments and the README's overview included."""
        yield from super().figure_files()
        if not self.linked:
            return
        of_experiments = (picture for section in self.experiments for block in section.blocks for picture in block.pictures)
        overview = figures.overview(self.results, self.rates) if self.results.cases else None
        for picture in (*of_experiments, *filter(None, [overview])):
            yield from picture.files(self.linked)

    @cached_property
    def content(self) -> dict[str, Any]:
        """What the templates show: sentences, tables and figures by section."""
        results = self.results
        facts = dict(tables.provenance_table(results))
        counts = f"{_count(len(results.estimators), 'estimator')} on {_count(len(results.cases), 'case')}"
        measured = [counts] if results.cases else []
        measured += [_count(len(results.experiments), "experiment")] if results.experiments else []
        learned = [(section.anchor, section.name) for section in self.experiments]
        content = {
            "title": "Which gradient estimator to use" if results.cases else "What each gradient learns",
            "subtitle": f"{text.listing(measured)}, profile {results.profile}, {facts['Newest record'][:10]}, "
            f"{facts['Processor']}, {facts.get('Device', '')}, commit {facts['Commit']}.",
            "profile": results.profile,
            "sections": [*(SECTIONS if results.cases else ()), *learned, *LAST_SECTIONS],
            "measured": bool(results.cases),
            "experiments": self.experiments,
            "broken": [*tables.broken(results), *broken_experiments(results)],
            "problems": pd.concat([tables.problems_table(results), experiments_problems(results)], ignore_index=True),
            "provenance": facts.items(),
            "notes": results.notes,
        }
        if results.cases:
            content |= {
                "answers": answers(results, self.summary),
                "budgets": budgets(results),
                "reading": READING,
                "reading_rates": READING_RATES,
                "cases": self.cases,
                "rates": tables.rates_table(self.summary),
                "figures": {kind: found for kind in figures.KINDS
                            if (found := [picture for picture in self.pictures if picture.kind == kind])},
                "kinds": figures.KINDS,
                "references": tables.references_table(results),
            }  # fmt: skip
        return content

    @cached_property
    def cases(self) -> list[dict[str, Any]]:
        """The tables of each case, with its name and a caption."""
        return [{
            "name": name,
            "caption": f"{case['dataset']}, {case['algorithm']}, {case['loss']} loss, against {self.results.target(name)}, "
                       f"{_count(len(case['seeds']), 'seed')}",
            "summary": tables.summary_table(self.summary, name, max(case["depths"])),
            "others": tables.other_targets_table(self.results, name),
        } for name, case in self.results.cases.items()]  # fmt: skip


def environment(html: bool, *sides: Results) -> jinja2.Environment:
    """Return the environment of the templates of pages, or of Markdown, about some results; it escapes all they show."""
    loader = jinja2.PackageLoader("pudle.reports")
    made = jinja2.Environment(loader=loader, autoescape=html, undefined=jinja2.StrictUndefined)
    if not html:
        made.finalize = text.markdown
    made.filters.update(cell=text.Cell, backticks=text.markdown_code, markdown_table=text.markdown_table)
    made.filters.update(code=_code, key=_key, breakable=_breakable)
    made.filters["data_uri"] = lambda csv: "data:text/csv;charset=utf-8," + quote(csv, safe=",()=.-_")
    keys = ("dataset", "algorithm", "loss")
    styles = {name: look for side in sides for name, look in looks_of(side).items()}
    cases = {name: {key: str(case[key]) for key in keys} for side in sides for name, case in side.cases.items()}
    script, style = (loader.get_source(made, name)[0] for name in ("script.js", "style.css"))
    # The browser runs a script of this very text and no other, whoever puts it into the page.
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    made.globals |= {
        "version": pudle.__version__,
        "folder": FIGURES,
        "endings": FIGURE_FORMATS,
        "starred": text.STARRED,
        "places": {name: place for place, name in enumerate(styles)},
        "symbols": {name: Markup(symbol(look)) for name, look in styles.items()},
        "script": Markup(script),
        "style": Markup(style),
        "policy": f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; img-src data:; "
        "base-uri 'none'; form-action 'none'",
        # Nothing but `</` could end a script element.
        "facts": Markup(json.dumps(cases, sort_keys=True).replace("<", "\\u003c")),
        "choices": {key: list(dict.fromkeys(case[key] for case in cases.values())) for key in keys},
    }
    return made


def _count(number: int, thing: str) -> str:
    return f"{number} {thing}{'' if number == 1 else 's'}"


def _key(value: Any) -> Markup:
    """Return the attribute that a script sorts a cell by; empty for a cell without a number."""
    key = getattr(value, "key", None)
    return Markup("" if key is None else f' data-key="{key:g}"'.replace('"inf"', '"Infinity"'))


def _code(value: str) -> Markup:
    return Markup(re.sub(r"`([^`]*)`", r"<code>\1</code>", str(escape(value))))


def _breakable(name: str) -> Markup:
    """Allow a line break in a long name after a bracket, an underscore or a comma."""
    return Markup(re.sub(r"([(_,])(?=.)", r"\1<wbr>", str(escape(name))))
