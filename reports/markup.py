"""Text, numbers and tables as Markdown, LaTeX and CSV; each escapes what it shows in one place."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from csv import writer
from dataclasses import dataclass
from itertools import chain, islice

import jinja2
import pandas as pd

from pudle.reports.cells import Cell, Shown, is_blank
from pudle.text import DASH

#: Characters that LaTeX does not print as they are.
LATEX = str.maketrans(
    {
        **{character: f"\\{character}" for character in "&%$#_{}"},
        "\\": r"\textbackslash{}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        "≤": r"$\leq$",
        "µ": r"$\mu$",
        DASH: "--",
    }
)
#: What LaTeX prints as a formula: powers of a rate, and the names of targets in brackets.
SYMBOLS = {
    "ρ²ᵀ": r"$\rho^{2T}$",
    "ρᵀ": r"$\rho^T$",
    "(ghat)": r"($\hat g$)",
    "(gstar)": r"($g^*$)",
    "(gtilde)": r"($\tilde g$)",
}
#: What ends a line of a cell of several.
NEXT_LINE = r"\cr "
#: Characters that Markdown, the HTML in it, or the site with its roles and formulas does not show
#: as they are.
MARKDOWN = str.maketrans(
    {"&": "&amp;", "<": "&lt;", **{character: f"\\{character}" for character in "\\`*|[]{$"}}
)
#: Code in a sentence: a backslash in it, or another backtick beside it, could end it elsewhere.
CODE = re.compile(r"(?<!`)(`[^`\\]+`)(?!`)")
#: First characters of a formula: a spreadsheet would compute it instead of showing the text.
FORMULA = ("=", "+", "-", "@", "\t", "\r")


#: Columns that are left out where they say nothing in any row, and which cells say nothing.
EMPTY: Mapping[str, Callable[[Shown], bool]] = {
    "status": lambda cell: str(cell) in ("ok", "certified"),
    "target": lambda cell: str(cell) == "exact",
    "reason": lambda cell: not str(cell),
    "remark": lambda cell: not str(cell),
    "all-zero codes": lambda cell: is_blank(cell) or getattr(cell, "key", None) == 0,
    "uncertified samples": lambda cell: is_blank(cell) or getattr(cell, "key", None) == 0,
}
#: A LaTeX command for a table that is scaled down to its place where it is wider than that.
FIT = (
    r"\providecommand{\pudlefit}[1]{\sbox0{#1}"
    r"\ifdim\wd0>\linewidth\resizebox{\linewidth}{!}{\usebox0}\else\usebox0\fi}"
)


@dataclass(frozen=True)
class Table:
    """A table of texts and cells by its columns."""

    columns: Mapping[str, Sequence[Shown]]

    @classmethod
    def of(cls, rows: Sequence[Mapping[str, Shown]], names: Sequence[str] = ()) -> Table:
        """Return rows as a table, with the columns `names`, by default all that any row has, in the
        order of their first appearance; what a row lacks is a dash.
        """
        names = names or [*dict.fromkeys(chain.from_iterable(rows))]
        return cls({name: [row.get(name, DASH) for row in rows] for name in names})

    @property
    def rows(self) -> Sequence[Sequence[Shown]]:
        """The cells, row by row."""
        return [*zip(*self.columns.values(), strict=True)]

    @property
    def records(self) -> list[dict[str, Shown]]:
        """The rows as mappings from columns to cells."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]

    def concise(self) -> Table:
        """Return the table without the columns of `EMPTY` that say nothing in any row, such as a
        status that is always ``ok``.
        """
        said = {
            name: cells
            for name, cells in self.columns.items()
            if name not in EMPTY or not all(map(EMPTY[name], cells))
        }
        return Table(said)

    def without(self, *names: str) -> Table:
        """Return the table without some columns."""
        columns = self.columns.items()
        return Table({name: cells for name, cells in columns if name not in names})


class Markdown(str):
    """Text that is Markdown already and is not escaped again."""


def markdown(value: object) -> Markdown:
    """Return a value as Markdown that shows it on one line: all is escaped but code, and the best
    cell of a column is bold. What is `Markdown` already stays as it is.
    """
    if isinstance(value, Markdown):
        return value
    parts = CODE.split(" ".join(str(value).split()))
    parts[::2] = [part.translate(MARKDOWN) for part in parts[::2]]
    parts[1::2] = [part.replace("|", "\\|") for part in parts[1::2]]
    escaped = "".join(parts)
    return Markdown(f"**{escaped}**" if isinstance(value, Cell) and value.best else escaped)


def markdown_code(value: object) -> Markdown:
    """Return a value as code, or as plain text where code could not hold it."""
    words = " ".join(str(value).split())
    return markdown(f"`{words}`" if CODE.fullmatch(f"`{words}`") else words)


def markdown_table(table: Table, code: Collection[str] | None = None) -> Markdown:
    """Return a table as Markdown, without columns that say nothing (`Table.concise`), with the
    cells of the columns `code` as code, by default those of the first.
    """
    table = table.concise()
    code = [*table.columns][:1] if code is None else code
    makers = [markdown_code if name in code else markdown for name in table.columns]
    rows = [[make(cell) for make, cell in zip(makers, row, strict=True)] for row in table.rows]
    lines = [map(markdown, table.columns), ["---"] * len(makers), *rows]
    return Markdown("\n".join(f"| {' | '.join(line)} |" for line in lines))


def render(template: str, **content: object) -> str:
    """Return the text of a template of this package, in which all that is no `Markdown` is escaped;
    a name in the template that `content` lacks is an error.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("pudle.reports"),
        undefined=jinja2.StrictUndefined,
        finalize=markdown,
    )
    environment.filters |= {"backticks": markdown_code, "markdown_table": markdown_table}
    return environment.get_template(template).render(content).strip() + "\n"


def csv(frame: pd.DataFrame, float_format: str | None = None, header: bool = True) -> str:
    """Return a table as CSV, with an apostrophe before text that a spreadsheet would take for a
    formula.
    """
    texts = {
        # Most texts repeat.
        name: column.map({value: _not_a_formula(value) for value in column.unique()})
        for name, column in frame.select_dtypes(exclude=["number", "bool"]).items()
    }
    safe_frame = frame.assign(**texts).rename(columns=_not_a_formula)
    csv_text: str = safe_frame.to_csv(
        index=False, header=header, lineterminator="\n", float_format=float_format
    )
    return csv_text


#: Rows of a table that are one part of its text.
CSV_ROWS = 10_000


def csv_parts(names: Sequence[str], rows: Iterable[Sequence[object]]) -> Iterator[str]:
    """Yield the parts of a table as CSV, as `csv` writes it; None is empty.

    A frame of all rows would take ten times the memory of the text, and five times the time.
    """
    safe_texts, remaining = _SafeTexts(), iter(rows)
    lines: list[Sequence[object]] = [names]
    while lines:
        buffer = io.StringIO()
        writer(buffer, lineterminator="\n").writerows(
            [safe_texts[value] if isinstance(value, str) else value for value in line]
            for line in lines
        )
        yield buffer.getvalue()
        lines = [*islice(remaining, CSV_ROWS)]


class _SafeTexts(dict[str, object]):
    """What is written for each text, see `csv`; most texts of a table repeat."""

    def __missing__(self, text: str) -> object:
        self[text] = _not_a_formula(text)
        return self[text]


def _not_a_formula(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


def latex(value: Shown) -> str:
    """Return a value escaped for LaTeX: details of a cell get lines of their own, and the best cell
    of a column is bold, as are the algorithm and the ties of an answer.
    """
    cell = value if isinstance(value, Cell) else Cell(value)
    if cell.details:
        # The algorithm of the best pair, and what ties with it, are bold as well; remarks are not.
        other_lines = [
            latex(Cell(line, best=cell.best and line.startswith(("with ", "or "))))
            for line in cell.details
        ]
        lines = [latex(Cell(cell.text, best=cell.best)), *other_lines]
        return rf"\pudlelines{{{NEXT_LINE.join(lines)}}}"
    escaped = re.sub("`([^`]+)`", r"\\texttt{\1}", cell.text.translate(LATEX))
    for name, symbol in SYMBOLS.items():
        escaped = escaped.replace(name, symbol)
    return rf"\textbf{{{escaped}}}" if cell.best else escaped


def latex_table(table: Table, caption: str, label: str) -> str:
    """Return a table as LaTeX that is no wider than a line, by the command `FIT`, which a preamble
    must define; caption and cells are escaped, and what a label may not hold becomes hyphens.
    """
    escaped_columns = {latex(name): [*map(latex, cells)] for name, cells in table.columns.items()}
    tabular: str = pd.DataFrame(escaped_columns).to_latex(
        index=False,
        caption=latex(caption),
        label=re.sub(r"[^A-Za-z0-9:_.-]+", "-", label),
        position="htbp",
        column_format="l" * len(table.columns),
    )
    tabular = tabular.replace(
        r"\begin{tabular}",
        "\\par\\smallskip\\footnotesize\\tabcolsep=3pt\n\\pudlefit{%\n\\begin{tabular}",
    )
    return tabular.replace(r"\end{tabular}", r"\end{tabular}}")
