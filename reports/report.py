"""The report of one run in its formats: Markdown, CSV, LaTeX, every figure; and several runs side
by side, of commits, of machines, or of anything else that has results. `page` makes the page.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from math import isnan
from operator import itemgetter
from typing import NamedTuple

from pudle import text
from pudle.answers import ERROR, EXTRAPOLATION, Requirement
from pudle.errors import InvalidArgument
from pudle.measuring.grouping import grouped
from pudle.measuring.naming import GIVEN, word_of
from pudle.paired import LEAST, SIGNIFICANCE
from pudle.reports import markup, tables
from pudle.reports.answers import (
    ProblemAnswer,
    answers,
    answers_table,
    budgets,
    reading_budgets,
    unrolled_sentence,
)
from pudle.reports.cells import Shown
from pudle.reports.figures import cases
from pudle.reports.figures.record import Figure
from pudle.reports.glossary import ABOUT, Meaning, in_words_of, inner_problems, meanings
from pudle.reports.learning.sections import Section, bought, outcome, sections
from pudle.reports.load import COLUMNS, Results, parsed
from pudle.reports.markup import Table
from pudle.reports.recommendation import recommendations
from pudle.reports.summary import BASE, CONFIDENCE, FEWEST_SEEDS, Summary, summarize

#: The legend of the tables of cases: what is explained, and its explanation.
READING = (
    (
        "Error",
        "Relative error of the gradient, as the median over seeds, with the range over the seeds in"
        " brackets. Where an estimator is named as an answer, its error is the greatest over the"
        " seeds.",
    ),
    (
        f"Depth to {text.number(ERROR, 1)}",
        "The least measured depth from which on the error is at most that on every seed, with the"
        " range of the seeds' own in brackets. Fewer layers may do.",
    ),
    (
        f"Time to {text.number(ERROR, 1)}",
        "The least time of the measured depths that reach it. An answer names with it the least of"
        " these depths whose time cannot be told from that one. Each estimator is timed at the"
        " depths of answers as well. Brackets hold the quartiles over rounds, in each of which all"
        " estimators and algorithms of a problem are timed. Time and memory are measured for one"
        " seed.",
    ),
    (
        "*",
        "A time or memory that is estimated, linearly, from those at other depths, up to"
        f" {EXTRAPOLATION:g} times the deepest. Such a time is never called distinguishable, and"
        " such a memory breaks no tie.",
    ),
    (
        "Distinguishable",
        f"Two times differ by more than {LEAST - 1:.0%}, and not by chance. The test is Student's t"
        " on the logarithms of their ratios over the rounds, without the most extreme fifths. Of"
        f" the pairs on this page that it distinguishes, about {SIGNIFICANCE:.0%} may be wrong"
        " (false discovery rate).",
    ),
    ("Torch path", "{torch}"),
    (
        "Gain by kernels",
        "How many times as fast the compiled kernels make an estimator, at the deepest depth that"
        " is timed with them and without. It is about 1 where an estimator uses none.",
    ),
    (
        f"Time / {BASE}",
        "The ratio at the deepest depth at which both are timed, which is named where it is not the"
        " deepest of all. Brackets hold its 95% interval.",
    ),
    (
        "Memory",
        "The peak of the process minus the peak of a process that only holds the problem, and at"
        " least 0: in answers at their depth, in tables of cases at the deepest timed"
        " depth.{memory}",
    ),
    (
        "1 - cosine",
        "Half the squared distance between the two gradients, each divided by its norm. It can"
        " therefore lie far below the rounding of 1.",
    ),
    (
        "Status",
        "Is shown where something was not measured or not certified; a table without it has all.",
    ),
)
#: What of it explains no column, but costs: left out where there are none.
READING_COSTS = {"*", "Distinguishable", "Torch path"}
#: Where kernels take part, and what that means for memory: where problems have codes.
KERNELS = (
    " They run the layers of `ista` and `fista`, forward and in reverse, for every estimator that"
    " asks for these, on plain sparse coding with enough work, codes that are not dense, and little"
    " rounding; and the steps of `active_set` and `coordinate_descent`. All else, as layers of your"
    " own, torch runs."
)
KERNELS_MEMORY = (
    " In reverse mode through all layers, torch keeps every layer, so that memory grows in"
    " proportion to the depth. Compiled kernels keep what is not zero in the codes: with them it"
    " hardly grows; where rounding sends a gradient back to torch, it does."
)
#: What stands for ``{torch}`` there, with times of the torch path in the tables and without.
TORCH = "The same without compiled kernels."
NO_TORCH = (
    "Where compiled kernels take part, times are with them: `pudle run --profile default` measures"
    " those without as well."
)
#: The legend of the table of rates, likewise.
READING_RATES = (
    (
        "Theory",
        "How the error falls with the depth T. ρ, below 1, is the factor by which in the end a"
        " layer shrinks the error of the codes. With ρᵀ, ρ to the power T, a layer shrinks that of"
        " the gradient by ρ, with ρ²ᵀ by ρ². `floor`: the error stays, whatever the depth.",
    ),
    (
        "Rate",
        "The factor by which a layer shrinks the error of the gradient: 0.9 is a tenth less with"
        " each layer. Where the law has a factor T, it is that of error / T. Brackets: the range"
        " over the seeds.",
    ),
    (
        "Depths",
        "The depths that the rate is fitted on. The law holds once all codes have the right signs,"
        " and can be seen until `backprop` is as exact as rounding or the bound allows. Of the"
        " measured depths between the two, the later half is taken.",
    ),
    (
        "Acceleration",
        "How many times as fast the error falls as that of `alternating`, by the slopes of their"
        " logarithms on the same depths; none where that error does not fall. Brackets: the"
        f" {CONFIDENCE:.0%} interval of the mean by Student's t, or the range where there are fewer"
        f" than {FEWEST_SEEDS} seeds, with the median. ρ²ᵀ beside ρᵀ makes 2 in the limit of many"
        " layers; at measured depths it is off by some percent (Ablin, Peyré and Moreau,"
        " Super-efficiency of automatic differentiation, ICML 2020).",
    ),
)
#: What the section on certificates says: of all of them, of limits, and of columns by their names.
CERTIFICATES_ABOUT = (
    "Every error is measured against an exact gradient in float64 with a bound on its own error. No"
    " error is reported as smaller than the bound, and nothing is scored against a reference that"
    " is not certified."
)
READING_LIMITS = (
    "Cases with the badge limit are the exception: they have no exact solver, their reference is"
    " the limit of the iteration with an estimated error, and they are never ranked together with"
    " certified ones."
)
CERTIFICATES_WORST = "Numbers are the worst over seeds."
GRAM = "Condition: that of the worst active Gram matrix."
HESSIAN = "Condition: that of the worst derivative of the inner problem's equations."
READING_CERTIFICATES = {
    "dual margin": (
        "Dual margin and smallest amplitude: how far the nearest atom is from entering or leaving a"
        " code."
    ),
    "rho": (
        "rho, as the median with the range over the seeds: the factor by which each layer in the"
        " end shrinks the error of the codes."
    ),
}
#: What errors are measured against, by target. LaTeX prints the names in brackets as symbols, see
#: `markup.SYMBOLS`.
MEASURED_AGAINST = {
    "exact": "the exact gradient",
    "ghat": "the exact gradient of the lasso loss (ghat)",
    "gstar": (
        "the gradient of the lasso loss with the lasso codes under the generating dictionary"
        " (gstar)"
    ),
    "gtilde": "the gradient of the lasso loss with the generating codes (gtilde)",
    "limit": "the gradient at the algorithm's limit",
}
#: Captions in LaTeX, where a table stands alone.
CAPTION_ANSWERS = (
    f"Which estimator to use: the cheapest with an error of at most {text.number(ERROR, 1)} on"
    " every seed, else the one that comes closest."
)
CAPTION_UNTIMED_ANSWERS = (
    "Which estimator to use: one of least depth with an error of at most"
    f" {text.number(ERROR, 1)} on every seed, else the one that comes closest; nothing was timed."
)
CAPTION_ANSWER_DEPTH = " ≤ before a depth: the error holds from there on, and fewer layers may do."
CAPTION_ANSWER_COSTS = f" Memory: added peak at that depth. {text.STARRED.capitalize()}."
CAPTION_CASE = (
    ". Error: median over the seeds, with their range in brackets; at the bound: the reference"
    " certifies no smaller one. ≤ before a depth: every seed has the error from there on, with the"
    " range of their own depths in brackets."
)
CAPTION_CASE_COSTS = f" Memory: added peak at the deepest timed depth. {text.STARRED.capitalize()}."
CAPTION_COSTS = (
    " Brackets of a time: quartiles over rounds. Measured on {Processor}; threads: {Threads}."
)
CAPTION_RATES = (
    f"Brackets: range over the seeds; of an acceleration over {FEWEST_SEEDS} seeds or more, the"
    f" {CONFIDENCE:.0%} interval of its mean."
)
#: First lines of the LaTeX file: how tables fit, and a cell of several lines.
PREAMBLE = (
    "% \\usepackage{booktabs,graphicx}\n"
    r"\providecommand{\pudlelines}[1]{\vtop{\halign{\strut##\hfil\cr#1\crcr}\vskip2pt}}"
    f"\n{markup.FIT}"
)
#: How a time or a memory is marked that is an estimate: ``12 ms*``.
ESTIMATE = re.compile(r" \w+\*")
#: Folder of the figures' files, beside the Markdown.
FIGURES = "report_figures"


class CaseTables(NamedTuple):
    """What a report says of a case: its name, what a person calls it, a caption, sentences, and
    tables.
    """

    name: str
    label: str
    caption: str
    findings: str
    rows: Sequence[Summary]
    summary: Table


@dataclass(frozen=True, eq=False)
class Report:
    """Everything that a report shows, computed once from the results."""

    results: Results
    #: Formats (svg, pdf, png) in which every figure is written into a file of its own.
    linked: Sequence[str] = ()
    #: The width of these figures in inches, None for that of a screen.
    width: float | None = None

    @cached_property
    def summary(self) -> list[Summary]:
        """The numbers of every estimator on every case."""
        return summarize(self.results)

    @cached_property
    def answers(self) -> list[ProblemAnswer]:
        """Which algorithm and estimator to use for each problem."""
        return answers(self.results)

    @cached_property
    def recommendations(self) -> list[str]:
        """The answers in short, a sentence or two for each outer loss."""
        return recommendations(self.results, self.answers, Requirement())

    @cached_property
    def experiments(self) -> list[Section]:
        """The sections about experiments."""
        return sections(self.results)

    @cached_property
    def problems(self) -> Table:
        """What was skipped, refused or failed, with its reason."""
        return tables.problems_table(self.results)

    @cached_property
    def broken(self) -> list[str]:
        """Estimators and experiments with a measurement that broke."""
        return tables.broken(self.results)

    @cached_property
    def notes(self) -> list[str]:
        """What a reader has to know about the numbers."""
        return [*tables.notes(self.results, self.summary)]

    @cached_property
    def caveats(self) -> list[str]:
        """What a reader should not rely on."""
        return tables.caveats(self.results, self.summary)

    @cached_property
    def facts(self) -> dict[str, str]:
        """Where the numbers come from."""
        return tables.provenance_table(self.results)

    @cached_property
    def meanings(self) -> list[Meaning]:
        """What the names of estimators, algorithms, losses and datasets stand for."""
        return meanings(self.results)

    @cached_property
    def inner_problems(self) -> list[str]:
        """The formulas of the inner problems."""
        return inner_problems(self.results)

    @property
    def about(self) -> str:
        """What the report is about, for a reader who has not met it."""
        return in_words_of(self.results, ABOUT)

    @property
    def reading_rates(self) -> list[tuple[str, str]]:
        """The legend of the table of rates."""
        return [(term, in_words_of(self.results, words)) for term, words in READING_RATES]

    @property
    def title(self) -> str:
        """The question that the report answers."""
        if self.results.cases:
            return "Which gradient estimator to use"
        return "What each gradient learns"

    def markdown(self) -> str:
        """Return the report as Markdown, whose images are the figures' files, where they are
        written in a format for it (svg, else png). Writes no file.
        """
        answered, budget_table = answers_table(self.results, self.answers), budgets(self.results)
        shown = [answered, budget_table, *(case.summary for case in self.by_case)]
        # What no table of the text marks is not explained.
        unmarked = () if any(map(_has_estimates, shown)) else ("*",)
        return markup.render(
            "report.md.j2",
            report=self,
            tables=tables,
            about=self.about,
            reading=[pair for pair in self.reading if pair[0] not in unmarked],
            reading_rates=self.reading_rates,
            answers=answered,
            unrolled=unrolled_sentence(self.results),
            budgets=budget_table,
            reading_budgets=reading_budgets(bool(tables.where_timed(self.results))),
            kinds=cases.KINDS,
            folder=FIGURES,
            image=next((ending for ending in ("svg", "png") if ending in self.linked), ""),
            starred=f"{text.STARRED.capitalize()}.",
            starred_answers=_has_estimates(answered),
            starred_budgets=_has_estimates(budget_table),
        )

    def csv(self) -> str:
        """Return the tidy table as CSV, a row for each number, with the columns of the summary, the
        problem, and whether it is the answer there beside the relative errors; writes no file.
        """
        return "".join(self.csv_parts())

    def csv_parts(self) -> Iterator[str]:
        """Yield the same in parts, of which a large store has more than should be in memory."""
        names, values = self._beside_errors() if self.results.cases else ((), {})
        blank = (None,) * len(names)

        def lines() -> Iterator[Sequence[object]]:
            for row in self.results.rows:
                known: Iterable[object] = row
                if isnan(row.value):
                    known = (row._asdict() | {"value": None}).values()
                is_summarized = row.metric == "relative_error"
                pair = row.case, row.estimator
                yield *known, *(values.get(pair, blank) if is_summarized else blank)

        return markup.csv_parts((*COLUMNS, *names), lines())

    def _beside_errors(self) -> tuple[Sequence[str], Mapping[tuple[str, str], Sequence[object]]]:
        """Return the columns beside the relative errors, by name, and their values by case and
        estimator: the numbers of the summary and, where there are some, the problem and the answer
        there (``best`` or ``best unrolled``).
        """
        (cells,) = tables.summary_cells(self.summary, [ERROR])
        pairs = [(row.case, row.estimator) for row in self.summary]
        columns: dict[str, list[object]] = {
            label: [None if cell.key is None else float(cell.key) for cell in column]
            for label, column in cells.items()
            if label != "status"
        }
        problems = {
            (row.case, row.estimator): label
            for label, measured in self.results.problems
            for row in measured
        }
        answers = {
            (chosen.source.case, chosen.estimator): word
            for row in self.answers
            for word, chosen in (("best unrolled", row.unrolled), ("best", row.best))
            if chosen.source
        }
        for name, values_by_pair in (("problem", problems), ("answer", answers)):
            if values_by_pair:
                columns[name] = [values_by_pair.get(pair) for pair in pairs]
        values = dict(zip(pairs, zip(*columns.values(), strict=True), strict=True))
        return [*columns], values

    def latex(self) -> str:
        """Return answers, the summary of each case, rates, and the tables of experiments as LaTeX,
        with captions and labels, for a document that loads booktabs and graphicx. Writes no file.
        """
        parts, profile = [PREAMBLE], self.results.profile
        if self.results.cases:
            is_timed = bool(tables.where_timed(self.results))
            costs = CAPTION_COSTS.format_map(defaultdict(str, self.facts))
            without = ["why"] if is_timed else ["why", "time", "memory"]
            chosen = answers_table(self.results, self.answers).without(*without)
            caption = CAPTION_ANSWERS if is_timed else CAPTION_UNTIMED_ANSWERS
            caption += CAPTION_ANSWER_DEPTH + (CAPTION_ANSWER_COSTS + costs) * is_timed
            parts.append(markup.latex_table(chosen, caption, f"tab:answers-{profile}"))
            for case in self.by_case:
                table = case.summary.without(f"time / {BASE}", "status")
                caption = case.caption + CAPTION_CASE + (CAPTION_CASE_COSTS + costs) * is_timed
                parts.append(markup.latex_table(table, caption, f"tab:{case.name}"))
            for case in self.by_case:
                rates = tables.rates_table(self.results, case.rows)
                if rates.rows:
                    caption = f"Fitted and predicted rates on {case.label}. {CAPTION_RATES}"
                    rates = rates.without("case", "remark")
                    parts.append(markup.latex_table(rates, caption, f"tab:rates-{case.label}"))
        for section in self.experiments:
            captioned = [pair for block in section.blocks for pair in block.tables]
            for number, (table, caption) in enumerate(captioned, 1):
                label = f"tab:{section.study.anchor}-{number}-{profile}"
                parts.append(markup.latex_table(table, caption, label))
        return "\n".join(parts)

    def figure_files(self) -> Iterator[tuple[str, bytes]]:
        """Yield the name and the content of each file of figures: every figure in each of this
        report's formats, `linked`, and its data as CSV; nothing if there are no formats.

        A figure is drawn when its files are asked for. No file is written.
        """
        if self.linked:
            blocks = [block for section in self.experiments for block in section.blocks]
            figures = self.pictures + [figure for block in blocks for figure in block.pictures]
            if self.results.cases:
                figures.append(cases.overview(self.results, self.summary))
            figures += bought(self.results)
            for figure in figures:
                yield from figure.files((*self.linked, "csv"), self.width)

    @cached_property
    def pictures(self) -> list[Figure]:
        """The figures about cases, which are drawn when they are written."""
        return cases.figures(self.results, self.summary) if self.results.cases else []

    @property
    def reading(self) -> list[tuple[str, str]]:
        """The legend of the tables of cases: of the columns that any of them shows, and of costs if
        there are some.
        """
        torch = TORCH if any(row.torch.measured for row in self.summary) else NO_TORCH
        kernels, memory = (KERNELS, KERNELS_MEMORY) if self.results.has_codes else ("", "")
        labels = [label.lower() for label in tables.summary_table(self.summary).columns]

        def is_shown(term: str) -> bool:
            if term in READING_COSTS:
                return bool(self.results.costs)
            return any(label.startswith(term.lower()) for label in labels)

        return [
            (term, explanation.format(torch=torch + kernels, memory=memory))
            for term, explanation in READING
            if is_shown(term)
        ]

    @property
    def reading_certificates(self) -> str:
        """How to read the certificates: what all have, and the columns that are shown."""
        columns = tables.certificates_table(self.results).columns
        limits = READING_LIMITS if any(map(self.results.badge, self.results.cases)) else ""
        of_columns = [words for name, words in READING_CERTIFICATES.items() if name in columns]
        condition = GRAM if "dual margin" in columns else HESSIAN
        sentences = [CERTIFICATES_ABOUT, limits, CERTIFICATES_WORST, condition, *of_columns]
        return in_words_of(self.results, " ".join(filter(None, sentences)))

    @property
    def subtitle(self) -> str:
        """What the report rests on, and where it was measured."""
        facts = self.facts
        where = facts["Newest record"][:10], facts["Processor"], facts.get("Device", "")
        origin = [f"Profile {self.results.profile}", *where, f"commit {facts['Commit']}"]
        return f"{tables.scope(self.results)} {', '.join(filter(None, origin))}."

    def caption(self, name: str, target: str) -> str:
        """Describe a case and the reference of its errors."""
        return ", ".join(filter(None, self.caption_parts(name, target)))

    def caption_parts(self, name: str, target: str) -> Sequence[str]:
        """Return the parts of a caption: dataset, algorithm, loss, target, number of seeds, and
        whether the scores are against a limit, which is empty where they are not.
        """
        case = self.results.cases[name]
        dataset = case.dataset if parsed(case.dataset)[0] != GIVEN else word_of(case.dataset)
        # A target that is the limit says so itself.
        is_limit = self.results.badge(name) and target != "limit"
        return (
            dataset,
            case.algorithm,
            f"{case.loss} loss",
            f"against {MEASURED_AGAINST[target]}",
            text.count(len(case.seeds), "seed"),
            "scored against a limit" if is_limit else "",
        )

    @cached_property
    def by_case(self) -> list[CaseTables]:
        """The tables of each case."""
        case_tables = []
        for name in self.results.cases:
            rows = [row for row in self.summary if row.case == name]
            case_tables.append(
                CaseTables(
                    name=name,
                    label=self.results.labels[name],
                    caption=self.caption(name, self.results.target(name)),
                    findings=tables.findings(rows),
                    rows=rows,
                    summary=tables.summary_table(rows),
                )
            )
        return case_tables


def _has_estimates(table: Table) -> bool:
    """Tell whether a table marks some time or memory with *, as an estimate."""
    return any(ESTIMATE.search(str(cell)) for row in table.rows for cell in row)


# -- several runs

#: Reports by the names that the user gave them.
Reports = Mapping[str, Report]
RUNS_READING = (
    "The numbers of every run stand below each other, on the cases of the first. Times from two"
    " machines say little about the code. These tables describe; pudle compare judges."
)


@dataclass(frozen=True, eq=False)
class Runs:
    """Several reports by the names that the user gave them; refused if some run has nothing in
    common with the first.
    """

    reports: Reports

    def __post_init__(self) -> None:
        held = {
            name: [*report.results.cases, *(record.name for record in report.results.experiments)]
            for name, report in self.reports.items()
        }
        (first, first_names), *_ = held.items()
        for name, names in held.items():
            if set(names).isdisjoint(first_names):
                raise InvalidArgument(
                    "these results have no case and no experiment in common:"
                    f" {first} holds {tables.some(first_names)} and {name} holds"
                    f" {tables.some(names)}"
                )

    @property
    def problems(self) -> Table:
        """What was skipped, refused or failed in any run."""
        rows = [
            row | {"run": name}
            for name, report in self.reports.items()
            for row in report.problems.records
        ]
        return Table.of(rows)

    @property
    def overview(self) -> Table:
        """One row per run, with where its numbers come from."""
        return Table.of([{"run": name} | report.facts for name, report in self.reports.items()])

    @property
    def numbers(self) -> Table:
        """The summaries of the first run's cases, one row per case, estimator and run."""
        (_, first), *_ = self.reports.items()
        rows: list[dict[str, Shown]] = [
            {"case": tables.case_cell(report.results, case.name), "run": name, **row}
            for name, report in self.reports.items()
            for case in report.by_case
            if case.name in first.results.cases
            for row in case.summary.records
        ]
        return _beside(rows, "case", "estimator")

    @property
    def experiments(self) -> Table:
        """What the experiments of every run led to; the status says where options or images are not
        those of the first run.
        """
        (_, first), *_ = self.reports.items()
        known = {record.name: record for record in first.results.experiments}
        rows: list[dict[str, Shown]] = [
            {
                "experiment": record.name,
                "run": name,
                **outcome(record, known.get(record.name, record)),
            }
            for name, report in self.reports.items()
            for record in report.results.experiments
        ]
        return _beside(rows, "experiment")


def _beside(rows: Sequence[Mapping[str, Shown]], *names: str) -> Table:
    """Return rows as a table in which those that agree in the columns `names` follow each other, in
    the order of their first appearance.
    """
    same = grouped(rows, itemgetter(*names))
    return Table.of([*chain.from_iterable(same.values())])
