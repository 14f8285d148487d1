"""Cells: the number that each is sorted by, and their escaping for Markdown and LaTeX."""

import math

import pandas as pd
import pytest

from pudle import text
from pudle.reports import markup
from pudle.text import Cell


@pytest.mark.parametrize(
    "cell, shown, key",
    [
        (text.starred(text.seconds(0.103), True), "103 ms*", 0.103),
        (text.memory(6.1 * 2**20), "6.1 MiB", 6.1 * 2**20),
        (
            Cell(text.between(1.1e-12, 1.1e-12, 1.2e-12), details=["at the bound"]),
            "1.1e-12 (1.1e-12 to 1.2e-12), at the bound",
            1.1e-12,
        ),
        (text.number(math.nan), "–", None),
        (text.fixed(1.479, 2, sign="+"), "+1.48", 1.479),
        (text.memory(-3 * 2**10), "-3 KiB", -3 * 2**10),
        (text.percent(0.12), "12%", 12.0),
        (text.numbers([1, 2, 5]), "1, 2, 5", 1),
        (text.numbers(range(6)), "0 ... 5 (6)", 0),
    ],
)
def test_cells_carry_the_number_that_they_show(cell, shown, key):
    assert cell == shown and cell.key == (None if key is None else pytest.approx(key))


def test_markdown_cells_stay_in_their_place():
    frame = pd.DataFrame(
        [{"case": "a|b`", "x": Cell("1*", best=True), "y": "<b> |\nnext"}], dtype=object
    )
    assert markup.markdown_table(frame, code=["case"]).splitlines() == [
        "| case | x | y |",
        "| --- | --- | --- |",
        "| a\\|b\\` | **1\\*** | &lt;b> \\| next |",
    ]


def test_latex_escapes_what_it_would_not_print():
    assert markup.latex("50% of a_b & {c} $d$ #1 ~ ^ \\") == (
        r"50\% of a\_b \& \{c\} \$d\$ \#1 \textasciitilde{} \textasciicircum{} \textbackslash{}"
    )
    assert markup.latex(Cell("T ρ²ᵀ", best=True)) == r"\textbf{T $\rho^{2T}$}"
    assert markup.latex("≤ 3 µs –") == r"$\leq$ 3 $\mu$s --"
