"""Text of numbers and of table cells, and its escaping for Markdown, LaTeX and CSV."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np
import pandas as pd

DASH = "–"
STARRED = "* extrapolated beyond the measured depths"
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


class Cell(str):
    """Text of a table cell, with what a table needs to know beyond the text."""

    #: Text without the details, which are remarks at its end that a page shows on lines of their
    #: own.
    head: str
    details: tuple[str, ...]
    #: Number to sort the cell by: infinite for "not reached", None where the text holds no number.
    key: float | None
    #: Estimator that the cell is about; empty if there is none.
    estimator: str
    #: Whether no other cell of its column is better.
    best: bool

    def __new__(
        cls,
        value: str,
        estimator: str = "",
        best: bool = False,
        key: float | None = None,
        details: Sequence[str] = (),
    ) -> Cell:
        """Make a cell; what is not given is taken over from `value`, where that is a cell."""
        added = "".join(
            f" {detail}" if detail.startswith("(") else f", {detail}" for detail in details
        )
        cell = super().__new__(cls, f"{value}{added}")
        cell.head = getattr(value, "head", str(value))
        cell.details = (*getattr(value, "details", ()), *details)
        cell.key = getattr(value, "key", None) if key is None else key
        cell.estimator = estimator or getattr(value, "estimator", "")
        cell.best = best or getattr(value, "best", False)
        return cell


def number(value: float, digits: int = 2) -> Cell:
    """Return a number with a few significant digits: ``0.83``, ``1.5e-15``."""
    if value is None or math.isnan(value):
        return Cell(DASH)
    if value == 0 or 0.01 <= abs(value) < 1e4:
        shown = f"{value:.{digits}g}"
        return Cell(f"{float(shown):.0f}" if "e" in shown else shown, key=value)
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    return Cell(f"{mantissa}e{int(exponent)}", key=value)


def fixed(value: float, digits: int, unit: str = "", sign: str = "") -> Cell:
    """Return a number with a fixed number of decimals: ``0.9500``, ``12%``; with its sign if `sign`
    is ``+``.
    """
    return Cell(DASH) if math.isnan(value) else Cell(f"{value:{sign}.{digits}f}{unit}", key=value)


def percent(share: float, digits: int = 2) -> Cell:
    """Return a share in percent with a few significant digits."""
    return (
        Cell(DASH)
        if math.isnan(share)
        else Cell(f"{number(100 * share, digits)}%", key=100 * share)
    )


def starred(shown: Cell, extrapolated: bool) -> Cell:
    """Mark a value that is extrapolated beyond the measured depths."""
    return Cell(f"{shown}*", key=shown.key) if extrapolated and shown != DASH else shown


def seconds(value: float) -> Cell:
    """Return a duration with its unit."""
    return _scaled(value, ((1.0, "s"), (1e-3, "ms"), (1e-6, "µs")))


def memory(value: float) -> Cell:
    """Return a number of bytes with its unit."""
    return _scaled(value, ((2.0**30, "GiB"), (2.0**20, "MiB"), (2.0**10, "KiB")))


def _scaled(value: float, units: Sequence[tuple[float, str]]) -> Cell:
    if value is None or math.isnan(value):
        return Cell(DASH)
    size, unit = next(((size, unit) for size, unit in units if abs(value) >= size), units[-1])
    return Cell(f"{number(value / size, 3)} {unit}", key=value)


def between(
    middle: float,
    low: float,
    high: float,
    show: Callable[[float], str] = number,
    shown: str | None = None,
) -> Cell:
    """Return a middle value, as it is `shown`, with its interval, left out where unknown or where
    both ends look like it.
    """
    if math.isnan(middle):
        return Cell(DASH)
    value, least, greatest = show(middle), show(low), show(high)
    details = () if math.isnan(low) or least == greatest == value else (f"({least} to {greatest})",)
    return Cell(value if shown is None else shown, key=middle, details=details)


def listing(words: Sequence[str]) -> str:
    """Join words as in a sentence: ``a, b and c``."""
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def numbers(values: Sequence[int]) -> Cell:
    """Return whole numbers in short: ``1, 2, 5`` for up to five of them, else ``1 ... 600 (14)``."""
    values = sorted(set(values))
    if len(values) <= 5:
        return Cell(", ".join(map(str, values)), key=min(values, default=None))
    return Cell(f"{values[0]} ... {values[-1]}", key=values[0], details=(f"({len(values)})",))


# -- Markdown, LaTeX and CSV: each escapes at one place whatever it shows


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
    frame: pd.DataFrame, caption: str, label: str, columns: str = "", size: str = r"\small"
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
