"""The rules by which a gradient in one part is judged, in their order: the first that gives a
verdict has the word.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from ..errors import UnsupportedProblem, first_line
from . import records
from .audited_layer import MOST_ENTRIES, AuditedLayer
from .differences import BEYOND, RESOLVED
from .distances import EXACT, ROUNDED, distance
from .expected import expected_gradient, is_contradicted, right_instead
from .layer import Array, Piece, only_single
from .linearity import Finding, Nonlinearity
from .mistakes import (
    MULTIPLE,
    SERIES,
    SINGLE,
    Mistakes,
    most_likely,
    of_batch,
    of_equation,
    of_jacobian,
    of_parts,
    of_system,
    of_worst_entry,
    without_equation,
)
from .records import ExpectedGradient, PartVerdict, Reason, Ruling
from .tightening import option_of, tightened


@dataclass(frozen=True, eq=False)
class Claim:
    """The gradient in one part that a layer's backward pass gives, beside what it should be.

    Attributes
    ----------
    audited : AuditedLayer
    part : Piece
    whole_gradient : ndarray
        The layer's gradient in all parts.
    finding : Finding or None
        How the gradient in this part is not linear in the one that comes in.
    """

    audited: AuditedLayer
    part: Piece
    whole_gradient: Array
    finding: Finding | None = None

    @cached_property
    def gradient(self) -> Array:
        """The gradient in the part."""
        return self.whole_gradient[self.part.span]

    @property
    def n_not_finite(self) -> int:
        """How many entries of it are NaN or infinite."""
        return int((~np.isfinite(self.gradient)).sum())

    @cached_property
    def expected(self) -> ExpectedGradient:
        """What it should be."""
        return expected_gradient(self.audited, self.part)

    @cached_property
    def error(self) -> float:
        """Its distance from what it should be, as far as that was seen."""
        expected = self.expected
        return distance(expected.seen(self.gradient), expected.values, expected.size)

    @property
    def off(self) -> records.Off:
        """The reason that it is off."""
        return records.Off(self.error, self.expected)

    @cached_property
    def likely_mistakes(self) -> tuple[bool, tuple[str, ...]]:
        """Whether there is a mistake that no solver makes, and the likeliest ones, at most two."""
        expected, span = self.expected, self.part.span
        seen = expected.seen(self.gradient)
        slack = max(RESOLVED * (self.gradient.size > 2), 3 * expected.solution_share)
        strong, mistakes = most_likely(seen, expected.values, mistakes_of(self, seen), slack)
        if strong or self.audited.has_large_jacobian:
            return strong, mistakes
        backward, differences = self.audited.layer.jacobians
        claimed, due = backward[:, span], differences[:, span]
        strong, more = most_likely(claimed, due, mistakes_of_jacobian(self, claimed, due), slack)
        # With the zeros of a Jacobian a factor is met more easily.
        more = tuple(name for name in more if not name.endswith(MULTIPLE))
        return strong, more if strong else (*mistakes, *more)[:2]


# --- mistakes that a claim may show


def mistakes_of(claim: Claim, seen: Array) -> Mistakes:
    """Yield what common mistakes make of the gradient in the part."""
    audited, expected, span = claim.audited, claim.expected, claim.part.span
    yield from mistakes_of_linearity(claim, seen)
    if expected.directions is not None and len(seen) > 1:
        yield of_worst_entry(seen, expected.values, expected.directions)
    yield from without_equation(claim.part, audited.outputs, seen, expected.values)
    if audited.equation:
        pairs = of_equation(audited.equation, claim.whole_gradient, audited.elsewhere)
        for name, whole in pairs:
            yield name, whole[span]


def mistakes_of_linearity(claim: Claim, seen: Array) -> Mistakes:
    """Yield that the gradient is not linear in the one that comes in, where it is not."""
    if claim.finding:
        yield claim.finding.kind.value, seen
        return
    layer = claim.audited.layer
    twice = replace(layer, loss=lambda outputs, *inputs: 2 * layer.lost(outputs, inputs))
    doubled = twice.gradient(layer.theta)[claim.part.span]
    if claim.gradient.any() and distance(doubled, claim.gradient) < ROUNDED:
        yield Nonlinearity.NOT_MULTIPLIED.value, seen
    elif distance(doubled, 2 * claim.gradient) > RESOLVED:
        yield Nonlinearity.NOT_LINEAR.value, seen


def mistakes_of_jacobian(claim: Claim, claimed: Array, due: Array) -> Mistakes:
    """Yield what common mistakes make of the Jacobian in the part."""
    audited, part = claim.audited, claim.part
    yield from of_jacobian(claimed, due)
    yield from of_batch(part, due)
    yield from of_parts(part, audited.layer)
    if audited.equation:
        yield from of_system(audited.equation, claimed, due)


# --- rules: a claim -> a ruling, or None where they say nothing


def nothing_to_judge(claim: Claim) -> Ruling | None:
    """Say nothing of a part without entries."""
    if claim.gradient.size:
        return None
    return Ruling("undecided", (records.NoEntries(),), error=np.nan)


def not_finite_or_unknown(claim: Claim) -> Ruling | None:
    """Call NaN and infinite entries wrong where a derivative exists; where none is known, nothing
    can be told: nothing else than NaN can be returned there.
    """
    reasons: list[Reason] = []
    if claim.n_not_finite:
        reasons.append(records.NotFinite(claim.n_not_finite))
    obstacle = obstacle_of(claim)
    if obstacle:
        reasons.append(obstacle)
        return Ruling("undecided", tuple(reasons), error=np.nan)
    return Ruling("wrong", tuple(reasons), error=np.inf) if reasons else None


def obstacle_of(claim: Claim) -> Reason | None:
    """Return why nothing is known to compare a claim with."""
    try:
        expected = claim.expected
    except UnsupportedProblem as refused:
        return records.NothingExpected(first_line(refused).partition("; use")[0])
    if expected.unseen and (claim.n_not_finite or not expected.values.size):
        return records.NotSeen(expected.unseen)
    return None


def agrees(claim: Claim) -> Ruling | None:
    """Call right what agrees with the expected gradient, as far as that is known."""
    expected = claim.expected
    if not expected.agrees(claim.gradient):
        return None
    if expected.unseen:
        return Ruling("undecided", (records.NotSeen(expected.unseen),))
    if claim.error + expected.uncertainty > RESOLVED:
        return Ruling("undecided", (claim.off, records.NoMoreKnown(expected.limitation)))
    return Ruling("right", (records.Agrees(claim.error, expected),))


def contradicted(claim: Claim) -> Ruling | None:
    """Believe no differences that smaller steps contradict."""
    if not is_contradicted(claim.audited, claim.part, claim.expected, claim.gradient):
        return None
    return Ruling("undecided", (claim.off, records.Contradicted(claim.expected.limitation)))


def right_for_what_is_computed(claim: Claim) -> Ruling | None:
    """Call inexact what is right for the solution that the layer returns, which is not exact."""
    for instead in right_instead(claim.audited, claim.part, claim.expected):
        if instead.agrees(claim.gradient):
            reasons = (claim.off, records.AgreesInstead(instead), *solution_off(claim))
            return Ruling("inexact", reasons)
    return None


def single_precision(claim: Claim) -> Ruling | None:
    """Tell a gap of few roundings of float32 from others."""
    if not claim.error < ROUNDED:
        return None
    if claim.audited.in_double and only_single([claim.gradient]):
        return Ruling("wrong", (claim.off,), (SINGLE,))
    return Ruling("inexact", (claim.off, records.PerhapsSingle()))


def common_mistake(claim: Claim) -> Ruling | None:
    """Call wrong what is a common mistake's that no solver makes by stopping early."""
    strong, mistakes = claim.likely_mistakes
    if strong or (mistakes and claim.error > claim.expected.early_stop_error):
        return Ruling("wrong", (claim.off,), mistakes)
    return None


def tighter_solver(claim: Claim) -> Ruling | None:
    """See whether a tighter solver leaves the gap."""
    audited, error = claim.audited, claim.error
    if audited.tighten is None:
        return None
    layer = replace(audited.layer, call=tightened(audited.layer.call, audited.tighten))
    tight = replace(audited, layer=layer, tighten=None)
    moved, error_after = max(map(distance, tight.outputs, audited.outputs)), error
    if moved > EXACT:
        tight_claim = Claim(tight, claim.part, layer.gradient(layer.theta))
        error_after = verdict_on(tight_claim).error
    reasons = (claim.off, records.Tightened(moved, error_after))
    if error_after <= error / 3:
        return Ruling("inexact", reasons)
    if moved <= error / BEYOND:
        _, mistakes = claim.likely_mistakes
        return Ruling("wrong", reasons, mistakes)
    return Ruling("undecided", reasons)


def early_stop(claim: Claim) -> Ruling | None:
    """Excuse a gap that is no larger than what a solver leaves that stops early."""
    expected = claim.expected
    # It may be right: other hints would mislead.
    _, mistakes = claim.likely_mistakes
    series = tuple(name for name in mistakes if name.startswith(SERIES))
    if claim.error <= BEYOND * expected.solution_share:
        return Ruling("inexact", (claim.off, *solution_off(claim)), series)
    if claim.error <= expected.early_stop_error:
        audited = claim.audited
        option = option_of(audited.layer.call)
        has_equation = audited.given_equation is not None
        unless_early = records.UnlessEarly(claim.error, option, has_equation)
        return Ruling("undecided", (claim.off, unless_early), series)
    return None


def unexplained(claim: Claim) -> Ruling:
    """Call wrong what nothing explains."""
    return Ruling("wrong", (claim.off,), claim.likely_mistakes[1])


#: All rules but the last one, `unexplained`, in their order.
RULES: tuple[Callable[[Claim], Ruling | None], ...] = (
    nothing_to_judge,
    not_finite_or_unknown,
    agrees,
    contradicted,
    right_for_what_is_computed,
    single_precision,
    common_mistake,
    tighter_solver,
    early_stop,
)


def solution_off(claim: Claim) -> Iterator[Reason]:
    """Yield how far the layer's solution is off, where an equation tells."""
    if claim.expected.solution_error is not None:
        yield records.SolutionOff(claim.expected.solution_error)


def verdict_on(claim: Claim) -> PartVerdict:
    """Return the verdict of the first rule that has one, which is ``wrong`` at least if the
    gradient is not linear in the one that comes in.
    """
    rulings = (rule(claim) for rule in RULES)
    ruling = next(filter(None, rulings), None) or unexplained(claim)
    verdict = part_verdict(claim, ruling)
    return not_linear(verdict, claim.finding) if claim.finding else verdict


def part_verdict(claim: Claim, ruling: Ruling) -> PartVerdict:
    """Return a ruling with the error that it is about, and what the claim was compared with."""
    name, reasons = claim.part.name, ruling.reasons
    if ruling.error is not None:
        return PartVerdict(name, ruling.verdict, ruling.error, reasons)
    if ruling.verdict == "wrong" and not ruling.mistakes and claim.audited.has_large_jacobian:
        reasons = *reasons, records.MoreNames(MOST_ENTRIES)
    return PartVerdict(name, ruling.verdict, claim.error, reasons, ruling.mistakes, claim.expected)


def not_linear(verdict: PartVerdict, finding: Finding) -> PartVerdict:
    """Return the verdict ``wrong`` in place of one that the usual incoming gradient leads to, or
    add the name to it.
    """
    mistakes = tuple(dict.fromkeys([finding.kind.value, *verdict.mistakes]))[:2]
    if verdict.verdict == "wrong":
        return replace(verdict, mistakes=mistakes)
    return replace(
        verdict,
        verdict="wrong",
        error=finding.error,
        reasons=(*verdict.reasons, records.NotLinear(finding)),
        mistakes=mistakes[:1],
    )
