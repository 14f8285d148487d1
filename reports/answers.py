"""Which algorithm and estimator to use for each problem: the answers that a report begins with, and
its budgets.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from pudle import answers as engine
from pudle.answers import Answer, Measured, Requirement, answer
from pudle.reports.load import Results
from pudle.reports.markup import Table
from pudle.text import DASH, Cell

#: Required errors that the page offers; None asks for the least.
ERRORS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-6, 1e-8, None)
#: Columns of the table of answers.
COLUMNS = [*"problem use error depth time memory".split(), "best unrolled", "why"]


class ProblemAnswer(NamedTuple):
    """Which algorithm and estimator to use for a problem."""

    #: The case of the answer.
    case: str
    best: Answer
    #: The best one among the algorithms that can be differentiated.
    unrolled: Answer
    #: What the table of answers says, by its `COLUMNS`: ``use`` is the estimator with its
    #: algorithm, and * follows what is estimated.
    cells: dict[str, Cell]


def _problems(results: Results, algorithm: str) -> Iterator[tuple[Cell, list[Measured]]]:
    """Yield what each problem is called, with its first case, and what was measured on it, perhaps
    with one algorithm alone.
    """
    for label, measured in results.problems:
        if some := [each for each in measured if algorithm in ("", each.algorithm)]:
            yield Cell(label, case=some[0].case), some


def answers(
    results: Results, requirement: Requirement | None = None, algorithm: str = ""
) -> list[ProblemAnswer]:
    """Return, per problem, which algorithm and estimator to use, or with one algorithm which
    estimator.
    """
    rows = []
    for label, measured in _problems(results, algorithm):
        best = answer(measured, requirement or Requirement())
        unrolled = [each for each in measured if each.differentiable]
        other = best if unrolled == measured else answer(unrolled, best.requirement)
        source, cells = best.source or measured[0], other.cells
        value = other.value[1] if other.reached else cells["time"].head
        about = f"error {cells['error']}, {cells['depth']} layers"
        same = best.source is other.source is not None
        limited = " Scored against a limit." * bool(results.badge(source.case))
        cells = {
            "problem": Cell(label, case=source.case),
            "use": Cell(_pair(best), best=True),
            **best.cells,
            "best unrolled": Cell("the same") if same else _pair(other, value, about),
            "why": Cell(best.reason + limited),
        }
        rows.append(ProblemAnswer(source.case, best, other, cells))
    return rows


def _pair(chosen: Answer, value: str = "", *details: str) -> Cell:
    """Return an estimator with its algorithm, a value, and details."""
    if not chosen.source:
        return Cell("no answer")
    known = f", {value}" * (value not in ("", DASH))
    details = (f"with {chosen.source.algorithm}{known}", *details)
    return Cell(chosen.estimator, chosen.estimator, details=details)


def answers_table(results: Results, rows: Iterable[ProblemAnswer]) -> Table:
    """Return answers as a table; without a solver all that is best is unrolled."""
    table = Table.of([row.cells for row in rows], COLUMNS)
    return table if results.solvers else table.without("best unrolled")


def budgets(results: Results, algorithm: str = "") -> Table:
    """Return, per problem, the best estimator for some accuracies, times and memories, a column
    each, perhaps with one algorithm alone.

    A cell is the estimator, with its algorithm where there are several, and the time to that
    accuracy or the error within that budget. Where there is no estimator, it says why.
    """
    requirements = engine.budgets(sum(results.measured.values(), ()))
    rows = []
    for label, measured in _problems(results, algorithm):
        row = {"problem": label}
        several = len({each.algorithm for each in measured}) > 1
        for requirement in requirements:
            chosen = answer(measured, requirement)
            estimator, value = chosen.value
            one = Cell(estimator, estimator, details=[value])
            shown = _pair(chosen, value) if several else one
            row[str(requirement)] = shown if estimator else Cell(value)
        rows.append(row)
    return Table.of(rows)
