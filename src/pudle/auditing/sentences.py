"""The words of an audit: what its records say, as sentences."""

from collections.abc import Sequence
from typing import NamedTuple

from ..text import count, listing, number
from . import equation, expected, verdicts
from .equation import Refusal
from .expected import ExpectedGradient, Obstacle, Source
from .mistakes import Mistake, MistakeKind
from .verdicts import Outcome, Reason, Verdict

#: What a gap of few roundings of float32 asks.
SINGLE_PATH = "is there float32, a difference quotient or the tolerance of a solver in its path?"


class PartAudit(NamedTuple):
    """The verdict on the gradient in one input or parameter, in words.

    Attributes
    ----------
    name, verdict : str
    error : float
        See `Audit`.
    text : str
        Why, as the rest of a sentence.
    mistakes : tuple of str
        The likeliest mistakes, at most two.
    unexplained : str
        That no known mistake explains the error, and what would name more; empty where one is
        named, and where nothing is to be explained.
    expected : ExpectedGradient or None
        The gradient that it is compared with, and how far that may be off.
    """

    name: str
    verdict: Outcome
    error: float
    text: str
    mistakes: tuple[str, ...] = ()
    unexplained: str = ""
    expected: ExpectedGradient | None = None


def in_words(verdict: Verdict) -> PartAudit:
    """Put a verdict in words: its reasons as one text, its mistakes as one each, and that none is
    known, if that is a reason, apart.
    """
    unexplained = [
        reason for reason in verdict.reasons if isinstance(reason, verdicts.NoKnownMistake)
    ]
    reasons = [reason for reason in verdict.reasons if reason not in unexplained]
    return PartAudit(
        verdict.name,
        verdict.outcome,
        verdict.error,
        "; ".join(map(reason_in_words, reasons)),
        tuple(map(mistake_in_words, verdict.mistakes)),
        "" if verdict.mistakes else "".join(map(reason_in_words, unexplained)),
        verdict.expected,
    )


def report(parts: Sequence[PartAudit]) -> str:
    """Say the verdict on the first part in one line, then the likeliest mistakes in it, or that
    none is known, and the verdicts on the others, a line each.
    """
    first, *remaining = [
        f"{part.verdict}: the gradient in {part.name} {part.text}" for part in parts
    ]
    lines = [first]
    if mistakes := parts[0].mistakes:
        label = "note" if parts[0].verdict == "right" else "likely mistake"
        lines.append(f"{label}: {' or '.join(mistakes)}")
    elif parts[0].unexplained:
        lines.append(parts[0].unexplained)
    return "\n  ".join([*lines, *remaining])


# --- mistakes

THROUGH_PLACES = "the derivative through {places} places where the equation uses {used},"
OWN_FACTOR = "has a factor of its own, {0:.3g} to {1:.3g}"
#: What each kind of mistake is called, with its numbers and the name of another part.
MISTAKES = {
    MistakeKind.NEGATED: "negated",
    MistakeKind.HALF_TOO_MANY: "a factor 1/2 too many",
    MistakeKind.HALF_MISSING: "a factor 1/2 is missing",
    MistakeKind.MULTIPLE: "{0:.10g} times that, perhaps of a step size, a damping, a count or"
    " another loss",
    MistakeKind.DETACHED: "detached: no gradient arrives at all",
    MistakeKind.SUM_NOT_MEAN: "a sum over {0}, not a mean",
    MistakeKind.MEAN_NOT_SUM: "a mean over {0}, not a sum",
    MistakeKind.PART_OF_BATCH: "a part of the batch: {0} of {1} rows right",
    MistakeKind.HALF_OF_SYMMETRIC: "half of a symmetric matrix",
    MistakeKind.TRANSPOSED: "transposed",
    MistakeKind.WRONG_ENTRY: "wrong in entry {0} alone",
    MistakeKind.SINGLE_PRECISION: "float32 inside the backward pass",
    MistakeKind.CLIPPED: "clipped: the backward pass bounds the gradient that comes in",
    MistakeKind.THRESHOLDED: "thresholded: the backward pass drops small entries of the gradient"
    " that comes in",
    MistakeKind.NOT_MULTIPLIED: "the backward pass does not multiply by the gradient that comes in",
    MistakeKind.NOT_LINEAR: "the backward pass is not linear in the gradient that comes in",
    MistakeKind.JACOBIAN_NOT_TRANSPOSED: "the Jacobian in place of its transpose",
    MistakeKind.OUTPUTS_IGNORED: "entries of the output are ignored: {0} of {1}",
    MistakeKind.WRONG_PLACES: "right numbers at wrong places (a sum over the wrong axis)",
    MistakeKind.NOT_ZERO: "not zero where outputs do not depend on the input (a mask, a clamp, a"
    " straight-through estimator)",
    MistakeKind.OTHER_ENTRIES_MISSING: "how an output depends on other entries of the input is"
    " missing (through a mean, a sum or a norm)",
    MistakeKind.TERM_MISSING: "a term is missing or has another factor (a mean, a norm or a"
    " projection)",
    MistakeKind.ANOTHER_VALUE: "another value of the forward pass (before an activation, not"
    " after)",
    MistakeKind.OWN_FACTOR_OF_OUTPUT: f"each output {OWN_FACTOR}",
    MistakeKind.OWN_FACTOR_OF_INPUT: f"each entry of the input {OWN_FACTOR}",
    MistakeKind.OWN_FACTOR_OF_EQUATION: "each row of the equation's derivative in the input"
    f" {OWN_FACTOR}",
    MistakeKind.AVERAGED_OVER_BATCH: "the derivative is averaged over the batch",
    MistakeKind.EXCHANGED: "exchanged with the gradient in {name}",
    MistakeKind.ONE_STEP: "the system is not solved: one step is differentiated",
    MistakeKind.SOLVE_NOT_TRANSPOSED: "a solve with the Jacobian in place of its transpose",
    MistakeKind.DIRECT_PART_MISSING: "the direct part is missing",
    MistakeKind.SOLUTION_PATH_MISSING: "the path through the solution is missing",
    MistakeKind.JACOBIAN_AT_ZERO: "the Jacobian of the equation is taken at zero, not at the"
    " solution",
    MistakeKind.INVERSE_TWICE: "the inverse is applied twice (the gradient of the solver is kept in"
    " the graph: run it under torch.no_grad())",
    MistakeKind.EARLIER_SOLUTION: "a stale solution, that of an earlier call",
    MistakeKind.SERIES: "a truncated series of {0} terms in place of the solve",
    MistakeKind.MINIMUM_NORM: "a minimum-norm solve leaves out {singular_values}",
    MistakeKind.DAMPED: "the system is damped by {0:.3g} times the identity",
    MistakeKind.FACTOR_OF_JACOBIAN: "the system has I {sign} {magnitude:.3g} J in place of I - J",
    MistakeKind.PLACES_MISSING: f"{THROUGH_PLACES} is missing",
    MistakeKind.PLACES_HALVED: f"{THROUGH_PLACES} is halved",
    MistakeKind.PLACES_NEGATED: f"{THROUGH_PLACES} has the wrong sign",
    MistakeKind.PLACES_DOUBLED: f"{THROUGH_PLACES} is doubled",
    MistakeKind.STALE: "a stale solution, that of another call: keep it in ctx, not on the layer",
    MistakeKind.NOT_DETERMINISTIC: "not deterministic: two calls differ by {size} of the gradient",
    MistakeKind.ACCUMULATED: "accumulated: each call adds to the gradient of the calls before",
    MistakeKind.NO_SECOND_DERIVATIVE: "no second derivative: differentiated again, the gradient"
    " loses a part without an error; write the backward pass in what torch differentiates, or mark"
    " it with once_differentiable",
}


def mistake_in_words(mistake: Mistake) -> str:
    """Name a mistake."""
    first, *others = mistake.numbers or (0.0,)
    ordinals = listing([ordinal(int(place)) for place in others])
    operations = listing([*dict.fromkeys(mistake.operations)])
    return MISTAKES[mistake.kind].format(
        *mistake.numbers,
        name=mistake.name,
        size=number(first),
        sign="+" if first < 0 else "-",
        magnitude=abs(first),
        singular_values=count(int(first), "singular value"),
        places=f"{operations}, the {ordinals} of the {first:.0f}",
        used=f"what it computes from {mistake.name}" if mistake.computed else mistake.name,
    )


def ordinal(place: int) -> str:
    """Write the place of one of few in a row: ``1st``, ``2nd``, ``3rd``, ``4th``."""
    return {1: "1st", 2: "2nd", 3: "3rd"}.get(place, f"{place}th")


# --- where an expected gradient comes from


def source_in_words(source: Source) -> str:
    """Say what an expected gradient is called, in which directions it is known, and how
    exact it is itself.

    It is finite differences of the layer, the implicit gradient, or, without how exact that is, the
    implicit gradient at the returned solution.
    """
    match source:
        case expected.FromDifferences():
            text = "finite differences of the layer"
            if source.symmetric:
                text += " for symmetric changes of the input"
            if source.n_directions:
                text += f" in {source.n_directions} directions"
                if source.n_left_out:
                    text += f" ({source.n_left_out} of them left out for kinks or noise)"
            return f"{text}, which are themselves exact to {number(source.uncertainty)}"
        case expected.FromTheorem():
            return f"the implicit gradient, which is itself exact to {number(source.uncertainty)}"
        case expected.AtReturnedSolution():
            return "the implicit gradient at the solution that the layer returned"


# --- why no more is known


def obstacle_in_words(obstacle: Obstacle) -> str:
    """Say why no more is known of an expected gradient, and what would tell."""
    match obstacle:
        case expected.RoundingHides():
            remedy = "step=, residual= or inputs in other units" if obstacle.precise else "float64"
            inputs = f"the inputs have the condition {number(obstacle.condition)}"
            return f"rounding hides it, as {inputs}; {remedy} would tell"
        case expected.NoSlopeSeen():
            return "no slope was seen beyond noise and jumps; other inputs would tell"
        case expected.KinkNearby():
            return "a kink is too near; other inputs would tell"


# --- why there is no implicit gradient


def refusal_in_words(refusal: Refusal) -> str:
    """Say why there is no implicit gradient, and what to do where something can be done."""
    match refusal:
        case equation.ComplexOutputs():
            name = refusal.equation
            return f"{name} is for real outputs: let layer and {name} have torch.view_as_real of z"
        case equation.NoOutputs():
            return "the layer returns no entries"
        case equation.NewtonDiverges():
            return "Newton's method does not converge from the solution that the layer returns"
        case equation.AnotherEquation():
            name = refusal.equation
            return (
                f"the layer's output does not solve {name}, which moves it by"
                f" {refusal.moved:.1g} of its norm: is it {name}(z, *inputs), with the output as z?"
            )
        case equation.IllConditioned():
            name, condition = refusal.equation, number(refusal.condition)
            return (
                f"the system of {name} has the condition {condition}, too much for float64; inputs"
                f" in other units, or no {name}=, may tell"
            )
        case equation.AnotherBranch():
            return (
                f"the solution nearby is {refusal.moved:.1g} of its norm away from what the layer"
                " returns: another branch, or another equation"
            )
        case equation.KinkInSolution():
            return "the solution has a kink here: audit other inputs"
        case equation.DifferencesDisagree():
            name = refusal.equation
            return (
                f"differences of the solution give {refusal.by_differences:.6g} where the gradients"
                f" of {name} give {refusal.by_theorem:.6g}: audit {name} itself, or inputs farther"
                " from a kink"
            )
        case equation.Unsupported():
            # What another estimator would do is of no use to a layer.
            return refusal.reason.partition("; use")[0]


# --- reasons


def reason_in_words(reason: Reason) -> str:  # noqa: C901  # one case for each kind of reason
    """Say a reason, as a part of a sentence that begins with the gradient."""
    match reason:
        case verdicts.NoEntries():
            return "has no entries"
        case verdicts.InvalidEntries():
            return f"has {reason.number} entries that are NaN or infinite"
        case verdicts.NoImplicitGradient():
            return f"cannot be told: {refusal_in_words(reason.refusal)}"
        case verdicts.NotSeen():
            unseen = reason.unseen
            places = f" at {', '.join(map(str, unseen.entries))}" if unseen.entries else ""
            if unseen.has_more:
                places += " ..."
            return f"cannot be told{places}: {obstacle_in_words(unseen.obstacle)}"
        case verdicts.Agrees():
            return f"agrees to {number(reason.error)} with {source_in_words(reason.source)}"
        case verdicts.Differs():
            off = f"is off by {number(reason.error)} of its norm"
            if reason.factor is not None:
                off += f" ({reason.factor:.4g} times what it should be)"
            return f"{off} from {source_in_words(reason.source)}"
        case verdicts.NoMoreKnown():
            return f"no more can be told: {obstacle_in_words(reason.obstacle)}"
        case verdicts.Contradicted():
            return f"smaller steps contradict that: {obstacle_in_words(reason.obstacle)}"
        case verdicts.AgreesInstead():
            return f"it agrees with {source_in_words(reason.source)}"
        case verdicts.SolutionMoved():
            text = f"the layer's solution is off by {number(reason.moved)}"
            if reason.perhaps_another_equation:
                text += ": is this the equation of the layer? if so, its solver stops early"
            return text
        case verdicts.SinglePrecisionNear():
            return SINGLE_PATH
        case verdicts.Tightened():
            moved, error = number(reason.moved), number(reason.error)
            return f"tightened, the layer moves by {moved} and the error is {error}"
        case verdicts.SolverWouldTell():
            remedies = f"tighten={reason.option}"
            if not reason.has_equation:
                remedies += ", step= or residual="
            return (
                f"wrong unless the layer runs a solver that ends some {number(reason.error)} of its"
                f" solution's norm away from it: {remedies} would tell"
            )
        case verdicts.NoKnownMistake():
            conditions = []
            if reason.wants_equation:
                conditions.append("with step= or residual=")
            if reason.n_entries:
                entries = f"{reason.n_entries} entries"
                conditions.append(f"where inputs and outputs have at most {entries}")
            more = f"; more have a name {listing(conditions)}" if conditions else ""
            return f"no known mistake explains it{more}"
        case verdicts.NotLinear():
            if reason.size == 1:
                where = "for a sum of two gradients that come in"
            else:
                times = f"{reason.size:.0e}".replace("e+0", "e").replace("e-0", "e-")
                where = f"where the gradient that comes in is {times} times as large"
            return f"but it is off by {number(reason.error)} of its norm {where}"
        case verdicts.InDtype():
            return f"computed in {reason.dtype}, it is off by {number(reason.error)} of its norm"
        case verdicts.OutputsDiffer():
            return (
                "cannot be told: calls with the same inputs return different outputs; eval(), or a"
                " state that is the same in each call, would tell"
            )
