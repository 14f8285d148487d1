"""Truths: the gradients that a layer's own ones are compared with, how far each may be off, and why
no more is known.
"""

from dataclasses import dataclass

import numpy as np

from .differences import BEYOND, EPS, MAX_COORDINATES, RESOLVED, Slope, directions, slopes
from .distances import EXACT, ROUNDED, distance, norm
from .equation import ImplicitGradients
from .layer import Array, AuditedPart, Layer

#: A backward solve to the usual tolerance loses it times the condition number, and at most this
#: share of a gradient.
MAX_SOLVER_LOSS = 0.05
#: Entries that are named one by one.
MAX_NAMED_ENTRIES = 5


# --- where a truth comes from


@dataclass(frozen=True)
class FromDifferences:
    """Finite differences of the layer.

    Attributes
    ----------
    known : float
        How far they may be off, relative to the size.
    symmetric : bool
        Whether a matrix was changed symmetrically alone.
    n_directions, n_left_out : int
        The directions in which the layer was changed, none if these were all coordinates, and how
        many of them tell nothing.
    """

    known: float
    symmetric: bool
    n_directions: int
    n_left_out: int


@dataclass(frozen=True)
class FromTheorem:
    """The implicit function theorem at the refined solution; known up to that share."""

    known: float


@dataclass(frozen=True)
class AtReturnedSolution:
    """The implicit function theorem at the solution that the layer returns."""


Source = FromDifferences | FromTheorem | AtReturnedSolution


# --- why no more is known


@dataclass(frozen=True)
class RoundingHides:
    """Rounding: how often the noise of the values is larger than that of the numbers, and whether
    the layer computes in float64.
    """

    condition: float
    precise: bool


@dataclass(frozen=True)
class NoSlopeSeen:
    """All slopes are below noise and jumps."""


@dataclass(frozen=True)
class KinkNearby:
    """The slopes on both sides differ."""


Obstacle = RoundingHides | NoSlopeSeen | KinkNearby


@dataclass(frozen=True)
class Unseen:
    """Too many derivatives tell nothing: the first of these entries, where they have names, whether
    there are more, and why.
    """

    entries: tuple[list[int], ...]
    has_more: bool
    obstacle: Obstacle


# --- the truth


@dataclass(frozen=True, eq=False)
class ExpectedGradient:
    """A gradient in one part that the layer's own is compared with.

    Attributes
    ----------
    values : ndarray
        The gradient, or its derivatives along directions.
    allowed : ndarray
        How far from it a right gradient may be, in each entry.
    size : float
        What errors are relative to.
    source : Source
        Where it comes from.
    uncertainty : float
        How far it is off at most itself, relative to the size.
    obstacle : Obstacle
        Why no more is known.
    rows : ndarray or None
        The directions.
    unseen : Unseen or None
        That not all that counts was seen.
    interval : float
        How much the error of the layer's solution changes.
    explained : float
        Error up to which a solver that stops early may be to blame.
    solution_moved : float or None
        How far the layer's solution is off, where an equation is given.
    """

    values: Array
    allowed: Array
    size: float
    source: Source
    uncertainty: float
    obstacle: Obstacle
    rows: Array | None = None
    unseen: Unseen | None = None
    interval: float = 0.0
    explained: float = 0.0
    solution_moved: float | None = None

    def compared_entries(self, gradient: Array) -> Array:
        """Return the numbers of a gradient that are compared: its entries, or its derivatives along
        the directions.
        """
        return gradient if self.rows is None else self.rows @ gradient

    def agrees(self, gradient: Array) -> bool:
        """Return whether a gradient is right if this is the truth."""
        deviations = np.abs(self.compared_entries(gradient) - self.values)
        return bool((deviations <= self.allowed).all())


def expected_by_differences(
    layer: Layer, part: AuditedPart, precision: float, rounding: float
) -> ExpectedGradient:
    """Differentiate the layer's loss in a part by finite differences.

    Only derivatives that are resolved are in the result. It has `unseen` where one coordinate, or
    more than half of the random directions, tells nothing.

    Parameters
    ----------
    layer : Layer
    part : AuditedPart
    precision : float
        Rounding of the layer's numbers, relative to them.
    rounding : float
        Share of a gradient that this precision may lose.
    """
    rows = directions(layer, part)
    lines, noise = slopes(layer, part, rows, precision)
    loss = abs(layer.value(layer.theta))
    values = np.array([line.value for line in lines])
    doubt = np.array([line.uncertainty for line in lines])
    # An input that hardly counts is known as well as the loss.
    counts = doubt < np.abs(values)
    size = max(norm(values[counts]), EXACT * loss)
    is_resolved = np.array([line.resolved for line in lines], bool)
    is_resolved &= doubt <= RESOLVED * size
    along_coordinates = part.tensor.numel() <= MAX_COORDINATES
    known = norm(doubt[is_resolved]) / (size or 1.0)
    condition = noise / (precision * (loss or 1.0))
    obstacle = obstacle_to(lines, is_resolved, counts, RoundingHides(condition, precision == EPS))
    n_left_out = int((~is_resolved).sum())
    n_allowed = 0 if along_coordinates else len(rows) / 2
    return ExpectedGradient(
        values=values[is_resolved],
        # What a backward pass loses, it loses of the largest entries.
        allowed=BEYOND * doubt[is_resolved] + rounding * norm(np.fmax(np.abs(values), doubt)),
        size=size,
        source=FromDifferences(
            known, part.symmetric, 0 if along_coordinates else len(rows), n_left_out
        ),
        uncertainty=known,
        obstacle=obstacle,
        rows=rows[is_resolved],
        unseen=unseen_entries(part, is_resolved, obstacle) if n_left_out > n_allowed else None,
        explained=np.inf if layer.has_loop else 0.0,
    )


def obstacle_to(
    lines: list[Slope], is_resolved: np.ndarray, counts: np.ndarray, rounding: RoundingHides
) -> Obstacle:
    """Return why no more is known than some slopes tell: a kink in what is not resolved before all
    else, then rounding, or that no slope was seen where none `counts`.
    """
    if any(line.kink for line, known in zip(lines, is_resolved, strict=True) if not known):
        return KinkNearby()
    return rounding if counts.any() else NoSlopeSeen()


def unseen_entries(part: AuditedPart, is_resolved: np.ndarray, obstacle: Obstacle) -> Unseen:
    """Return which entries of a part have derivatives that tell nothing, the first
    `MAX_NAMED_ENTRIES` by index, whether there are more, and the obstacle as it is given.

    No entry is named for a number, and where derivatives are along directions.
    """
    if not part.tensor.ndim or len(is_resolved) != part.tensor.numel():
        return Unseen((), False, obstacle)
    entries = np.argwhere(~is_resolved.reshape(part.tensor.shape)).tolist()
    return Unseen(tuple(entries[:MAX_NAMED_ENTRIES]), len(entries) > MAX_NAMED_ENTRIES, obstacle)


def expected_by_theorem(
    implicit: ImplicitGradients, part: AuditedPart, precise: bool, rounding: float
) -> ExpectedGradient:
    """Return the implicit gradient in a part as the truth.

    Parameters
    ----------
    implicit : ImplicitGradients
    part : AuditedPart
    precise : bool
        Whether the layer computes in float64.
    rounding : float
        Share of a gradient that its precision may lose.
    """
    expected, at_codes = implicit.exact[part.span], implicit.at_codes[part.span]
    # An input that hardly counts is known as well as all of the gradient.
    size = max(norm(expected), ROUNDED * norm(implicit.exact)) or 1.0
    moved, condition = implicit.moved, implicit.condition
    known = max(2 * BEYOND * EPS, norm(implicit.bound[part.span]) / size)
    interval = max(moved, distance(at_codes, expected, size))
    explained = BEYOND * max(interval, condition * moved)
    if implicit.layer_has_solved:
        explained = min(MAX_SOLVER_LOSS, RESOLVED * condition)
    return ExpectedGradient(
        values=expected,
        allowed=np.full(len(expected), (BEYOND * known + rounding) * size),
        size=size,
        source=FromTheorem(known),
        uncertainty=known,
        obstacle=RoundingHides(condition, precise),
        interval=interval,
        explained=explained,
        solution_moved=moved,
    )
