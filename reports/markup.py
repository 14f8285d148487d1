"""Text, numbers and tables as Markdown, LaTeX and CSV; each escapes what it shows in one place."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

import numpy as np
import pandas as pd

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
#: Characters that Markdown, or the HTML in it, does not show as they are.
MARKDOWN = str.maketrans(
    {"&": "&amp;", "<": "&lt;", **{character: f"\\{character}" for character in "\\`*|[]"}}
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
    shown = "".join(
        part.replace("|", "\\|") if odd % 2 else part.translate(MARKDOWN)
        for odd, part in enumerate(parts)
    )
    return Markdown(f"**{shown}**" if getattr(value, "best", False) else shown)


def markdown_code(value: Any) -> Markdown:
    """Return a value as code, or as plain text where code could not hold it."""
    shown = " ".join(str(value).split())
    return markdown(f"`{shown}`" if CODE.fullmatch(f"`{shown}`") else shown)


def markdown_table(frame: pd.DataFrame, code: Collection[str] = ()) -> Markdown:
    """Return a table as Markdown, with the cells of the columns `code` as code."""
    shown = frame.apply(
        lambda column: column.map(markdown_code if column.name in code else markdown)
    ).to_numpy(dtype=object)
    lines = [map(markdown, frame), ["---"] * frame.shape[1], *shown]
    return Markdown("\n".join(f"| {' | '.join(line)} |" for line in lines))


def csv(frame: pd.DataFrame, **options: Any) -> str:
    """Return a table as CSV, with an apostrophe before text that a spreadsheet would take for a
    formula.
    """
    texts = {
        name: _plain(column)
        for name, column in frame.select_dtypes(exclude=["number", "bool"]).items()
    }
    return (
        frame.assign(**texts)
        .rename(columns=_not_a_formula)
        .to_csv(index=False, lineterminator="\n", **options)
    )


def _plain(column: pd.Series) -> pd.Series:
    # A long table has few different texts.
    codes, texts = pd.factorize(column, use_na_sentinel=False)
    return pd.Series(
        np.array([_not_a_formula(value) for value in texts], dtype=object)[codes],
        index=column.index,
    )


def _not_a_formula(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


def latex(value: Any) -> str:
    """Escape a value for LaTeX; the best cell of a column is bold."""
    shown = str(value).translate(LATEX).replace("ρ²ᵀ", r"$\rho^{2T}$").replace("ρᵀ", r"$\rho^T$")
    return rf"\textbf{{{shown}}}" if getattr(value, "best", False) else shown


def latex_table(
    frame: pd.DataFrame, caption: str, label: str, columns: str = "", size: str = r"\footnotesize"
) -> str:
    """Return a table as LaTeX that is no wider than a line, its first column left-aligned and the
    others right-aligned.

    `columns` changes this alignment, and `size` is the command for the size of the font.
    """
    label = re.sub(r"[^A-Za-z0-9:_.-]+", "-", label)
    made = (
        frame.map(latex)
        .rename(columns=latex)
        .to_latex(
            index=False,
            escape=False,
            caption=latex(caption),
            label=label,
            position="htbp",
            column_format=columns or "l" + "r" * (frame.shape[1] - 1),
        )
    )
    made = made.replace(r"\begin{tabular}", f"{size}\n\\pudlefit{{%\n\\begin{{tabular}}")
    return made.replace(r"\end{tabular}", r"\end{tabular}}")
