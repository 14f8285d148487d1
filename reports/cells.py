"""Cells of tables, made of the records that answers and summaries compute."""

from collections.abc import Callable
from math import isnan

from pudle import text
from pudle.answers import Answer, Cost
from pudle.text import DASH, Cell


def cost_cell(cost: Cost, show: Callable[[float], Cell]) -> Cell:
    """Show a time or a memory, with * where it is estimated."""
    return text.starred(show(cost.value), cost.estimated)


def answer_cells(answer: Answer) -> dict[str, Cell]:
    """Show what an answer reaches and costs, as a row of a table; * marks what is estimated."""
    error = text.number(answer.error, 1 if answer.reached else 2)
    depth = text.fixed(answer.depth, 0)
    if answer.reached:
        # Less may do: between the measured depths nothing is known.
        error, depth = (Cell(f"≤ {cell}", key=cell.key) for cell in (error, depth))
    seconds = cost_cell(answer.seconds, text.seconds)
    return {
        "error": error,
        "depth": depth,
        "time": text.between(answer.seconds.value, *answer.interval, text.seconds, seconds),
        "memory": cost_cell(answer.memory, text.memory),
    }


def achievement(answer: Answer) -> tuple[str, str]:
    """Return the estimator of an answer, empty unless the requirement is met, and what it achieves:
    a time, or an error where none is required.
    """
    if answer.reached:
        achieved = f"≤ {text.count(int(answer.depth), answer.unit)}"
        if not isnan(answer.seconds.value):
            achieved = str(cost_cell(answer.seconds, text.seconds))
        if answer.tied:
            achieved += f", not distinguishable from {text.count(len(answer.tied), 'other')}"
        return answer.estimator, achieved
    if answer.requirement.limited:
        error = f"error {text.number(answer.error)}" if answer.estimator else "none"
        return answer.estimator, error
    return "", "not reached" if answer.estimator else DASH
