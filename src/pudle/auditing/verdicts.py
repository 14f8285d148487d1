"""Verdicts on gradients, and the reasons for them, as records; `sentences` puts them in words."""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch

from .equation import Refusal
from .expected import ExpectedGradient, Obstacle, Source, Unseen
from .mistakes import Mistake

Outcome = Literal["wrong", "undecided", "inexact", "right"]
#: Verdicts from the worst.
OUTCOMES: tuple[Outcome, ...] = ("wrong", "undecided", "inexact", "right")


# --- reasons


@dataclass(frozen=True)
class NoEntries:
    """The part has no entries."""


@dataclass(frozen=True)
class InvalidEntries:
    """So many entries of the gradient are NaN or infinite."""

    number: int


@dataclass(frozen=True)
class NoImplicitGradient:
    """There is no implicit gradient to compare with."""

    refusal: Refusal


@dataclass(frozen=True)
class NotSeen:
    """Derivatives that the verdict would rest on could not be resolved."""

    unseen: Unseen


@dataclass(frozen=True)
class Agrees:
    """The gradient agrees with an expected gradient, up to an error relative to its size."""

    error: float
    source: Source


@dataclass(frozen=True)
class Differs:
    """The gradient is off by an error relative to the size of an expected gradient; of a single
    number also by which factor, None of more and where one of the two is zero.
    """

    error: float
    source: Source
    factor: float | None = None


@dataclass(frozen=True)
class NoMoreKnown:
    """The expected gradient is not known well enough."""

    obstacle: Obstacle


@dataclass(frozen=True)
class Contradicted:
    """Differences over smaller steps contradict the expected gradient."""

    obstacle: Obstacle


@dataclass(frozen=True)
class AgreesInstead:
    """The gradient is right for what the layer computes in place of its solution."""

    source: Source


@dataclass(frozen=True)
class SolutionMoved:
    """The layer's solution is off by this share of its norm; the equation may be another than the
    layer's if that is much, and the layer's own differences agree.
    """

    moved: float
    perhaps_another_equation: bool = False


@dataclass(frozen=True)
class SinglePrecisionNear:
    """The error is a few roundings of float32."""


@dataclass(frozen=True)
class Tightened:
    """With a tighter solver the layer moves by a share of its norm, and its error is another."""

    moved: float
    error: float


@dataclass(frozen=True)
class SolverWouldTell:
    """The gradient is wrong unless a solver ends that far from its solution: a tighter one, by the
    named option, would tell, and an equation, if none is given.
    """

    error: float
    option: str
    has_equation: bool


@dataclass(frozen=True)
class NoKnownMistake:
    """No known mistake explains the error; more have names with an equation, if none is given but
    can be, and for inputs and outputs of at most so many entries, which is 0 where they have no
    more.
    """

    wants_equation: bool
    n_entries: int


@dataclass(frozen=True)
class NotLinear:
    """The error for an incoming gradient of another size, or for a sum of two if that is one."""

    error: float
    size: float


@dataclass(frozen=True)
class InDtype:
    """In the dtype that the layer is given in, the gradient has this error."""

    dtype: torch.dtype
    error: float


@dataclass(frozen=True)
class OutputsDiffer:
    """Calls with the same inputs return different outputs."""


Reason = (
    NoEntries
    | InvalidEntries
    | NoImplicitGradient
    | NotSeen
    | Agrees
    | Differs
    | NoMoreKnown
    | Contradicted
    | AgreesInstead
    | SolutionMoved
    | SinglePrecisionNear
    | Tightened
    | SolverWouldTell
    | NoKnownMistake
    | NotLinear
    | InDtype
    | OutputsDiffer
)


# --- the verdict


class Verdict(NamedTuple):
    """The verdict on the gradient in one part.

    Attributes
    ----------
    name : str
        The part.
    outcome : str
        ``wrong``, ``undecided``, ``inexact`` or ``right``.
    error : float
        Distance of the gradient from the expected one, relative to its norm; NaN where none is
        known.
    reasons : tuple of Reason
        In the order in which they are read.
    mistakes : tuple of Mistake
        The likeliest ones.
    expected : ExpectedGradient or None
        What the gradient was compared with.
    """

    name: str
    outcome: Outcome
    error: float
    reasons: tuple[Reason, ...]
    mistakes: tuple[Mistake, ...] = ()
    expected: ExpectedGradient | None = None

    def severity(self) -> tuple[int, float]:
        """Return a key that sorts verdicts from the worst."""
        return OUTCOMES.index(self.outcome), -self.error


def worst_first(verdicts: list[Verdict]) -> list[Verdict]:
    """Return the verdicts with the worst at the front, unless all are right; the others keep their
    order. Of equal ones the first is the worst.
    """
    worst = min(verdicts, key=Verdict.severity)
    if worst.outcome == "right":
        return [*verdicts]
    return [worst, *(verdict for verdict in verdicts if verdict is not worst)]
