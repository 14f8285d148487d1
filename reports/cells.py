"""Cells of tables, made of the numbers and records that answers and summaries compute."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from math import isnan

from pudle import text
from pudle.answers import Answer, Cost, Measured, Point
from pudle.sentences import shortened_ties
from pudle.text import DASH

#: Writes a number.
Show = Callable[[float], str]


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of a table: its text, and what a table needs to know beyond it."""

    #: Without the details.
    text: str
    #: Remarks at its end, which a page shows on lines of their own.
    details: tuple[str, ...] = ()
    #: Number to sort the cell by: infinite for "not reached", None where the text holds no number.
    key: float | None = None
    #: Estimator that the cell is about; empty if there is none.
    estimator: str = ""
    #: Whether no other cell of its column is better.
    best: bool = False
    #: Name of the case that the text stands for; empty if it is the text.
    case: str = ""

    @property
    def tail(self) -> str:
        """The details as they follow the text on one line."""
        return "".join(
            f" {line}" if line.startswith(("(", "with ", "or ")) else f", {line}"
            for line in self.details
        )

    def __str__(self) -> str:
        """Return the text with its details."""
        return self.text + self.tail

    def with_details(self, *details: str) -> Cell:
        """Return the cell with more details."""
        return replace(self, details=(*self.details, *details)) if details else self

    def with_mark(self, best: bool) -> Cell:
        """Return the cell, marked if no other cell of its column is better."""
        return replace(self, best=True) if best else self


#: What a table holds: cells, and texts where nothing else needs to be known.
Shown = str | Cell


def is_blank(shown: Shown) -> bool:
    """Tell whether nothing is known."""
    return str(shown) == DASH


def number_cell(value: float, show: Show = text.number) -> Cell:
    """Show a number, by which the cell is sorted."""
    shown = show(value)
    return Cell(shown, key=None if shown == DASH else value)


def percent_cell(share: float) -> Cell:
    """Show a share in percent."""
    shown = text.percent(share)
    return Cell(shown, key=None if shown == DASH else 100 * share)


def numbers_cell(values: Sequence[int]) -> Cell:
    """Show whole numbers in short, with their count where some are left out; the least is what the
    cell is sorted by.
    """
    listed, count = text.shortened(values)
    return Cell(listed, (f"({count})",) if count else (), min(values, default=None))


def interval_cell(
    middle: float, low: float, high: float, show: Show = text.number, middle_text: str = ""
) -> Cell:
    """Show a middle value, perhaps as another text, with its interval, see `text.ends`; a dash
    where the middle is NaN.
    """
    if isnan(middle):
        return Cell(DASH)
    ends = text.ends(middle, low, high, show)
    return Cell(middle_text or show(middle), (ends,) if ends else (), middle)


def cost_text(cost: Cost, show: Show) -> str:
    """Write a time or a memory, with * where it is estimated."""
    return text.starred(show(cost.value), cost.estimated)


def cost_cell(cost: Cost, show: Show) -> Cell:
    """Show a time or a memory, with * where it is estimated."""
    shown = cost_text(cost, show)
    return Cell(shown, key=None if shown == DASH else cost.value)


def answer_cells(answer: Answer) -> dict[str, Cell]:
    """Return the cells ``error``, ``depth``, ``time`` and ``memory`` of a row: what an answer
    reaches, and what one estimate costs there.

    The error is the measured one. Where the answer reaches the required error, and none is measured
    at its depth, it is that bound, with ≤; a depth has ≤ because a depth between two measured ones
    may do as well. Below a depth stands whether the deepest one alone reaches the error, and beside
    a time its interval. Times and memories that were not measured but estimated have a *; what is
    unknown is a dash.
    """
    error = number_cell(answer.measured_error)
    if answer.reached and is_blank(error):
        error = Cell(f"≤ {text.number(answer.error, 1)}", key=answer.error)
    depth = number_cell(answer.depth, lambda value: text.fixed(value, 0))
    if not is_blank(depth):
        # Less may do: between the measured depths nothing is known.
        least = "≤ " if answer.reached else ""
        shown = f"{least}{text.count(int(answer.depth), answer.unit)}"
        depth = Cell(shown, deepest_alone(answer.missed_before), depth.key)
    seconds = cost_text(answer.seconds, text.seconds)
    return {
        "error": error,
        "depth": depth,
        "time": interval_cell(answer.seconds.value, *answer.interval, text.seconds, seconds),
        "memory": cost_cell(answer.memory, text.memory),
    }


def deepest_alone(missed_before: Point | None) -> tuple[str, ...]:
    """Say that the deepest measured depth alone reaches an error, given the depth before it; one
    text, or none without such a depth.
    """
    if not missed_before:
        return ()
    before = f"error {text.number(missed_before.error)} at {missed_before.depth}"
    return (f"at the deepest measured depth alone ({before})",)


def achievement(answer: Answer) -> tuple[str, str]:
    """Return the estimator of an answer, empty unless the requirement is met or the answer is the
    most accurate within limits, and what it achieves.

    That is its time or, where none is known, its depth; within limits its error, or ``none``; and
    with what it ties. Else it is why there is none: ``not reached``, or a dash where
    nothing was measured.
    """
    ties = f", tie with {_tie_names(answer, answer.as_good)}" if answer.as_good else ""
    ties += "".join(f", {words}" for words in memory_decides(answer))
    if answer.reached:
        achieved = f"≤ {text.count(int(answer.depth), answer.unit)}"
        if answer.is_timed:
            achieved = cost_text(answer.seconds, text.seconds)
        return answer.estimator, f"{achieved}{ties}"
    if answer.requirement.limited:
        error = f"error {text.number(answer.error)}{ties}" if answer.estimator else "none"
        return answer.estimator, error
    return "", "not reached" if answer.estimator else DASH


def memory_decides(answer: Answer) -> list[str]:
    """Say from what less memory alone tells an answer: one text, none where it decides nothing."""
    if not answer.larger:
        return []
    what = "time" if answer.is_timed else "depth"
    return [f"tie in {what} with {_tie_names(answer, answer.larger)}, less memory"]


def _tie_names(answer: Answer, ties: Iterable[Measured]) -> str:
    """Name some ties of an answer, with the algorithm where that is another one."""
    algorithm = answer.source.algorithm if answer.source else ""
    names = [
        source.estimator
        if source.algorithm == algorithm
        else f"{source.estimator} with {source.algorithm}"
        for source in ties
    ]
    return text.listing(shortened_ties(names))
