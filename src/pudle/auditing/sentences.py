"""What an audit says: sentences for verdicts and their reasons."""

from collections.abc import Sequence

from ..text import number
from . import records
from .records import (
    Coverage,
    ExpectedGradient,
    Limitation,
    Obstacle,
    PartVerdict,
    Reason,
    Source,
    Unseen,
)

#: Entries that are named one by one.
NAMED_ENTRIES = 5
#: What a gap of few roundings of float32 asks.
PERHAPS_SINGLE = "is there float32, a difference quotient or the tolerance of a solver in its path?"
#: Of a right gradient whose own derivative is not.
NO_SECOND_DERIVATIVE = (
    "no second derivative: differentiated again, the gradient loses a part without an error; write"
    " the backward pass in what torch differentiates, or mark it with once_differentiable"
)
#: Of a gradient that another call has changed.
STALE = "a stale solution, that of another call: keep it in ctx, not on the layer"
#: Of one that grows with every call.
ACCUMULATED = "accumulated: each call adds to the gradient of the calls before"


def audit_text(verdicts: Sequence[PartVerdict]) -> str:
    """Return the verdict on the worst part in a line, then why, and the verdicts on the others."""
    worst, *others = verdicts
    lines = [f"{worst.verdict}: the gradient in {worst.name} {reasons_text(worst.reasons)}"]
    if worst.mistakes:
        label = "note" if worst.verdict == "right" else "likely mistake"
        lines.append(f"{label}: {' or '.join(worst.mistakes)}")
    for part in others:
        lines.append(f"{part.verdict}: that in {part.name} {reasons_text(part.reasons)}")
    return "\n  ".join(lines)


def reasons_text(reasons: Sequence[Reason]) -> str:
    """Return reasons as the rest of a sentence about a gradient."""
    return "; ".join(map(reason_text, reasons))


def reason_text(reason: Reason) -> str:  # noqa: C901  # a line for each kind of reason
    """Return a reason as the rest of a sentence about a gradient."""
    match reason:
        case records.NoEntries():
            return "has no entries"
        case records.NotFinite(n_entries):
            return f"has {n_entries} entries that are NaN or infinite"
        case records.NothingExpected(refusal):
            return f"cannot be told: {refusal}"
        case records.NotSeen(unseen):
            return f"cannot be told{places_text(unseen)}: {limitation_text(unseen.limitation)}"
        case records.Agrees(error, expected):
            return f"agrees to {number(error)} with {expected_text(expected)}"
        case records.Off(error, expected):
            return f"is off by {number(error)} of its norm from {expected_text(expected)}"
        case records.NoMoreKnown(limitation):
            return f"no more can be told: {limitation_text(limitation)}"
        case records.Contradicted(limitation):
            return f"smaller steps contradict that: {limitation_text(limitation)}"
        case records.AgreesInstead(expected):
            return f"it agrees with {expected_text(expected)}"
        case records.SolutionOff(error):
            return f"the layer's solution is off by {number(error)}"
        case records.PerhapsSingle():
            return PERHAPS_SINGLE
        case records.Tightened(moved, error):
            return f"tightened, the layer moves by {number(moved)} and the error is {number(error)}"
        case records.UnlessEarly(error, option, has_equation):
            others = "" if has_equation else ", step= or residual="
            return (
                f"wrong unless the layer runs a solver that ends some {number(error)} of its"
                f" solution's norm away from it: tighten={option}{others} would tell"
            )
        case records.MoreNames(n_entries):
            return (
                "more mistakes have a name where inputs and outputs have at most"
                f" {n_entries} entries"
            )
        case records.NotLinear(finding):
            where = incoming_text(finding.size)
            return f"but it is off by {number(finding.error)} of its norm {where}"
        case records.OutputsDiffer():
            return (
                "cannot be told: calls with the same inputs return different outputs; eval(), or a"
                " state that is the same in each call, would tell"
            )
        case records.InPrecision(dtype, error):
            return f"in {dtype} it is {number(error)} of its norm off"


def expected_text(expected: ExpectedGradient) -> str:
    """Return what an expected gradient is called, and how exact it is."""
    match expected.source:
        case Source.IMPLICIT_AT_OUTPUT:
            return "that at the returned solution"
        case Source.IMPLICIT:
            return f"the implicit gradient, exact to {number(expected.uncertainty)}"
        case Source.DIFFERENCES:
            exact = f"exact to {number(expected.uncertainty)}"
            return f"finite differences of the layer, {exact}{coverage_text(expected.coverage)}"


def coverage_text(coverage: Coverage | None) -> str:
    """Return what differences were taken of, if that is not all."""
    text = ""
    if coverage and coverage.symmetric:
        text += " (symmetric changes alone)"
    if coverage and coverage.n_directions is not None:
        text += (
            f" in {coverage.n_directions} directions, {coverage.n_left_out} of them left out for"
            " kinks or noise"
        )
    return text


def places_text(unseen: Unseen) -> str:
    """Return where entries are that were not seen, the first of them."""
    if not unseen.places:
        return ""
    named = ", ".join(str(list(place)) for place in unseen.places[:NAMED_ENTRIES])
    dots = " ..." if len(unseen.places) > NAMED_ENTRIES else ""
    return f" at {named}{dots}"


def limitation_text(limitation: Limitation) -> str:
    """Return why no more is known, and what would tell."""
    match limitation.obstacle:
        case Obstacle.ROUNDING:
            remedy = "float64"
            if limitation.in_double:
                remedy = "step=, residual= or inputs in other units"
            condition = f"the inputs have the condition {number(limitation.condition)}"
            return f"rounding hides it, as {condition}; {remedy} would tell"
        case Obstacle.NO_SLOPE:
            return "no slope was seen beyond noise and jumps; other inputs would tell"
        case Obstacle.KINK:
            return "a kink is too near; other inputs would tell"


def incoming_text(size: float) -> str:
    """Return at which incoming gradient a backward pass is not linear."""
    if size == 1:
        return "for a sum of two gradients that come in"
    times = f"{size:.0e}".replace("e+0", "e").replace("e-0", "e-")
    return f"where the gradient that comes in is {times} times as large"


def not_deterministic(distance: float) -> str:
    """Return the name of a mistake: two calls give different gradients."""
    return f"not deterministic: two calls differ by {number(distance)} of the gradient"
