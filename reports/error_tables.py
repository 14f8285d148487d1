"""Errors at some depths as tables of their own: Markdown, CSV, and LaTeX for a paper."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import isnan, nan

import pandas as pd

from pudle import text
from pudle.errors import InvalidArgument
from pudle.reports import markup
from pudle.reports.cells import Shown
from pudle.reports.markup import Table
from pudle.reports.report import CaseTables, Report
from pudle.reports.summary import Spread
from pudle.text import DASH

CAPTION = (
    ". Relative error of the gradient after so many layers, as the median over the seeds, with"
    " their range in brackets. "
)
#: The same in LaTeX, for cases of several seeds and of one.
LATEX_CAPTION = (
    "Relative error of the gradient by depth, the number of layers or of a solver's steps: median"
    " over the seeds, with their range below it; bold: the least of each column."
)
ONE_SEED_CAPTION = (
    "Relative error of the gradient by depth, the number of layers or of a solver's steps; bold:"
    " the least of each column."
)
#: First lines of the LaTeX file.
PREAMBLE = f"% \\usepackage{{booktabs,graphicx}}\n{markup.FIT}"
#: More depths than this need both columns of a page.
ONE_COLUMN = 3
#: A longer name of an estimator has its options on a line of their own.
NAME_LENGTH = 12


@dataclass(frozen=True, eq=False)
class ErrorTable:
    """The errors of every estimator on a case against one target, by depth."""

    case: CaseTables
    target: str
    #: What the case is and what its errors are measured against, see `Report.caption_parts`.
    about_parts: Sequence[str]
    n_seeds: int
    #: By estimator and depth.
    errors: Mapping[str, Mapping[int, Spread]]
    #: What the report says of the case; empty for another target than its first.
    findings: str

    @property
    def about(self) -> str:
        """What the case is, in a sentence without its end."""
        return ", ".join(filter(None, self.about_parts))

    @property
    def depths(self) -> list[int]:
        """The depths at which any estimator has an error."""
        return sorted({depth for row in self.errors.values() for depth in row})

    @property
    def records(self) -> list[dict[str, object]]:
        """The rows of the CSV."""
        return [
            {
                "case": self.case.name,
                "target": self.target,
                "estimator": estimator,
                "depth": depth,
                "median": spread.value,
                "least": spread.low,
                "greatest": spread.high,
            }
            for estimator, row in self.errors.items()
            for depth, spread in row.items()
        ]

    def markdown(self) -> str:
        """Return the table with its title and caption as Markdown."""
        rows: list[dict[str, Shown]] = []
        for estimator, row in self.errors.items():
            cells = {f"{depth}": text.between(*spread) for depth, spread in row.items()}
            rows.append({"estimator": estimator, **cells})
        caption = self.about + CAPTION + self.findings
        table = markup.markdown_table(Table.of(rows))
        return f"## {self.case.label}\n\n{caption}\n\n{table}\n"

    def latex(self, caption: str, label: str) -> str:
        """Return the table in LaTeX for a paper, with caption and label: the least median of a
        depth bold, ranges, where there are several seeds, below medians, and the options of an
        estimator below its name.
        """
        depths = self.depths
        best = {
            depth: min(
                (printed_error(row[depth].value) for row in self.errors.values() if depth in row),
                key=float,
            )
            for depth in depths
        }
        lines = []
        for estimator, row in self.errors.items():
            spreads = [row.get(depth, Spread(nan, nan, nan)) for depth in depths]
            medians = [
                latex_error(spread.value, bold=printed_error(spread.value) == best[depth])
                for depth, spread in zip(depths, spreads, strict=True)
            ]
            name, options = name_lines(estimator)
            lines.append(rf"{name} & {' & '.join(medians)} \\")
            ranges = map(latex_range, spreads) if self.n_seeds > 1 else [""] * len(spreads)
            if options or self.n_seeds > 1:
                lines.append(rf"{options} & {' & '.join(ranges)} \\[2pt]")
        environment = "table" if len(depths) <= ONE_COLUMN else "table*"
        columns = len(depths)
        heading = " & ".join(f"${depth}$" for depth in depths)
        return "\n".join(
            (
                rf"\begin{{{environment}}}[tb]",
                r"\centering\footnotesize",
                rf"\caption{{{markup.latex(caption)}}}",
                rf"\label{{{label}}}",
                r"\smallskip\tabcolsep=3pt",
                r"\pudlefit{%",
                rf"\begin{{tabular}}{{@{{}}l{'r' * columns}@{{}}}}",
                r"\toprule",
                rf" & \multicolumn{{{columns}}}{{c}}{{depth}} \\ \cmidrule(l){{2-{columns + 1}}}",
                rf"estimator & {heading} \\",
                r"\midrule",
                *lines,
                r"\bottomrule",
                r"\end{tabular}}",
                rf"\end{{{environment}}}",
                "",
            )
        )


def printed_error(error: float) -> str:
    """Round an error to the digits that the table in LaTeX prints."""
    return f"{error:.1e}"


def latex_error(error: float, bold: bool = False) -> str:
    """Return an error with two significant digits, as a formula; a dash for NaN."""
    if isnan(error):
        return markup.latex(DASH)
    return rf"$\mathbf{{{latex_digits(error)}}}$" if bold else f"${latex_digits(error)}$"


def latex_digits(error: float) -> str:
    """Return two significant digits: plainly between 0.1 and 1000, else with a power of ten."""
    mantissa, _ = printed_error(error).split("e")
    power = printed_power(error)
    if error == 0:
        return "0"
    return rf"{mantissa}\cdot10^{{{power}}}" if power else plain_digits(error)


def printed_power(error: float) -> int:
    """Return the power of ten that an error is printed with, 0 where it is printed plainly."""
    power = int(printed_error(error).split("e")[1])
    return 0 if error == 0 or -1 <= power <= 2 else power


def plain_digits(error: float) -> str:
    """Return two significant digits without a power of ten."""
    mantissa, exponent = printed_error(error).split("e")
    return f"{float(f'{mantissa}e{exponent}'):.{max(1 - int(exponent), 0)}f}"


def name_lines(estimator: str) -> tuple[str, str]:
    """Return the name of an estimator in LaTeX, and a second line with its options, which is empty
    where the first has room for all or there are none.
    """
    name, bracket, options = estimator.partition("(")
    if len(estimator) <= NAME_LENGTH or not bracket:
        return rf"\texttt{{{markup.latex(estimator)}}}", ""
    below = rf"{{\scriptsize\texttt{{{markup.latex(bracket + options)}}}}}"
    return rf"\texttt{{{markup.latex(name)}}}", below


def latex_range(spread: Spread) -> str:
    """Return the range over the seeds in small type: on one line, or on two if an end has a power
    of ten, which is its own; an empty text if there is no range.
    """
    if isnan(spread.value):
        return ""
    low, high = latex_digits(spread.low), latex_digits(spread.high)
    if printed_power(spread.low) or printed_power(spread.high):
        return rf"\shortstack[r]{{\scriptsize$[{low},$\\\scriptsize${high}]$}}"
    return rf"{{\scriptsize$[{low},\ {high}]$}}"


def error_tables(report: Report, depths: Sequence[int]) -> list[ErrorTable]:
    """Make a table for each case and target; without `depths` all that were measured are shown.

    A depth that no case has is refused (InvalidArgument). A case without any of the depths is left
    out.
    """
    measured = {depth for case in report.results.cases.values() for depth in case.depths}
    if lacking := sorted({*depths} - measured):
        known = ", ".join(map(str, sorted(measured)))
        raise InvalidArgument(
            f"--depths {lacking[0]} was not measured on any case: there are {known}"
        )
    tables = []
    for case in report.by_case:
        if depths and {*depths}.isdisjoint(report.results.cases[case.name].depths):
            continue
        for target in report.results.cases[case.name].targets:
            first = target == report.results.target(case.name)
            tables.append(
                ErrorTable(
                    case,
                    target,
                    report.caption_parts(case.name, target),
                    len(report.results.cases[case.name].seeds),
                    _errors(report, case, target, depths),
                    # The sentences are about the first target.
                    case.findings if first else "",
                )
            )
    return tables


def error_texts(
    report: Report, depths: Sequence[int], caption: str = "", label: str = ""
) -> dict[str, Callable[[], str | bytes]]:
    """Return functions that make the texts of the tables, by format: ``markdown``, ``csv`` and
    ``latex``; see `error_tables`, which is called now. No file is written.

    In LaTeX a `caption` replaces that of each table; where there are several tables, it ends with
    what tells them apart. A `label` replaces its label, which ends with its number where there are
    several tables.
    """
    tables = error_tables(report, depths)

    def latex() -> str:
        """Return all tables in LaTeX after the preamble, with captions and labels of their own
        unless the user gave some.
        """
        parts = [PREAMBLE]
        captions = captions_apart(tables, caption) if caption else map(usual_caption, tables)
        for number, (table, words) in enumerate(zip(tables, captions, strict=True), 1):
            name = re.sub(r"[^A-Za-z0-9:_.-]+", "-", label or "tab:error")
            if len(tables) > 1:
                name += f"-{number}"
            parts.append(table.latex(words, name))
        return "\n".join(parts)

    return {
        "markdown": lambda: "\n".join(table.markdown() for table in tables),
        "csv": lambda: markup.csv(pd.DataFrame([row for table in tables for row in table.records])),
        "latex": latex,
    }


def usual_caption(table: ErrorTable) -> str:
    """Return the caption in LaTeX of a table to which the user gave none."""
    words = LATEX_CAPTION if table.n_seeds > 1 else ONE_SEED_CAPTION
    return f"{words} {table.about}."


def captions_apart(tables: Sequence[ErrorTable], caption: str) -> list[str]:
    """Return the caption for each of some tables: as it is for a single one, else with a sentence
    at its end about what tells the tables apart, such as their losses.
    """
    if len(tables) == 1:
        return [caption]
    by_place = [*zip(*(table.about_parts for table in tables), strict=True)]
    differing = [parts for parts in by_place if len({*parts}) > 1]
    if len({*zip(*differing, strict=True)}) < len(tables):
        # Cases may differ in more than these parts say; no two have the same label.
        differing.insert(0, tuple(table.case.label for table in tables))
    end = "" if caption.endswith((".", "!", "?")) else "."
    return [
        f"{caption}{end} This table: {', '.join(filter(None, parts))}."
        for parts in zip(*differing, strict=True)
    ]


def _errors(
    report: Report, case: CaseTables, target: str, depths: Sequence[int]
) -> dict[str, dict[int, Spread]]:
    """Return median and range of every estimator by depth, at the `depths`, or at all without any;
    an estimator without an error there is left out.
    """
    results = report.results
    errors = {}
    for name in results.estimators:
        curve = results.curve(case.name, name, target=target)
        row = {
            int(depth): Spread(*spread)
            for depth, *spread in curve.spread.tolist()
            if not depths or depth in depths
        }
        if row:
            errors[name] = row
    return errors
