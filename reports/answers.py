"""Which algorithm and estimator to use for each problem: the answers that a report begins with, and
its budgets.
"""

from collections.abc import Collection, Iterable, Iterator, Sequence
from math import inf
from typing import NamedTuple

from pudle import answers as engine
from pudle import text
from pudle.answers import SAME_ERROR, Answer, Measured, Reason, Requirement, answer
from pudle.reports.cells import Cell, Shown, achievement, answer_cells, memory_decides
from pudle.reports.load import Results
from pudle.reports.markup import Table
from pudle.sentences import reason_text, requirement_text, shortened_ties
from pudle.text import DASH

#: Required errors that the page offers; None asks for the least.
ERRORS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-6, 1e-8, None)
#: Columns of the table of answers.
COLUMNS = [*"problem use error depth time memory".split(), "best unrolled", "why"]


#: How to read the budgets, with ``{least}`` and ``{tie}`` of where times are measured, or of where
#: they are not.
READING_BUDGETS = (
    "For a given error: the estimator that reaches it {least}, and its depth. For a given time or"
    " memory: the estimator with the least error (the greatest over the seeds) at a measured depth"
    " whose time or memory was measured or estimated within it, with that depth and what it takes;"
    " of errors that are nearly the same, the fastest. A tie: {tie}; for a time or memory, with"
    f" errors that differ by less than {SAME_ERROR:.0%} as well."
)
TIMED = {"least": "in the least time", "tie": "not distinguishable in time, nor by memory"}
UNTIMED = {
    "least": "with the least depth, because nothing was timed",
    "tie": "the same depth",
}


#: Why there is no best unrolled pair.
NO_LAYERS = "none: no algorithm with layers was measured"
NO_UNROLLED = {
    Reason.NOTHING_SCORED: "none: nothing with layers was scored",
    Reason.NOTHING_WITHIN_LIMITS: "none within these limits",
}
#: The same for every problem, where no algorithm is a solver.
ALL_UNROLLED = "The best unrolled pair is the answer itself: all algorithms here run layers."


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
    """Yield the label of each problem, and what was measured on it; with the name of an `algorithm`
    only what was measured with that, and no problem on which nothing was.
    """
    for label, measured in results.problems:
        chosen = [row for row in measured if algorithm in ("", row.algorithm)]
        if chosen:
            yield label, chosen


def answers(
    results: Results, requirement: Requirement | None = None, algorithm: str = ""
) -> list[ProblemAnswer]:
    """Choose an algorithm and an estimator for each problem, or with one algorithm an estimator;
    without a requirement for the default error.
    """
    requirement = requirement or Requirement()
    return [
        _problem_answer(results, label, measured, requirement)
        for label, measured in _problems(results, algorithm)
    ]


def _problem_answer(
    results: Results, label: str, measured: list[Measured], requirement: Requirement
) -> ProblemAnswer:
    """Choose for one problem, of which the label is the name, among what was measured on it; an
    answer may miss the requirement, and says so.
    """
    best = answer(measured, requirement)
    differentiable = [row for row in measured if row.differentiable]
    unrolled = best if differentiable == measured else answer(differentiable, requirement)
    source = best.source or measured[0]
    same = best.source is unrolled.source is not None
    best_unrolled = Cell("the same") if same else _unrolled_cell(unrolled, bool(differentiable))
    why = reason_text(best)
    if results.badge(source.case):
        why += " Scored against a limit."
    row = {
        "problem": Cell(label, case=source.case),
        "use": _pair(best)
        .with_details(*_alternatives(best), *memory_decides(best))
        .with_mark(best=True),
        **answer_cells(best),
        "best unrolled": best_unrolled,
        "why": Cell(why),
    }
    return ProblemAnswer(source.case, best, unrolled, row)


def _alternatives(chosen: Answer) -> list[str]:
    """Name what is as good as an answer, a text for each, or the first and how many others there
    are.
    """
    names = [f"{source.estimator} with {source.algorithm}" for source in chosen.as_good]
    return [f"or {name}" for name in shortened_ties(names)]


def _unrolled_cell(chosen: Answer, has_layers: bool) -> Cell:
    """Show the best unrolled pair, or that it misses what is required and by how much; without one,
    why there is none, which may be that no algorithm of the problem has layers.
    """
    if not chosen.source:
        return Cell(NO_UNROLLED[chosen.reason] if has_layers else NO_LAYERS)
    cells, goal = answer_cells(chosen), chosen.requirement.error
    if not chosen.reached:
        value, about = cells["time"].text, f"error {cells['error']}, {cells['depth']}"
        if goal is not None:
            about = f"does not reach {text.number(goal, 1)}: {about}"
        return _pair(chosen, value, about)
    about = f"error {cells['error']}"
    if chosen.is_timed:
        about += f", {cells['depth']}"
    return _pair(chosen, achievement(chosen)[1], about)


def _pair(chosen: Answer, value: str = "", *details: str) -> Cell:
    """Show an estimator with its algorithm, a value unless it is empty or a dash, and details; ``no
    answer`` where there is none.
    """
    if not chosen.source:
        return Cell("no answer")
    algorithm = f"with {chosen.source.algorithm}"
    if value not in ("", DASH):
        algorithm += f", {value}"
    return Cell(chosen.estimator, (algorithm, *details), estimator=chosen.estimator)


def answers_table(results: Results, rows: Iterable[ProblemAnswer]) -> Table:
    """Return answers as a table with the columns `COLUMNS`; ``best unrolled`` is left out without a
    solver, where all that is best is unrolled.
    """
    table = Table.of([row.cells for row in rows], COLUMNS)
    return table if results.solvers else table.without("best unrolled")


def unrolled_sentence(results: Results) -> str:
    """Say why the table of answers has no column for the best unrolled pair; empty where it has
    one, or where there are no answers.
    """
    return "" if results.solvers or not results.cases else ALL_UNROLLED


def reading_budgets(is_timed: bool) -> str:
    """Say how to read the budgets where times are measured, or where they are not."""
    return READING_BUDGETS.format_map(TIMED if is_timed else UNTIMED)


def budgets(results: Results, algorithm: str = "") -> Table:
    """Return, per problem, the best estimator for some accuracies, times and memories, a column
    each, perhaps with one algorithm alone.

    A cell is the estimator, with its algorithm where there are several, and the time to that
    accuracy or the error within that budget, and what `_spent` says. Where there is no estimator,
    it says why. Where every problem has one pair that is best at all budgets, the pair has a column
    of its own.
    """
    requirements = engine.budgets(sum(results.measured.values(), ()))
    rows = [
        (label, measured, [answer(measured, requirement) for requirement in requirements])
        for label, measured in _problems(results, algorithm)
    ]
    alike = bool(rows) and all(_one_pair(chosen) for _, _, chosen in rows)
    return Table.of(
        [
            _budget_row(
                Cell(label, case=measured[0].case),
                {source.algorithm for source in measured},
                chosen,
                alike,
            )
            for label, measured, chosen in rows
        ]
    )


def _one_pair(chosen: Sequence[Answer]) -> bool:
    """Tell whether answers to one problem, at least two, name the same pair of estimator and
    algorithm, and each of them achieves something.
    """
    achieved = all(achievement(one)[0] for one in chosen)
    return len(chosen) > 1 and achieved and len({one.source for one in chosen}) == 1


def _budget_row(
    label: Cell, algorithms: Collection[str], chosen: Sequence[Answer], alike: bool
) -> dict[str, Shown]:
    """Show the answers to one problem by their requirements; where all problems have one pair each
    (`alike`), the pair once in a column ``use``. The algorithm is named only if there are several.
    """
    row: dict[str, Shown] = {"problem": label}
    if alike:
        row["use"] = _pair(chosen[0]) if len(algorithms) > 1 else _plain_cell(chosen[0])
    for budget_answer in chosen:
        estimator, value = achievement(budget_answer)
        spent = _spent(budget_answer) if estimator else []
        if not estimator or alike:
            cell = Cell(value, tuple(spent))
        elif len(algorithms) > 1:
            cell = _pair(budget_answer, value, *spent)
        else:
            cell = _plain_cell(budget_answer, value, *spent)
        row[requirement_text(budget_answer.requirement)] = cell
    return row


def _spent(chosen: Answer) -> list[str]:
    """Say at which depth an answer achieves something and, within limits of time or memory, how
    much it takes of them; * marks what is estimated.
    """
    cells = answer_cells(chosen)
    if chosen.reached:
        # Where nothing is timed, the depth is what it achieves.
        return [str(cells["depth"])] if chosen.is_timed else [*cells["depth"].details]
    spent = [cells["depth"].text]
    if chosen.requirement.seconds < inf:
        spent.append(cells["time"].text)
    if chosen.requirement.memory < inf:
        spent.append(cells["memory"].text)
    return [", ".join(spent)]


def _plain_cell(chosen: Answer, *details: str) -> Cell:
    """Show an estimator without its algorithm."""
    return Cell(chosen.estimator, details, estimator=chosen.estimator)
