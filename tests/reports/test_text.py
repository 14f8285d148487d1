"""Cells: the number that each is sorted by, and their escaping for Markdown and LaTeX."""

import dataclasses
import math
from functools import partial

import pytest

from pudle import text
from pudle.answers import Cost
from pudle.reports import markup
from pudle.reports.cells import (
    Cell,
    cost_cell,
    interval_cell,
    number_cell,
    numbers_cell,
    percent_cell,
)


@pytest.mark.parametrize(
    "cell, shown, key",
    [
        (cost_cell(Cost(0.103, estimated=True), text.seconds), "103 ms*", 0.103),
        (
            interval_cell(1.1e-12, 1.1e-12, 1.2e-12).with_details("at the bound"),
            "1.1e-12 (1.1e-12 to 1.2e-12), at the bound",
            1.1e-12,
        ),
        (interval_cell(3.0, 3.0, 3.0), "3", 3.0),
        (interval_cell(3.0, 2.0, 4.0, middle_text="≤ 3"), "≤ 3 (2 to 4)", 3.0),
        (interval_cell(3.0, math.nan, math.nan), "3", 3.0),
        (interval_cell(math.nan, 1.0, 2.0), "–", None),
        (number_cell(math.nan), "–", None),
        (number_cell(1.479, partial(text.fixed, digits=2, sign="+")), "+1.48", 1.479),
        (number_cell(-3 * 2**10, text.memory), "-3 KiB", -3 * 2**10),
        (percent_cell(0.125), "12%", 12.5),
        (percent_cell(math.nan), "–", None),
        (numbers_cell([1, 2, 5]), "1, 2, 5", 1),
        (numbers_cell(range(6)), "0 ... 5 (6)", 0),
    ],
)
def test_cells_carry_the_number_that_they_show(cell, shown, key):
    assert str(cell) == shown and cell.key == (None if key is None else pytest.approx(key))


def test_a_cell_keeps_what_it_knows_as_details_and_a_mark_are_added():
    cell = Cell("T", key=2.0, estimator="backprop", case="name")
    changed = cell.with_details("(1 to 3)", "at the bound").with_mark(best=True)
    assert changed == Cell("T", ("(1 to 3)", "at the bound"), 2.0, "backprop", True, "name")
    assert cell.with_details() is cell and cell.with_mark(best=False) is cell
    with pytest.raises(dataclasses.FrozenInstanceError):
        cell.text = "other"


def test_numbers_as_text_are_plain_text():
    """A text that looks like one and knows more loses it in the first sentence."""
    written = [text.number(1.5), text.seconds(2.0), text.between(1.0, 0.5, 2.0), text.numbers([1])]
    assert {type(value) for value in written} == {str}


def test_latex_escapes_what_it_would_not_print():
    assert markup.latex("50% of a_b & {c} $d$ #1 ~ ^ \\") == (
        r"50\% of a\_b \& \{c\} \$d\$ \#1 \textasciitilde{} \textasciicircum{} \textbackslash{}"
    )
    cell = Cell("T ρ²ᵀ", ("(0)",), best=True)
    assert markup.latex(cell) == r"\pudlelines{\textbf{T $\rho^{2T}$}\cr (0)}"
    assert markup.latex("≤ 3 µs –") == r"$\leq$ 3 $\mu$s --"
