"""Rules that lead from evidence to verdicts, in their order.

Of `PART_RULES` the first that has a verdict on the gradient in a part decides. Of `LAYER_RULES` the
first that finds something, such as calls that differ, then replaces the verdicts or adds to them.

The gradient in a part is ``right`` if it agrees with the expected one; ``inexact`` if it agrees
with that of what the layer computes in place of its solution; ``wrong`` if the gap is a common
mistake's that no solver makes by stopping early, if tightening the solver leaves it, or if it is
more than the solver can explain; else ``undecided``.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from ..errors import InvalidArgument, first_line
from .differences import BEYOND, RESOLVED
from .distances import EXACT, ROUNDED, distance
from .evidence import CALLS, MAX_JACOBIAN, LayerEvidence, PartEvidence
from .expected import ExpectedGradient, FromDifferences, Source
from .layer import Array, only_single
from .linearity import Nonlinearity, nonlinearities
from .mistakes import Mistake, MistakeKind
from .tightening import option_of, tightened
from .verdicts import (
    Agrees,
    AgreesInstead,
    Contradicted,
    Differs,
    InvalidEntries,
    NoEntries,
    NoImplicitGradient,
    NoKnownMistake,
    NoMoreKnown,
    NotLinear,
    NotSeen,
    Outcome,
    OutputsDiffer,
    Reason,
    SinglePrecisionNear,
    SolutionMoved,
    SolverWouldTell,
    Tightened,
    Verdict,
)

#: Share of its norm by which a solver seldom misses its solution.
FAR_OFF = 0.01

# --- on the gradient in one part


def no_entries(evidence: PartEvidence) -> Verdict | None:
    """Leave a part without entries undecided; None for any other part."""
    if evidence.gradient.size:
        return None
    return Verdict(evidence.part.name, "undecided", np.nan, (NoEntries(),))


def nothing_to_compare(evidence: PartEvidence) -> Verdict | None:
    """Call NaN and infinite entries wrong, and leave undecided what has nothing to compare with: no
    implicit gradient, or an expected one that was not all resolved and has no values, or is to be
    compared with such entries. None for a finite gradient with an expected one.
    """
    name = evidence.part.name
    n_invalid = int((~np.isfinite(evidence.gradient)).sum())
    reasons: list[Reason] = [InvalidEntries(n_invalid)] if n_invalid else []
    expected = evidence.expected_or_refusal
    if not isinstance(expected, ExpectedGradient):
        return Verdict(name, "undecided", np.nan, (*reasons, NoImplicitGradient(expected)))
    if expected.unseen and (n_invalid or not expected.values.size):
        return Verdict(name, "undecided", np.nan, (*reasons, NotSeen(expected.unseen)))
    return Verdict(name, "wrong", np.inf, tuple(reasons)) if n_invalid else None


def agrees_with_expected(evidence: PartEvidence) -> Verdict | None:
    """Call a gradient right that agrees with the expected one, and leave it undecided if that was
    not all seen, or is not known to `RESOLVED`; None if it does not agree.
    """
    expected = evidence.expected
    if not expected.agrees(evidence.gradient):
        return None
    if expected.unseen:
        return verdict_on(evidence, "undecided", NotSeen(expected.unseen))
    if evidence.error + expected.uncertainty > RESOLVED:
        return verdict_on(
            evidence, "undecided", difference_reason(evidence), NoMoreKnown(expected.obstacle)
        )
    return verdict_on(evidence, "right", Agrees(evidence.error, expected.source))


def expected_contradicted(evidence: PartEvidence) -> Verdict | None:
    """Leave undecided where smaller differences contradict the expected gradient; None where they
    do not, and for one that is not by differences.
    """
    if not evidence.contradicted():
        return None
    return verdict_on(
        evidence, "undecided", difference_reason(evidence), Contradicted(evidence.expected.obstacle)
    )


def right_for_what_is_computed(evidence: PartEvidence) -> Verdict | None:
    """Call a gradient inexact that is right for what the layer computes, not for its solution; None
    without an equation.
    """
    for computed in evidence.computed_instead():
        if computed.agrees(evidence.gradient):
            instead = AgreesInstead(computed.source)
            return verdict_on(
                evidence,
                "inexact",
                difference_reason(evidence),
                instead,
                *solution_reasons(evidence, computed.source),
            )
    return None


def within_single_precision(evidence: PartEvidence) -> Verdict | None:
    """Call an error of few roundings of float32, below `ROUNDED`, inexact, or wrong in a layer of
    float64 whose gradient is all float32; None for a larger error.
    """
    if not evidence.error < ROUNDED:
        return None
    if evidence.layer_evidence.precise and only_single([evidence.gradient]):
        mistakes = (Mistake(MistakeKind.SINGLE_PRECISION),)
        return verdict_on(evidence, "wrong", difference_reason(evidence), mistakes=mistakes)
    return verdict_on(evidence, "inexact", difference_reason(evidence), SinglePrecisionNear())


def common_mistake(evidence: PartEvidence) -> Verdict | None:
    """Call wrong what a common mistake explains and no solver that stops early: by its kind, or by
    an error that is larger than a solver can explain. None if no such mistake explains it.
    """
    certain, mistakes = evidence.likely_mistakes
    if certain or (mistakes and evidence.error > evidence.expected.max_solver_error):
        return verdict_on(evidence, "wrong", difference_reason(evidence), mistakes=mistakes)
    return None


def tighter_solver(evidence: PartEvidence) -> Verdict | None:
    """Let the layer with a tighter solver decide, or return None where none is given. That layer is
    called, and is differentiated if its outputs differ from those of the audited one by more than
    `EXACT`.

    The gradient is inexact if its error falls to a third or less; wrong if the outputs differ by at
    most a tenth of the error, both relative; else undecided. InvalidArgument says that the layer
    has no such option, or that it is no number.
    """
    layer_evidence = evidence.layer_evidence
    if layer_evidence.tighten is None:
        return None
    layer = replace(
        layer_evidence.layer, call=tightened(layer_evidence.layer.call, layer_evidence.tighten)
    )
    tight = replace(layer_evidence, layer=layer, tighten=None, outputs=layer.output_arrays())
    moved, error = max(map(distance, tight.outputs, layer_evidence.outputs)), evidence.error
    if moved > EXACT:
        error = judge_part(PartEvidence(tight, evidence.part, layer.gradient(layer.theta))).error
    reasons = difference_reason(evidence), Tightened(moved, error)
    if error <= evidence.error / 3:
        return verdict_on(evidence, "inexact", *reasons)
    if moved <= evidence.error / BEYOND:
        return verdict_on(evidence, "wrong", *reasons, mistakes=evidence.likely_mistakes.mistakes)
    return verdict_on(evidence, "undecided", *reasons, *unexplained_reasons(evidence))


def within_solution_error(evidence: PartEvidence) -> Verdict | None:
    """Call a gradient inexact whose error is at most ten times the change of the gradient from the
    layer's solution to the refined one; a truncated series is named where it explains the error.
    None for a larger error, and without an equation.
    """
    if not evidence.error <= BEYOND * evidence.expected.change_by_refining:
        return None
    reasons = difference_reason(evidence), *solution_reasons(evidence)
    return verdict_on(evidence, "inexact", *reasons, mistakes=truncated_series(evidence))


def perhaps_a_solver(evidence: PartEvidence) -> Verdict | None:
    """Leave undecided what a solver that stops early can explain, with the option that would tell;
    None for a larger error, and for a layer that has neither a loop nor an equation.
    """
    if not evidence.error <= evidence.expected.max_solver_error:
        return None
    layer_evidence = evidence.layer_evidence
    option = option_of(layer_evidence.layer.call)
    would_tell = SolverWouldTell(evidence.error, option, layer_evidence.equation is not None)
    reasons = difference_reason(evidence), would_tell, *unexplained_reasons(evidence)
    return verdict_on(evidence, "undecided", *reasons, mistakes=truncated_series(evidence))


def beyond_the_solver(evidence: PartEvidence) -> Verdict:
    """Call wrong what is left, with the likeliest mistakes."""
    return verdict_on(
        evidence, "wrong", difference_reason(evidence), mistakes=evidence.likely_mistakes.mistakes
    )


#: The rules on the gradient in one part.
PART_RULES: tuple[Callable[[PartEvidence], Verdict | None], ...] = (
    no_entries,
    nothing_to_compare,
    agrees_with_expected,
    expected_contradicted,
    right_for_what_is_computed,
    within_single_precision,
    common_mistake,
    tighter_solver,
    within_solution_error,
    perhaps_a_solver,
)


def judge_part(evidence: PartEvidence) -> Verdict:
    """Return the verdict of the first rule that has one, or ``wrong`` if none has one, or if the
    gradient is not linear in the one that comes in.
    """
    for rule in PART_RULES:
        if decided := rule(evidence):
            break
    else:
        decided = beyond_the_solver(evidence)
    return with_nonlinearity(decided, evidence.nonlinearity) if evidence.nonlinearity else decided


def with_nonlinearity(usual: Verdict, nonlinearity: Nonlinearity) -> Verdict:
    """Return a verdict ``wrong`` for a gradient that is not linear in the incoming one, given the
    verdict of the usual incoming gradient.

    A usual verdict that is wrong already keeps its error and its reasons, and has the mistake added
    as the first; of its own mistakes one is kept. Any other gets the error of the nonlinearity, one
    more reason, and that mistake alone.
    """
    mistake = nonlinearity.mistake
    if usual.outcome == "wrong":
        mistakes = tuple(dict.fromkeys([mistake, *usual.mistakes]))[:2]
        return usual._replace(mistakes=mistakes)
    reason = NotLinear(nonlinearity.error, nonlinearity.size)
    return usual._replace(
        outcome="wrong",
        error=nonlinearity.error,
        reasons=(*usual.reasons, reason),
        mistakes=(mistake,),
    )


def verdict_on(
    evidence: PartEvidence,
    outcome: Outcome,
    *reasons: Reason,
    mistakes: tuple[Mistake, ...] = (),
) -> Verdict:
    """Return a verdict with the part, the error and the expected gradient of its evidence.

    A wrong one without a mistake says that none is known, as its last reason.
    """
    if outcome == "wrong" and not mistakes:
        reasons = *reasons, *unexplained_reasons(evidence)
    name = evidence.part.name
    return Verdict(name, outcome, evidence.error, reasons, mistakes, evidence.expected)


def difference_reason(evidence: PartEvidence) -> Reason:
    """Return the reason that a gradient is off from the expected one; of a single number that is
    off by more than `RESOLVED`, with the factor.
    """
    expected, factor = evidence.expected, None
    if evidence.gradient.size == expected.values.size == 1 and evidence.error > RESOLVED:
        (compared,), (value,) = expected.compared_entries(evidence.gradient), expected.values
        factor = float(compared / value) if compared and value else None
    return Differs(evidence.error, expected.source, factor)


def solution_reasons(evidence: PartEvidence, agreeing: Source | None = None) -> list[Reason]:
    """Return the reason that the layer's solution is off, in a list, empty without an equation.

    The equation may be another than the layer's where it is off by more than `FAR_OFF`, and the
    gradient agrees with the layer's own differences, the source `agreeing`.
    """
    moved = evidence.expected.solution_moved
    if moved is None:
        return []
    return [SolutionMoved(moved, moved > FAR_OFF and isinstance(agreeing, FromDifferences))]


def unexplained_reasons(evidence: PartEvidence) -> list[Reason]:
    """Return the reason that no known mistake explains the error, in a list, empty where one does:
    it may be one that is not named, because the gradient may be right.
    """
    if evidence.likely_mistakes.mistakes:
        return []
    wants_equation = evidence.layer_evidence.equation is None
    return [NoKnownMistake(wants_equation, MAX_JACOBIAN if evidence.too_large_for_jacobian else 0)]


def truncated_series(evidence: PartEvidence) -> tuple[Mistake, ...]:
    """Return the truncated series among the likely mistakes: where the gradient may be right, other
    names would mislead.
    """
    mistakes = evidence.likely_mistakes.mistakes
    return tuple(mistake for mistake in mistakes if mistake.kind is MistakeKind.SERIES)


# --- on a layer that is called several times


@dataclass(frozen=True, eq=False)
class RepeatedCalls:
    """The gradients of several calls of a layer, and the verdicts on the first one.

    Attributes
    ----------
    evidence : LayerEvidence
    gradients : list of ndarray
        Of three calls with the same inputs, and of one more, between whose forward and backward
        pass the layer is called elsewhere.
    changes : list of float
        How far each gradient is from the first one, in the part where that is most.
    verdicts : list of Verdict
        On the first gradient, one for each part.
    """

    evidence: LayerEvidence
    gradients: list[Array]
    changes: list[float]
    verdicts: list[Verdict]

    @property
    def gradient_changes(self) -> bool:
        """True if a call has another gradient than the first; NaN is no change."""
        return max(self.changes) > RESOLVED


def outputs_differ(calls: RepeatedCalls) -> list[Verdict] | None:
    """Leave all parts undecided where a layer moves by itself, such as with a clock or a state that
    goes on, not from what an earlier call has left.

    It is None where the outputs repeat, and where they seldom differ and no gradient is
    conspicuous.
    """
    evidence = calls.evidence
    if evidence.outputs_repeat():
        return None
    has_wrong = any(verdict.outcome == "wrong" for verdict in calls.verdicts)
    conspicuous = calls.gradient_changes or has_wrong
    if not conspicuous and 2 * evidence.n_distinct_values <= CALLS:
        return None
    return [
        verdict._replace(outcome="undecided", reasons=(OutputsDiffer(),), mistakes=())
        for verdict in calls.verdicts
    ]


def gradients_differ(calls: RepeatedCalls) -> list[Verdict] | None:
    """Name what makes two calls with the same inputs return different gradients: chance, or that
    each call adds to the gradient; None where they do not.

    Parts that are right stay so; the others are wrong, or undecided if the loss differs too.
    """
    layer = calls.evidence.layer
    first, second, third, _ = calls.gradients
    change = layer.largest_distance(third, second)
    if not change > RESOLVED:
        return None
    outcome: Outcome = "wrong" if calls.evidence.n_distinct_values == 1 else "undecided"
    mistake = Mistake(MistakeKind.NOT_DETERMINISTIC, (change,))
    if layer.largest_distance(third - second, second - first) < ROUNDED:
        mistake = Mistake(MistakeKind.ACCUMULATED)
    return [
        verdict
        if verdict.outcome == "right"
        else verdict._replace(outcome=outcome, mistakes=(mistake,))
        for verdict in calls.verdicts
    ]


def remembers_another_call(calls: RepeatedCalls) -> list[Verdict] | None:
    """Call a part wrong that is right in some calls alone: the layer keeps what another call found.
    None where the gradient never changes.
    """
    if not calls.gradient_changes:
        return None
    evidence, verdicts = calls.evidence, list[Verdict]()
    farthest = calls.gradients[np.argmax(calls.changes)]
    for part, first in zip(evidence.layer.parts, calls.verdicts, strict=True):
        changed = judge_part(PartEvidence(evidence, part, farthest))
        worst, best = sorted((first, changed), key=Verdict.severity)
        if worst.outcome == "right":
            verdicts.append(first)
            continue
        outcome: Outcome = "wrong" if best.outcome == "right" else worst.outcome
        verdicts.append(worst._replace(outcome=outcome, mistakes=(Mistake(MistakeKind.STALE),)))
    return verdicts


def loses_second_derivative(calls: RepeatedCalls) -> list[Verdict] | None:
    """Note, as a mistake, where right gradients have a wrong derivative of their own; the verdicts
    stay right. None if one is not right, in single precision, and where nothing is wrong.
    """
    all_right = all(verdict.outcome == "right" for verdict in calls.verdicts)
    precise = calls.evidence.precise
    if not (all_right and precise and calls.evidence.has_wrong_second_derivative()):
        return None
    note = (Mistake(MistakeKind.NO_SECOND_DERIVATIVE),)
    return [verdict._replace(mistakes=note) for verdict in calls.verdicts]


#: The rules on a layer that is called several times.
LAYER_RULES: tuple[Callable[[RepeatedCalls], list[Verdict] | None], ...] = (
    outputs_differ,
    gradients_differ,
    remembers_another_call,
    loses_second_derivative,
)


def judge_layer(evidence: LayerEvidence) -> list[Verdict]:
    """Call and differentiate a layer several times, and return the verdict on each part, in the
    order of the parts.

    The verdicts are those of the first rule in `LAYER_RULES` that finds something, as that calls
    differ; else each is that of `judge_part` on the first gradient.

    Raises
    ------
    InvalidArgument
        If the layer returns NaN or infinite entries, or its gradient raises a RuntimeError; another
        error is raised as it is.
    """
    if not all(np.isfinite(output).all() for output in evidence.outputs):
        raise InvalidArgument("the layer returns NaN or infinite entries: audit other inputs")
    calls = repeated_calls(evidence)
    for rule in LAYER_RULES:
        if verdicts := rule(calls):
            return verdicts
    return calls.verdicts


def repeated_calls(evidence: LayerEvidence) -> RepeatedCalls:
    """Differentiate a layer elsewhere, then four times at its inputs, and judge the first gradient
    of these.

    Where these agree, it is also tested for being linear in what comes in. A RuntimeError becomes
    InvalidArgument.
    """
    layer, elsewhere = evidence.layer, evidence.elsewhere
    try:
        layer.gradient(elsewhere)
        gradients = [layer.gradient(layer.theta) for _ in range(3)]
        gradients.append(layer.gradient(layer.theta, between=elsewhere))
    except RuntimeError as error:
        raise InvalidArgument(f"the layer's gradient fails: {first_line(error)}") from error
    nonlinear: list[Nonlinearity | None] = [None] * len(layer.parts)
    changes = [layer.largest_distance(gradient, gradients[0]) for gradient in gradients]
    if max(changes) <= RESOLVED:
        nonlinear = nonlinearities(layer, gradients[0], evidence.precise)
    verdicts = [
        judge_part(PartEvidence(evidence, part, gradients[0], nonlinearity))
        for part, nonlinearity in zip(layer.parts, nonlinear, strict=True)
    ]
    return RepeatedCalls(evidence, gradients, changes, verdicts)
