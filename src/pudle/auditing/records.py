"""What an audit finds, as numbers and kinds: the verdict on each part and its reasons.

The words for them are made in `pudle.auditing.sentences`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

import numpy as np

from .layer import Array
from .linearity import Finding

#: Verdicts from the worst.
VERDICTS = ("wrong", "undecided", "inexact", "right")


class Source(Enum):
    """Where an expected gradient comes from."""

    DIFFERENCES = "differences of the layer"
    IMPLICIT = "the implicit function theorem at the refined solution"
    IMPLICIT_AT_OUTPUT = "the implicit function theorem at the solution that the layer returns"


class Obstacle(Enum):
    """What keeps an expected gradient from being known better."""

    ROUNDING = "rounding"
    NO_SLOPE = "no slope was seen beyond noise and jumps"
    KINK = "a kink is too near"


@dataclass(frozen=True)
class Limitation:
    """Why an expected gradient is not known better.

    Attributes
    ----------
    obstacle : Obstacle
    condition : float
        Noise of the values relative to their rounding, or the condition number of the system.
    in_double : bool
        Whether the layer computes in float64.
    """

    obstacle: Obstacle
    condition: float
    in_double: bool


@dataclass(frozen=True)
class Unseen:
    """That too little of the expected gradient is known: which entries are not, as far as they have
    places of their own, and why.
    """

    places: tuple[tuple[int, ...], ...]
    limitation: Limitation


@dataclass(frozen=True)
class Coverage:
    """What differences were taken of: one half of a symmetric matrix alone, all coordinates or some
    directions, and how many of these were left out.
    """

    symmetric: bool
    n_directions: int | None = None
    n_left_out: int = 0


@dataclass(frozen=True, eq=False)
class ExpectedGradient:
    """What a gradient in a part is compared with.

    Attributes
    ----------
    source : Source
    values : ndarray
        The gradient, or its derivatives along directions.
    allowed : ndarray
        How far from it a right gradient may be, in each entry.
    size : float
        What errors are relative to.
    uncertainty : float
        How far it is off at most itself, relative to the size.
    limitation : Limitation
        Why no more is known.
    directions : ndarray or None
        The directions, one a row; None where all entries are compared.
    unseen : Unseen or None
        That not all that counts was seen.
    coverage : Coverage or None
        What differences were taken of.
    solution_share : float
        How much the error of the layer's solution changes of the gradient.
    early_stop_error : float
        Error up to which a solver that stops early may be to blame.
    solution_error : float or None
        How far the layer's solution is off, where an equation tells.
    """

    source: Source
    values: Array
    allowed: Array
    size: float
    uncertainty: float
    limitation: Limitation
    directions: Array | None = None
    unseen: Unseen | None = None
    coverage: Coverage | None = None
    solution_share: float = 0.0
    early_stop_error: float = 0.0
    solution_error: float | None = None

    def seen(self, gradient: Array) -> Array:
        """Return what is compared of a gradient: its entries, or its slopes along directions."""
        return gradient if self.directions is None else self.directions @ gradient

    def agrees(self, gradient: Array) -> bool:
        """Tell whether a gradient is right if this is the expected one."""
        return bool((np.abs(self.seen(gradient) - self.values) <= self.allowed).all())


# --- reasons of a verdict, in the order of the rules that give them


@dataclass(frozen=True)
class NoEntries:
    """The part has no entries."""


@dataclass(frozen=True)
class NotFinite:
    """Entries of the gradient are NaN or infinite."""

    n_entries: int


@dataclass(frozen=True)
class NothingExpected:
    """There is no expected gradient; the text of the refusal says why."""

    refusal: str


@dataclass(frozen=True)
class NotSeen:
    """Too little of the expected gradient is known."""

    unseen: Unseen


@dataclass(frozen=True)
class Agrees:
    """The gradient agrees with the expected one."""

    error: float
    expected: ExpectedGradient


@dataclass(frozen=True)
class Off:
    """The gradient is off by an error from the expected one."""

    error: float
    expected: ExpectedGradient


@dataclass(frozen=True)
class NoMoreKnown:
    """The expected gradient is not known well enough to tell more."""

    limitation: Limitation


@dataclass(frozen=True)
class Contradicted:
    """Differences over smaller steps contradict the expected gradient."""

    limitation: Limitation


@dataclass(frozen=True)
class AgreesInstead:
    """The gradient agrees with another one, which is right for what the layer computes in place of
    its solution.
    """

    expected: ExpectedGradient


@dataclass(frozen=True)
class SolutionOff:
    """The layer's solution is off, relative to its norm."""

    error: float


@dataclass(frozen=True)
class PerhapsSingle:
    """The gap is as small as rounding in float32, a difference quotient or a tolerance leaves."""


@dataclass(frozen=True)
class Tightened:
    """What a tighter solver changes: how far the layer's output moves, and the error then."""

    moved: float
    error: float


@dataclass(frozen=True)
class UnlessEarly:
    """The gradient is wrong unless a solver inside stops so early; what would tell."""

    error: float
    option: str
    has_equation: bool


@dataclass(frozen=True)
class MoreNames:
    """The Jacobian is too large to look for further mistakes."""

    n_entries: int


@dataclass(frozen=True)
class NotLinear:
    """The gradient is not linear in the one that comes in."""

    finding: Finding


@dataclass(frozen=True)
class OutputsDiffer:
    """Calls with the same inputs return different outputs."""


@dataclass(frozen=True)
class InPrecision:
    """The error of the gradient in another precision."""

    dtype: str
    error: float


Reason = (
    NoEntries
    | NotFinite
    | NothingExpected
    | NotSeen
    | Agrees
    | Off
    | NoMoreKnown
    | Contradicted
    | AgreesInstead
    | SolutionOff
    | PerhapsSingle
    | Tightened
    | UnlessEarly
    | MoreNames
    | NotLinear
    | OutputsDiffer
    | InPrecision
)


@dataclass(frozen=True)
class Ruling:
    """A verdict, its reasons, and the likeliest mistakes; the error where it is not that from an
    expected gradient: NaN where none is known, infinite for entries that are not finite.
    """

    verdict: str
    reasons: tuple[Reason, ...]
    mistakes: tuple[str, ...] = ()
    error: float | None = None


@dataclass(frozen=True)
class PartVerdict:
    """The verdict on the gradient in one input or parameter.

    Attributes
    ----------
    name, verdict : str
    error : float
        See `Audit`.
    reasons : tuple of Reason
    mistakes : tuple of str
        The likeliest mistakes, at most two.
    expected : ExpectedGradient or None
        What the gradient is compared with.
    """

    name: str
    verdict: str
    error: float
    reasons: tuple[Reason, ...]
    mistakes: tuple[str, ...] = ()
    expected: ExpectedGradient | None = None

    def rank(self) -> tuple[int, float]:
        """Return a key that sorts the worst verdict first, of equal ones the largest error."""
        return VERDICTS.index(self.verdict), -self.error
