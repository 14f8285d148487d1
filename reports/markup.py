"""Text, numbers and tables as Markdown, LaTeX and CSV; each escapes what it shows in one place."""

import re
from collections.abc import Collection
from typing import Any

import jinja2
import pandas as pd

from pudle.text import DASH, Cell

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


class Markdown(str):
    """Text that is Markdown already and is not escaped again."""


def markdown(value: Any) -> Markdown:
    """Return a value as Markdown that shows it: all is escaped but code, and the best cell of a
    column is bold.
    """
    if isinstance(value, Markdown):
        return value
    parts = CODE.split(" ".join(str(value).split()))
    parts[::2] = [part.translate(MARKDOWN) for part in parts[::2]]
    parts[1::2] = [part.replace("|", "\\|") for part in parts[1::2]]
    shown = "".join(parts)
    return Markdown(f"**{shown}**" if getattr(value, "best", False) else shown)


def markdown_code(value: Any) -> Markdown:
    """Return a value as code, or as plain text where code could not hold it."""
    shown = " ".join(str(value).split())
    return markdown(f"`{shown}`" if CODE.fullmatch(f"`{shown}`") else shown)


def markdown_table(frame: pd.DataFrame, code: Collection[str] = ()) -> Markdown:
    """Return a table as Markdown, with the cells of the columns `code` as code."""
    makers = [markdown_code if name in code else markdown for name in frame]
    rows = [
        [make(value) for make, value in zip(makers, row, strict=True)]
        for row in frame.itertuples(index=False)
    ]
    lines = [map(markdown, frame), ["---"] * len(makers), *rows]
    return Markdown("\n".join(f"| {' | '.join(line)} |" for line in lines))


def render(template: str, **content: Any) -> str:
    """Return a text of a template, in which all that is no Markdown is shown as it is."""
    made = jinja2.Environment(
        loader=jinja2.PackageLoader("pudle.reports"),
        undefined=jinja2.StrictUndefined,
        finalize=markdown,
    )
    made.filters |= {"backticks": markdown_code, "markdown_table": markdown_table}
    return made.get_template(template).render(content).strip() + "\n"


def csv(frame: pd.DataFrame, **options: Any) -> str:
    """Return a table as CSV, with an apostrophe before text that a spreadsheet would take for a
    formula.
    """
    texts = frame.select_dtypes(exclude=["number", "bool"]).map(_not_a_formula)
    shown = frame.assign(**texts).rename(columns=_not_a_formula)
    return shown.to_csv(index=False, lineterminator="\n", **options)


def _not_a_formula(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


def latex(value: Any) -> str:
    """Escape a value for LaTeX: details of a cell get lines of their own, and the best cell of a
    column is bold.
    """
    if details := getattr(value, "details", ()):
        lines = map(latex, (Cell(value.head, best=value.best), *details))
        return rf"\pudlelines{{{NEXT_LINE.join(lines)}}}"
    shown = str(value).translate(LATEX).replace("ρ²ᵀ", r"$\rho^{2T}$").replace("ρᵀ", r"$\rho^T$")
    return rf"\textbf{{{shown}}}" if getattr(value, "best", False) else shown


def latex_table(frame: pd.DataFrame, caption: str, label: str) -> str:
    """Return a table as LaTeX that is no wider than a line."""
    shown = frame.map(latex).rename(columns=latex)
    made = shown.to_latex(
        index=False,
        caption=latex(caption),
        label=re.sub(r"[^A-Za-z0-9:_.-]+", "-", label),
        position="htbp",
        column_format="l" * frame.shape[1],
    )
    made = made.replace(
        r"\begin{tabular}", "\\par\\smallskip\\footnotesize\n\\pudlefit{%\n\\begin{tabular}"
    )
    return made.replace(r"\end{tabular}", r"\end{tabular}}")
