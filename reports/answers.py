"""Which algorithm and estimator to use for each problem: the answers that a report begins with, and
its budgets.
"""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from pudle import answers as engine
from pudle.answers import Answer, Measured, Requirement, answer
from pudle.reports.cells import Cell, Shown, achievement, answer_cells
from pudle.reports.load import Results
from pudle.reports.markup import Table
from pudle.sentences import reason_text, requirement_text
from pudle.text import DASH

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


def _problems(results: Results, algorithm: str) -> Iterator[tuple[str, list[Measured]]]:
    """Yield the label of each problem, and what was measured on it, perhaps
    with one algorithm alone.
    """
    for label, measured in results.problems:
        chosen = [row for row in measured if algorithm in ("", row.algorithm)]
        if chosen:
            yield label, chosen


def answers(
    results: Results, requirement: Requirement | None = None, algorithm: str = ""
) -> list[ProblemAnswer]:
    """Choose an algorithm and an estimator for each problem, or with one algorithm an estimator."""
    requirement = requirement or Requirement()
    return [
        _problem_answer(results, label, measured, requirement)
        for label, measured in _problems(results, algorithm)
    ]


def _problem_answer(
    results: Results, label: str, measured: list[Measured], requirement: Requirement
) -> ProblemAnswer:
    """Choose for one problem, of which the label is the name."""
    best = answer(measured, requirement)
    differentiable = [row for row in measured if row.differentiable]
    unrolled = best if differentiable == measured else answer(differentiable, requirement)
    source, cells = best.source or measured[0], answer_cells(unrolled)
    if best.source is unrolled.source is not None:
        best_unrolled = Cell("the same")
    else:
        value = achievement(unrolled)[1] if unrolled.reached else cells["time"].text
        about = f"error {cells['error']}, {cells['depth']} layers"
        best_unrolled = _pair(unrolled, value, about)
    why = reason_text(best)
    if results.badge(source.case):
        why += " Scored against a limit."
    row = {
        "problem": Cell(label, case=source.case),
        "use": _pair(best).with_mark(best=True),
        **answer_cells(best),
        "best unrolled": best_unrolled,
        "why": Cell(why),
    }
    return ProblemAnswer(source.case, best, unrolled, row)


def _pair(chosen: Answer, value: str = "", *details: str) -> Cell:
    """Show an estimator with its algorithm, a value, and details."""
    if not chosen.source:
        return Cell("no answer")
    algorithm = f"with {chosen.source.algorithm}"
    if value not in ("", DASH):
        algorithm += f", {value}"
    return Cell(chosen.estimator, (algorithm, *details), estimator=chosen.estimator)


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
        row: dict[str, Shown] = {"problem": Cell(label, case=measured[0].case)}
        several = len({row.algorithm for row in measured}) > 1
        for requirement in requirements:
            chosen = answer(measured, requirement)
            estimator, value = achievement(chosen)
            if not estimator:
                cell = Cell(value)
            elif several:
                cell = _pair(chosen, value)
            else:
                cell = Cell(estimator, (value,), estimator=estimator)
            row[requirement_text(requirement)] = cell
        rows.append(row)
    return Table.of(rows)
