"""Which algorithm and estimator to use for each problem: the answers that a report begins with, and
its budgets.
"""

from collections.abc import Iterable, Iterator

import pandas as pd

from pudle import answers as engine
from pudle import text
from pudle.answers import Answer, Measured, Requirement, answer
from pudle.reports.load import Results, Row

#: Required errors that the page offers; None asks for the least.
ERRORS = (1e-1, 1e-2, 1e-3, 1e-4, 1e-6, 1e-8, None)
#: Columns of the table of answers, as a row has them.
COLUMNS = "problem use error depth time memory unrolled why".split()


def _problems(results: Results, algorithm: str) -> Iterator[tuple[text.Cell, list[Measured]]]:
    """Yield what each problem is called, with its first case, and what was measured on it, perhaps
    with one algorithm alone.
    """
    for label, measured in results.problems:
        if some := [each for each in measured if algorithm in ("", each.algorithm)]:
            yield text.Cell(label, case=some[0].case), some


def answers(
    results: Results, requirement: Requirement | None = None, algorithm: str = ""
) -> list[Row]:
    """Return, per problem, which algorithm and estimator to use, or with one algorithm which
    estimator.

    A row has the `COLUMNS` of the table of answers: ``use`` is the estimator with its algorithm,
    and ``error``, ``depth``, ``time`` and ``memory`` are what it reaches and costs, with * after an
    extrapolated value. ``unrolled`` is the best one among the algorithms that can be
    differentiated. Beside them ``case`` names the case of the answer, and ``best`` and
    ``best unrolled`` are the answers.
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
        rows.append(
            {
                "problem": text.Cell(label, case=source.case),
                "use": text.Cell(_pair(best, ""), best=True),
                **best.cells,
                "unrolled": text.Cell("the same") if same else _pair(other, value, about),
                "why": best.reason + " Scored against a limit." * bool(results.badge(source.case)),
                "case": source.case,
                "best": best,
                "best unrolled": other,
            }
        )
    return rows


def _pair(chosen: Answer, value: str, *details: str) -> text.Cell:
    """Return an estimator with its algorithm, a value, and details."""
    if not chosen.source:
        return text.Cell("no answer")
    known = f", {value}" * (value not in ("", text.DASH))
    details = (f"with {chosen.source.algorithm}{known}", *details)
    return text.Cell(chosen.estimator, chosen.estimator, details=details)


def answers_table(results: Results, rows: Iterable[Row]) -> pd.DataFrame:
    """Return rows of answers as a table; without a solver all that is best is unrolled."""
    table = pd.DataFrame(rows, columns=COLUMNS, dtype=object)
    left = [] if results.solved else ["unrolled"]
    return table.drop(columns=left).rename(columns={"unrolled": "best unrolled"})


def pairs_table(rows: Iterable[Row]) -> pd.DataFrame:
    """Return rows of answers as a narrow table: below an answer stands the best unrolled one, where
    that is another.
    """
    made = []
    for row in rows:
        best, other = row["best"], row["best unrolled"]
        made.append(row)
        if other.source is not best.source:
            made.append({"problem": "best unrolled", "use": _pair(other, ""), **other.cells})
    return pd.DataFrame(made, columns=COLUMNS[:6], dtype=object)


def budgets(results: Results, algorithm: str = "") -> pd.DataFrame:
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
            one = text.Cell(estimator, estimator, details=[value])
            shown = _pair(chosen, value) if several else one
            row[str(requirement)] = shown if estimator else text.Cell(value)
        rows.append(row)
    return pd.DataFrame(rows, dtype=object)
