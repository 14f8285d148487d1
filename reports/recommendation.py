"""The recommendation in short: one for each outer loss, and why it is right there, by what was
measured and by what the classes of the estimators declare.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple, TypeVar

from pudle import text
from pudle.answers import ERROR, Answer, Curve, Measured, Requirement
from pudle.measuring.grouping import grouped
from pudle.measuring.naming import OWN_LOSS
from pudle.measuring.results.score import ScoreRecord
from pudle.reports.answers import ProblemAnswer
from pudle.reports.glossary import in_words_of
from pudle.reports.load import SIGNS, Results
from pudle.sentences import shortened_ties

#: An estimator, or its pair with an algorithm.
Name = TypeVar("Name", str, tuple[str, str])
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
    "direct": "leaves out how the codes change",
    "truncated": "leaves out the layers before its window",
}
#: An error has settled if it differs by less than this share between the deepest depth and the
#: deepest of those that are at most `EARLIER` as deep.
SETTLED, EARLIER = 0.02, 2 / 3
#: Problems are named one by one up to this many.
NAMED_PROBLEMS = 3
#: What it means that an estimator of the direct part keeps an error.
INDIRECT = "It matters here how the codes change with the outer parameter."


def recommendations(
    results: Results, rows: Sequence[ProblemAnswer], requirement: Requirement
) -> list[str]:
    """Say for each outer loss what the answers to a requirement have in common, and why it is
    right: a text for each loss that the answers have, in their order; and at the end one on the
    best unrolled pairs, where some are not the answers themselves.

    A loss whose answers have nothing in common is told with the reason alone.
    """
    by_loss = grouped(rows, lambda row: results.cases[row.case].loss)
    sentences = []
    for loss, loss_rows in by_loss.items():
        parts = [_lead(loss_rows, requirement), _reason(results, loss, loss_rows, requirement)]
        name = f"{loss.capitalize()} loss"
        if loss == OWN_LOSS:
            name = "The problem's own loss" if len(loss_rows) == 1 else "The problems' own losses"
        sentences.append(in_words_of(results, f"{name}: {' '.join(filter(None, parts))}"))
    unrolled = [row for row in rows if row.unrolled.source]
    if any(row.unrolled.source is not row.best.source for row in unrolled):
        parts = [*_unrolled(unrolled, requirement), *_wrong_signs(results, unrolled)]
        sentences.append(in_words_of(results, f"Best unrolled: {' '.join(parts)}"))
    return sentences


def _unrolled(rows: Sequence[ProblemAnswer], requirement: Requirement) -> Iterator[str]:
    """Yield which estimators are best unrolled on which problems, and which come closest where
    nothing unrolled reaches the required error.
    """
    missed = [row for row in rows if not row.unrolled.reached and requirement.error is not None]
    if reached := [row for row in rows if row not in missed]:
        yield f"{'; '.join(_by_estimator(reached))}."
    if missed:
        error = text.number(requirement.error or 0.0, 1)
        closest = "; ".join(_by_estimator(missed))
        nothing = "Elsewhere nothing" if reached else "nothing"
        yield f"{nothing} reaches {error}; closest: {closest}."


def _by_estimator(rows: Sequence[ProblemAnswer]) -> list[str]:
    """Name the best unrolled estimators, each with its problems, or how many these are."""
    names = []
    for estimator, answered in grouped(rows, lambda row: row.unrolled.estimator).items():
        problems = [row.cells["problem"].text for row in answered]
        on = (
            text.listing(problems)
            if len(problems) <= NAMED_PROBLEMS
            else f"{len(problems)} problems"
        )
        names.append(f"`{estimator}` on {on}")
    return names


def _wrong_signs(results: Results, rows: Sequence[ProblemAnswer]) -> Iterator[str]:
    """Yield in how many samples the signs of codes are wrong at the depths of the best unrolled
    pairs, the greatest share over the seeds: of those that reach the required error, and of others.
    """
    shares: dict[bool, list[tuple[float, int]]] = {True: [], False: []}
    for row in rows:
        source, depth = row.unrolled.source, row.unrolled.depth
        if not source or not results.has_signs(source.case):
            continue
        signs = results.curve(source.case, source.estimator, SIGNS)
        known = {at: greatest for at, *_, greatest in signs.spread.tolist()}
        if depth in known:
            shares[row.unrolled.reached].append((known[depth], int(depth)))
    if shares[True]:
        most, _ = max(shares[True])
        wrong = f"wrong in at most {text.percent(most)} of the samples" if most else "all right"
        yield f"Where the error is reached, the signs of codes are {wrong} by then."
    if shares[False]:
        most, depth = max(shares[False])
        if most:
            where = "Elsewhere they" if shares[True] else "The signs of codes there"
            yield (
                f"{where} are wrong in up to {text.percent(most)} of the samples after"
                f" {depth} layers: more layers may change which is best."
            )


def _lead(rows: Sequence[ProblemAnswer], requirement: Requirement) -> str:
    """Say which pairs of estimator and algorithm answer all of some problems, if some do, and that
    they tie; or on how many nothing reaches the required error, or that it depends.

    What is not timed is not recommended: others may be faster.
    """
    missed = [row for row in rows if not row.best.reached]
    if missed and requirement.error is not None:
        error = text.number(requirement.error, 1)
        if len(rows) == 1:
            return f"nothing reaches an error of {error}."
        number = len(missed) if len(missed) < len(rows) else "all"
        problems = text.count(len(rows), "problem")
        return f"on {number} of {problems} nothing reaches an error of {error}."
    answered = [row.best for row in rows if row.best.source]
    if not answered:
        return "no answer."
    best_pairs = [
        [(source.estimator, source.algorithm) for source in _best_sources(best)]
        for best in answered
    ]
    if pairs := _common(best_pairs):
        return _use(_pairs_text(pairs), len(pairs), answered)
    best_estimators = [[estimator for estimator, _ in pairs] for pairs in best_pairs]
    if estimators := _common(best_estimators):
        names = _either([f"`{estimator}`" for estimator in estimators])
        return _use(f"{names}, with the algorithm of each row", len(estimators), answered)
    return "the answer depends on the dataset."


def _best_sources(best: Answer) -> list[Measured]:
    """Return the estimator that an answer names, on its case, and those that are as good."""
    return [source for source in (best.source, *best.as_good) if source]


def _common(groups: Sequence[Sequence[Name]]) -> list[Name]:
    """Return the names that are in all groups, each once and in the order of the first."""
    first, *others = groups
    return [name for name in dict.fromkeys(first) if all(name in group for group in others)]


def _pairs_text(pairs: Sequence[tuple[str, str]]) -> str:
    """Name pairs of estimator and algorithm as alternatives, the algorithm once where they share
    it.
    """
    algorithms = {algorithm for _, algorithm in pairs}
    if len(algorithms) > 1:
        return _either([f"`{estimator}` with `{algorithm}`" for estimator, algorithm in pairs])
    comma = "," if len(pairs) > 1 else ""
    return f"{_either([f'`{name}`' for name, _ in pairs])}{comma} with `{pairs[0][1]}`"


def _either(names: Sequence[str]) -> str:
    """Join the names of alternatives: ``a or b``, beyond a few ``a, b or 3 others``."""
    *first_names, last = [names[0], *shortened_ties(names[1:])]
    return f"{', '.join(first_names)} or {last}" if first_names else last


def _use(names: str, n_names: int, answered: Sequence[Answer]) -> str:
    """Say that some alternatives answer all of some problems, and what that rests on: a tie, or a
    depth where nothing is timed.
    """
    by_error = answered[0].requirement.error is None
    if not all(best.is_timed or best.n_near == 1 for best in answered):
        with_more = "others as accurate" if by_error else "others with more layers"
        faster = (
            f", and {with_more} may be faster" if any(best.n_deeper for best in answered) else ""
        )
        if n_names > 1:
            return (
                f"{names}: tie in {'error and depth' if by_error else 'depth'}; not timed{faster}."
            )
        of_what = " of the most accurate" if by_error else " that reaches the error"
        return f"{names} has the least depth{of_what}; not timed{faster}."
    if n_names > 1:
        error = "in error, and " if by_error else ""
        return f"use {names}: a tie, {error}not distinguishable in time."
    if any(best.tied for best in answered):
        smaller = "" if by_error else ", or as fast with less memory"
        return f"use {names}: no other is distinguishably faster{smaller}."
    return f"use {names}."


def _reason(
    results: Results, loss: str, rows: Sequence[ProblemAnswer], requirement: Requirement
) -> str:
    """Say why the estimators that answer some problems of one loss are right there: because codes
    are stationary, or because others keep an error; an empty text where neither holds.
    """
    claims = {record.estimator: record for record in results.records if record.case.loss == loss}
    best_estimators = [
        [source.estimator for source in _best_sources(row.best)] for row in rows if row.best.source
    ]
    common = _common(best_estimators) if best_estimators else []
    kinds = {claims[name].computes for name in common if name in claims}
    computes = next((kind for kind in WHY_STATIONARY if kind in kinds), "")
    least = requirement.error or ERROR
    # A problem may take other samples for its loss, whose minimizers its codes are not then.
    exact = all(row.best.measured_error <= least for row in rows)
    if loss == INNER_OBJECTIVE and computes and exact:
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
    which they do not declare to be consistent, and how large it is; a sentence for each, after one
    in advance if one computes the direct part.

    That it stays, whatever the depth, is said of the cases where it has settled; where there are
    none, at which depth the error is so large.
    """
    by_estimator = grouped(sources, lambda source: source.estimator)
    sentences = []
    indirect = False
    for estimator, measured in by_estimator.items():
        record = claims[estimator]
        if record.consistent_for is None or loss in record.consistent_for:
            continue
        curves = [row.errors for row in measured if len(row.errors.spread)]
        if not curves or min(_last(curve).error for curve in curves) <= least:
            continue
        indirect = indirect or record.computes == "direct"
        verb = LEAVE_OUT.get(record.computes, "is not made for this loss")
        sentences.append(f"`{estimator}` {verb}: {_kept_error(curves)}.")
    return [INDIRECT, *sentences] if indirect else sentences


class Last(NamedTuple):
    """The deepest depth of an estimator on a case, and the median error there."""

    depth: int
    error: float


def _last(curve: Curve) -> Last:
    """Return the end of a curve that has errors."""
    depth, error, *_ = curve.spread[-1].tolist()
    return Last(int(depth), error)


def _has_settled(curve: Curve) -> bool:
    """Tell whether more layers no longer change an error, as far as two depths that lie apart can
    tell.
    """
    depth, error = _last(curve)
    earlier = [median for other, median, *_ in curve.spread.tolist() if other <= EARLIER * depth]
    return bool(earlier) and abs(earlier[-1] - error) <= SETTLED * error


def _kept_error(curves: Sequence[Curve]) -> str:
    """Say at what an error stays on the cases where it has settled, whatever the depth; where there
    are none, what it is at the deepest depth.
    """
    settled = [curve for curve in curves if _has_settled(curve)]
    ends = [_last(curve) for curve in settled or curves]
    errors = [end.error for end in ends]
    extent = " to ".join(dict.fromkeys(map(text.number, (min(errors), max(errors)))))
    if settled:
        return f"its error stays at {extent}, whatever the depth"
    depths = {end.depth for end in ends}
    where = f"at depth {depths.pop()}" if len(depths) == 1 else "at the deepest depths"
    return f"{where} its error is {extent}"
