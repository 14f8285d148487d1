"""The recommendation in short: one for each outer loss, and why it is right there, by what was
measured and by what the classes of the estimators declare.
"""

from collections.abc import Sequence

from pudle import text
from pudle.answers import ERROR, Measured, Requirement
from pudle.measuring.grouping import grouped
from pudle.measuring.results.score import ScoreRecord
from pudle.reports.answers import ProblemAnswer
from pudle.reports.load import Results

#: The outer loss that is the inner objective itself.
INNER_OBJECTIVE = "lasso"
STATIONARY = "The codes minimize this loss too, so that its derivative in them vanishes there:"
#: What follows from that for an estimator, by what it computes.
WHY_STATIONARY = {
    "direct": "the direct part is all of the gradient, and nothing else has to be computed.",
    "truncated": "what truncation leaves out vanishes with depth.",
}
#: What an estimator does that keeps an error, by what it computes.
LEAVE_OUT = {
    "direct": "leaves that out",
    "truncated": "leaves out the layers before its window",
}
#: What it means that an estimator of the direct part keeps an error.
INDIRECT = "It matters here how the codes change with the outer parameter."


def recommendations(
    results: Results, rows: Sequence[ProblemAnswer], requirement: Requirement
) -> list[str]:
    """Say for each outer loss what the answers to a requirement have in common, and why it is
    right: a text for each loss that the answers have, in their order.

    A loss whose answers have nothing in common is told with the reason alone.
    """
    by_loss = grouped(rows, lambda row: results.cases[row.case].loss)
    sentences = []
    for loss, loss_rows in by_loss.items():
        parts = [_lead(loss_rows, requirement), _reason(results, loss, loss_rows, requirement)]
        sentences.append(f"{loss.capitalize()} loss: {' '.join(filter(None, parts))}")
    return sentences


def _lead(rows: Sequence[ProblemAnswer], requirement: Requirement) -> str:
    """Say which pair of estimator and algorithm answers all of some problems, if one does, or on
    how many nothing reaches the required error, or that it depends.
    """
    missed = [row for row in rows if not row.best.reached]
    if missed and requirement.error is not None:
        error = text.number(requirement.error, 1)
        number = len(missed) if len(missed) < len(rows) else "all"
        problems = text.count(len(rows), "problem")
        return f"on {number} of {problems} nothing reaches an error of {error}."
    pairs = {(row.best.estimator, row.best.source.algorithm) for row in rows if row.best.source}
    estimators = {estimator for estimator, _ in pairs}
    if len(pairs) == 1:
        ((estimator, algorithm),) = pairs
        return f"use `{estimator}` with `{algorithm}`."
    if len(estimators) == 1:
        return f"use `{estimators.pop()}`, with the algorithm of each row."
    return "the answer depends on the dataset." if estimators else "no answer."


def _reason(
    results: Results, loss: str, rows: Sequence[ProblemAnswer], requirement: Requirement
) -> str:
    """Say why the estimators that answer some problems of one loss are right there: because codes
    are stationary, or because others keep an error; an empty text where neither holds.
    """
    claims = {record.estimator: record for record in results.records if record.case.loss == loss}
    chosen = {claims[row.best.estimator].computes for row in rows if row.best.estimator in claims}
    computes = chosen.pop() if len(chosen) == 1 else ""
    least = requirement.error or ERROR
    # A problem may take other samples for its loss, whose minimizers its codes are not then.
    exact = all(row.best.measured_error <= least for row in rows)
    if loss == INNER_OBJECTIVE and computes in WHY_STATIONARY and exact:
        return f"{STATIONARY} {WHY_STATIONARY[computes]}"
    answered = {row.best.estimator for row in rows}
    names = {row.case for row in rows}
    sources = [
        source
        for _, problem in results.problems
        if names & {measured.case for measured in problem}
        for source in problem
        if source.estimator not in answered
    ]
    return " ".join(_floors(claims, loss, sources, least))


def _floors(
    claims: dict[str, ScoreRecord], loss: str, sources: Sequence[Measured], least: float
) -> list[str]:
    """Say which estimators keep an error above the least, at all of their cases, on a loss for
    which they do not declare to be consistent, and how large it is at the deepest depths; a
    sentence for each, after one in advance if one computes the direct part.
    """
    by_estimator = grouped(sources, lambda source: source.estimator)
    sentences = []
    indirect = False
    for estimator, measured in by_estimator.items():
        record = claims[estimator]
        if record.consistent_for is None or loss in record.consistent_for:
            continue
        errors = [float(row.errors.spread[-1, 1]) for row in measured if len(row.errors.spread)]
        if not errors or min(errors) <= least:
            continue
        ends = [text.number(min(errors)), text.number(max(errors))]
        extent = " to ".join(dict.fromkeys(ends))
        indirect = indirect or record.computes == "direct"
        verb = LEAVE_OUT.get(record.computes, "is not made for this loss")
        sentences.append(f"`{estimator}` {verb}: its error stays at {extent}, whatever the depth.")
    return [INDIRECT, *sentences] if indirect else sentences
